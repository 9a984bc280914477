"""grad-cam's methods on a box's own level: each is its paper's formula there, whatever the detector is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import pytorch_grad_cam as library
import torch
import yaml
from torch import Tensor, nn

from cxr.config.models import build
from cxr.explain.cam import Cam, EigenCam
from cxr.explain.library import LibraryCam
from cxr.explain.reading import FilmReading

Make = Callable[[list[list[float]]], nn.Module]
CONF = Path(__file__).parents[2] / "conf/cam"
OF_THE_LIBRARY = ["gradcam", "gradcampp", "xgradcam", "hirescam", "layercam", "scorecam", "eigengradcam", "kpcacam"]
WHOLE = [0.0, 0.0, 128.0, 128.0]


def configured(name: str, **changed: Any) -> LibraryCam:
    """The method of a YAML in conf/cam."""
    cam = hydra.utils.instantiate(yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))[name], **changed)
    assert isinstance(cam, LibraryCam)
    return cam


@pytest.fixture(params=["fasterrcnn_tiny", "retinanet", "fcos", "ssdlite"])
def film(request: pytest.FixtureRequest) -> FilmReading:
    """A film as detectors of several kinds read it, before they have learnt anything."""
    torch.manual_seed(0)
    detector = build(request.param, 4, score_thresh=0.0, detections_per_img=20)
    return FilmReading(detector, torch.rand(1, 96, 70))


def grad_cam(level: Tensor, gradient: Tensor) -> Tensor:
    """Selvaraju 2017, equations 1 and 2."""
    return torch.einsum("c,chw->hw", gradient.mean((1, 2)), level)


def grad_cam_plus_plus(level: Tensor, gradient: Tensor) -> Tensor:
    """Chattopadhay 2018, equation 19."""
    total = level.sum((1, 2), keepdim=True)
    alpha = gradient**2 / (2 * gradient**2 + total * gradient**3 + 1e-6)
    return torch.einsum("c,chw->hw", (alpha * gradient.relu()).sum((1, 2)), level)


def x_grad_cam(level: Tensor, gradient: Tensor) -> Tensor:
    """Fu 2020, equation 8."""
    weights = (gradient * level).sum((1, 2)) / (level.sum((1, 2)) + 1e-7)
    return torch.einsum("c,chw->hw", weights, level)


def hi_res_cam(level: Tensor, gradient: Tensor) -> Tensor:
    """Draelos 2020, equation 2."""
    return (gradient * level).sum(0)


def layer_cam(level: Tensor, gradient: Tensor) -> Tensor:
    """Jiang 2021, equation 6."""
    return (gradient.relu() * level).sum(0)


FORMULAS = {
    "gradcam": grad_cam,
    "gradcampp": grad_cam_plus_plus,
    "xgradcam": x_grad_cam,
    "hirescam": hi_res_cam,
    "layercam": layer_cam,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_map_of_gradients_is_its_papers_formula(film: FilmReading, name: str) -> None:
    candidate = film.candidates.strongest()
    level = film.level(candidate)
    expected = FORMULAS[name](level[0], film.heads.gradient(level, candidate))
    cells = configured(name).cells(film, candidate)
    assert expected.std() > 0
    torch.testing.assert_close(cells / expected.abs().max(), expected / expected.abs().max(), atol=1e-5, rtol=0)


def test_score_cam_weighs_channels_by_the_score_seen_through_them(film: FilmReading) -> None:
    """Wang 2020, with the level in the place of the film."""
    candidate = film.candidates.strongest()
    level = film.level(candidate)[0]
    low, high = level.amin((1, 2), keepdim=True), level.amax((1, 2), keepdim=True)
    seen = level * ((level - low) / (high - low + 1e-8))[:, None]  # [channel of the mask, C, h, w]
    with torch.no_grad():
        odds = torch.stack([film.heads.log_odds(one[None], candidate)[0] for one in seen])
    expected = torch.einsum("c,chw->hw", odds.softmax(0), level)
    torch.testing.assert_close(configured("scorecam").cells(film, candidate), expected, atol=1e-5, rtol=1e-4)


def test_a_component_is_turned_so_that_its_largest_value_is_positive(film: FilmReading) -> None:
    candidate = film.candidates.strongest()
    level = film.level(candidate)
    product = (film.heads.gradient(level, candidate) * level[0]).flatten(1)
    _, sizes, right = torch.linalg.svd(product - product.mean(1, keepdim=True))
    cells = configured("eigengradcam", grounded=False).cells(film, candidate).flatten()
    assert cells.max() >= -cells.min()
    assert (cells / sizes[0]).abs() == pytest.approx(right[0].abs(), abs=1e-3)
    reach = film.heads.reach(level, candidate)
    read = configured("kpcacam").cells(film, candidate) * reach
    assert read.max() >= -read.min()


def test_grad_cam_of_one_channel_is_that_channel(detector_of: Make, two_lesions: Tensor) -> None:
    film = FilmReading(detector_of([WHOLE]), two_lesions)
    candidate = film.candidates.at(0, 1)
    level = film.level(candidate)[0]
    gradient = film.heads.gradient(level[None], candidate)
    assert gradient[0].sum() == pytest.approx(40, abs=1e-3)  # the log-odds rise by 40 times the channel's mean
    heat = configured("gradcam").cells(film, candidate)
    assert heat.clamp(min=0) / heat.max() == pytest.approx(level[0] / level[0].max(), abs=1e-4)


def test_a_map_that_is_positive_everywhere_keeps_its_lowest_cell(detector_of: Make) -> None:
    """The library's own call takes the lowest cell to 0: it would say that half of this evidence is none."""
    film = FilmReading(detector_of([WHOLE]), torch.full((1, 128, 128), 0.75))
    film.pyramid["0"][0, 0, :8] *= 2
    heat = configured("gradcam").cells(film, film.candidates.at(0, 1))
    assert heat.min() / heat.max() == pytest.approx(0.5)


@pytest.mark.parametrize("name", OF_THE_LIBRARY)
def test_only_cells_that_the_head_read_are_shown_unless_the_papers_formula_is_asked_for(
    detector_of: Make, two_lesions: Tensor, name: str
) -> None:
    """A second bright lesion outside the region has the same channels, and never touched this box's score."""
    two_lesions[:, 88:120, 8:40] = 1.0
    film = FilmReading(detector_of([[16.0, 16.0, 48.0, 48.0]]), two_lesions)
    bright = film.candidates.at(0, 1)
    assert not configured(name)(film, [bright])[0, 64:].any()
    if name in ("gradcam", "xgradcam", "scorecam"):  # one weight a channel for the whole film
        assert configured(name, grounded=False)(film, [bright])[0, 64:].any()


@pytest.mark.parametrize("name", OF_THE_LIBRARY)
def test_maps_are_0_to_1_on_the_film_and_zero_where_there_is_nothing(detector_of: Make, name: str) -> None:
    noise = torch.rand(1, 100, 70, generator=torch.Generator().manual_seed(0))  # padded to 128 × 96
    boxes = [[0.0, 0.0, 70.0, 100.0], [10.0, 10.0, 40.0, 60.0]]
    film = FilmReading(detector_of(boxes), noise)
    maps = configured(name)(film, [film.candidates.at(0, 1), film.candidates.at(1, 2)])
    assert maps.shape == (2, 100, 70)
    assert maps.dtype == torch.float32
    assert maps.min() >= 0
    assert all(heat.max() in (0, 1) for heat in maps)
    grey = FilmReading(detector_of([WHOLE]), torch.full((1, 128, 128), 0.5))  # both channels are zero
    if name != "kpcacam":  # scikit-learn gives the rounding of a kernel that is zero, and a padded film has none
        assert not configured(name)(grey, [grey.candidates.strongest()]).any()


# Of a component only the sign would tell these two classes apart, and it has none: eigengradcam is left out.
@pytest.mark.parametrize("name", [name for name in OF_THE_LIBRARY if name != "eigengradcam"])
def test_a_yaml_says_whether_its_method_knows_the_finding(detector_of: Make, two_lesions: Tensor, name: str) -> None:
    two_lesions[:, 16:48, 48:96] = 1.0  # more is bright than dark, so that a component has one sign for both
    film = FilmReading(detector_of([WHOLE]), two_lesions)
    cam = configured(name)
    bright, dark = cam(film, [film.candidates.at(0, label) for label in (1, 2)])
    assert cam.knows_the_finding == bool((bright - dark).abs().max() > 1e-4)


def test_no_method_runs_the_detector_again_or_leaves_anything_in_it(film: FilmReading) -> None:
    runs: list[object] = []
    hook = film.detector.backbone.register_forward_hook(lambda *call: runs.append(call))
    hooks = [len(module._forward_hooks) for module in film.detector.modules()]
    for name in OF_THE_LIBRARY:
        configured(name).cells(film, film.candidates.strongest())
    assert not runs
    assert [len(module._forward_hooks) for module in film.detector.modules()] == hooks
    assert all(parameter.grad is None for parameter in film.detector.parameters())
    hook.remove()


def test_a_bare_class_of_the_library_will_do_and_anything_else_is_refused(film: FilmReading) -> None:
    candidate = film.candidates.strongest()
    assert LibraryCam(library.HiResCAM).cells(film, candidate).shape == film.level(candidate).shape[2:]
    with pytest.raises(ValueError, match=r"method is .*FinerCAM.*, expected a subclass of pytorch_grad_cam"):
        LibraryCam(library.FinerCAM)
    with pytest.raises(ValueError, match="method is 'gradcam', expected"):
        LibraryCam("gradcam")  # type: ignore[arg-type]


def test_eigencam_over_the_whole_level_is_what_ours_is_not(detector_of: Make, two_lesions: Tensor) -> None:
    """The largest contrast of the level is outside the box: the library's EigenCAM is made of it."""
    film = FilmReading(detector_of([[64.0, 56.0, 128.0, 120.0]]), two_lesions)
    two = [film.candidates.at(0, 2)]
    theirs: Cam = LibraryCam(library.EigenCAM, grounded=False, knows_the_finding=False, signed=False)
    (ours,), (whole,) = EigenCam()(film, two), theirs(film, two)
    assert not ours[:48].any()
    assert whole[:48].any()
