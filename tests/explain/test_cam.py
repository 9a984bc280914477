"""Maps: where they point, what they leave out, and that they are grad-cam's where grad-cam is right."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from cxr.explain.ablation import AblationCam
from cxr.explain.cam import BoxCam, Cam, EigenCam, GradCam, GradCamPlusPlus, LevelCam
from cxr.explain.candidates import Candidate
from cxr.explain.drise import DRise
from cxr.explain.reading import FilmReading
from cxr.explain.saliency import Saliency, SmoothGrad

Make = Callable[[list[list[float]]], nn.Module]
WHOLE = [0.0, 0.0, 128.0, 128.0]
BRIGHT, DARK = (slice(16, 48), slice(16, 48)), (slice(72, 104), slice(80, 112))  # rows, columns of the lesions
CAMS = [
    GradCam(),
    GradCamPlusPlus(),
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


@pytest.mark.parametrize("cam", [GradCam(), AblationCam(), AblationCam("zero"), BoxCam(), Saliency()], ids=_name)
def test_two_findings_of_one_region_get_maps_on_their_own_lesions(film: FilmReading, cam: Cam) -> None:
    bright, dark = cam(film, both(film))
    assert inside(bright, BRIGHT)
    assert inside(dark, DARK)
    assert not torch.equal(bright, dark)


def test_eigencam_cannot_tell_findings_apart_and_says_so(film: FilmReading) -> None:
    bright, dark = EigenCam()(film, both(film))
    assert torch.equal(bright, dark)
    assert not EigenCam().knows_the_finding
    assert GradCam().knows_the_finding


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


@pytest.mark.parametrize("cam", CAMS, ids=_name)
def test_a_film_without_anything_gives_zeros_and_no_nan(detector_of: Make, cam: Cam) -> None:
    film = FilmReading(detector_of([WHOLE]), torch.full((1, 128, 128), 0.5))
    maps = cam(film, [film.candidates.strongest()])
    assert torch.isfinite(maps).all()
    if isinstance(cam, LevelCam):
        assert not maps.any()  # both channels are zero on a grey film


@pytest.mark.parametrize("cam", [c for c in CAMS if isinstance(c, LevelCam)], ids=_name)
def test_a_level_map_shows_only_what_the_head_read(detector_of: Make, two_lesions: Tensor, cam: Cam) -> None:
    """A second bright lesion outside the region has the same channels, and never touched this box's score."""
    two_lesions[:, 88:120, 8:40] = 1.0
    film = FilmReading(detector_of([[16.0, 16.0, 48.0, 48.0]]), two_lesions)
    (heat,) = cam(film, [film.candidates.at(0, 1)])
    assert not heat[64:].any()


def test_grad_cam_of_one_channel_is_that_channel(film: FilmReading) -> None:
    candidate = film.candidates.at(0, 1)
    level = film.level(candidate)[0]
    gradient = film.heads.gradient(level[None], candidate)
    assert gradient[0].sum() == pytest.approx(40, abs=1e-3)  # the log-odds rise by 40 times the channel's mean
    heat = GradCam().cells(film, candidate)
    assert heat.clamp(min=0) / heat.max() == pytest.approx(level[0] / level[0].max(), abs=1e-4)


class FromLevel(nn.Module):
    """The part of a detector from a level to the log-odds of all its classes at one box, as grad-cam wants it."""

    def __init__(self, film: FilmReading, candidate: Candidate) -> None:
        super().__init__()
        self.level = nn.Identity()
        self.detector = film.detector  # grad-cam asks the model's parameters for their device
        self.film, self.candidate = film, candidate

    def forward(self, level: Tensor) -> Tensor:
        return self.film.heads.log_odds(self.level(level), self.candidate)[:, None]


@pytest.mark.parametrize(
    ("ours", "theirs"), [(GradCam(), GradCAM), (GradCamPlusPlus(), GradCAMPlusPlus)], ids=["gradcam", "gradcampp"]
)
def test_cells_are_those_of_grad_cam(two_lesions: Tensor, detector_of: Make, ours: LevelCam, theirs: type) -> None:
    region = [4.0, 4.0, 116.0, 116.0]  # 14 cells for 14 points: every point on its cell, as when laid out evenly
    film = FilmReading(detector_of([region]), two_lesions + 0.1 * torch.rand(1, 128, 128))
    candidate = film.candidates.at(0, 1)
    model = FromLevel(film, candidate)
    cam = theirs(model, [model.level])
    level = film.level(candidate).clone().requires_grad_()
    expected = cam(level, [ClassifierOutputTarget(0)])[0]  # shifted to begin at 0, over its maximum
    cells = ours.cells(film, candidate).clamp(min=0).numpy()
    cells = cells - cells.min()
    np.testing.assert_allclose(cells / cells.max(), expected, atol=1e-3)


def test_the_box_map_of_the_bright_finding_is_what_is_bright(film: FilmReading) -> None:
    """One weight for the whole region: the map is the bright channel above its mean."""
    bright = film.level(film.candidates.at(0, 1))[0, 0]
    cells = BoxCam().cells(film, film.candidates.at(0, 1)).clamp(min=0)[1:-1, 1:-1]  # the border is read less
    expected = (bright - bright.mean()).clamp(min=0)[1:-1, 1:-1]
    torch.testing.assert_close(cells / cells.max(), expected / expected.max(), atol=0.02, rtol=0)
