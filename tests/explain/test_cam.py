"""Maps: where they point, what they leave out, and what a film without evidence gives."""

from collections.abc import Callable

import pytest
import pytorch_grad_cam as library
import torch
from torch import Tensor, nn

from cxr.detect.candidates import Candidate
from cxr.explain.ablation import AblationCam
from cxr.explain.cam import BoxCam, Cam, EigenCam, LevelCam
from cxr.explain.drise import DRise
from cxr.explain.library import LibraryCam
from cxr.explain.reading import FilmReading
from cxr.explain.saliency import Saliency, SmoothGrad

Make = Callable[[list[list[float]]], nn.Module]
WHOLE = [0.0, 0.0, 128.0, 128.0]
BRIGHT, DARK = (slice(16, 48), slice(16, 48)), (slice(72, 104), slice(80, 112))  # rows, columns of the lesions
GRAD_CAM = LibraryCam(library.GradCAM)
CAMS = [
    GRAD_CAM,
    BoxCam(),
    EigenCam(),
    AblationCam(),
    AblationCam("zero"),
    Saliency(),
    SmoothGrad(samples=2),
    DRise(masks=64),
]


def inside(heat: Tensor, place: tuple[slice, slice]) -> bool:
    """Whether the maximum of a map lies in a lesion, give or take half a cell."""
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    rows, columns = place
    return rows.start - 4 <= row <= rows.stop + 4 and columns.start - 4 <= column <= columns.stop + 4


@pytest.fixture
def film(detector_of: Make, two_lesions: Tensor) -> FilmReading:
    """Both lesions in one region, so that nothing but the finding tells their maps apart."""
    return FilmReading(detector_of([WHOLE]), two_lesions)


def both(film: FilmReading) -> list[Candidate]:
    return [film.candidates.at(0, label) for label in (1, 2)]


def _name(cam: object) -> str:
    return type(cam).__name__  # a repr tells an address, and two processes would collect tests of other names


@pytest.mark.parametrize("cam", [GRAD_CAM, AblationCam(), AblationCam("zero"), BoxCam(), Saliency()], ids=_name)
def test_two_findings_of_one_region_get_maps_on_their_own_lesions(film: FilmReading, cam: Cam) -> None:
    bright, dark = cam(film, both(film))
    assert inside(bright, BRIGHT)
    assert inside(dark, DARK)
    assert not torch.equal(bright, dark)


def test_eigencam_cannot_tell_findings_apart_and_says_so(film: FilmReading) -> None:
    bright, dark = EigenCam()(film, both(film))
    assert torch.equal(bright, dark)
    assert not EigenCam().knows_the_finding


def test_smoothgrad_finds_the_lesion_of_each_box(detector_of: Make, two_lesions: Tensor) -> None:
    film = FilmReading(detector_of([[16.0, 16.0, 48.0, 48.0], [80.0, 72.0, 112.0, 104.0]]), two_lesions)
    bright, dark = SmoothGrad(samples=4, noise=0.05)(film, [film.candidates.at(0, 1), film.candidates.at(1, 2)])
    assert inside(bright, BRIGHT)
    assert inside(dark, DARK)


def test_drise_finds_what_a_cover_hides(detector_of: Make, two_lesions: Tensor) -> None:
    """A cover is air, and air is dark: it hides the bright lesion, and what it does to the dark one is no test."""
    film = FilmReading(detector_of([WHOLE]), two_lesions)
    (heat,) = DRise(masks=256, cells=8)(film, [film.candidates.at(0, 1)])
    assert inside(heat, BRIGHT)


@pytest.mark.parametrize("cam", CAMS, ids=_name)
def test_a_map_is_0_to_1_in_the_frame_of_the_film(detector_of: Make, cam: Cam) -> None:
    image = torch.rand(1, 100, 70, generator=torch.Generator().manual_seed(0))  # padded to 128 × 96
    film = FilmReading(detector_of([[0.0, 0.0, 70.0, 100.0], [10.0, 10.0, 40.0, 60.0]]), image)
    maps = cam(film, [film.candidates.at(0, 1), film.candidates.at(1, 2)])
    assert maps.shape == (2, 100, 70)
    assert maps.dtype == torch.float32
    assert maps.min() >= 0
    for heat in maps:
        assert heat.max() in (0, 1)


@pytest.mark.parametrize("cam", [c for c in CAMS if not isinstance(c, DRise)], ids=_name)
def test_a_film_without_anything_gives_zeros_and_no_nan(detector_of: Make, cam: Cam) -> None:
    """Both channels are zero on a grey film, and so is their slope. D-RISE's covers are dark: it sees those."""
    film = FilmReading(detector_of([WHOLE]), torch.full((1, 128, 128), 0.5))
    maps = cam(film, [film.candidates.strongest()])
    torch.testing.assert_close(maps, torch.zeros(1, 128, 128), atol=0, rtol=0)


@pytest.mark.parametrize("cam", [c for c in CAMS if isinstance(c, LevelCam)], ids=_name)
def test_a_level_map_shows_only_what_the_head_read(detector_of: Make, two_lesions: Tensor, cam: Cam) -> None:
    """A second bright lesion outside the region has the same channels, and never touched this box's score."""
    two_lesions[:, 88:120, 8:40] = 1.0
    film = FilmReading(detector_of([[16.0, 16.0, 48.0, 48.0]]), two_lesions)
    (heat,) = cam(film, [film.candidates.at(0, 1)])
    assert not heat[64:].any()


def test_the_box_map_of_the_bright_finding_is_what_is_bright(film: FilmReading) -> None:
    """One weight for the whole region: the map is the bright channel above its mean."""
    bright = film.level(film.candidates.at(0, 1))[0, 0]
    cells = BoxCam().cells(film, film.candidates.at(0, 1)).clamp(min=0)[1:-1, 1:-1]  # the border is read less
    expected = (bright - bright.mean()).clamp(min=0)[1:-1, 1:-1]
    torch.testing.assert_close(cells / cells.max(), expected / expected.max(), atol=0.02, rtol=0)
