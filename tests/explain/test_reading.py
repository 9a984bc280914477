"""What a box was read from: held against each detector's own detections."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cxr.config.models import build
from cxr.detect.foreign import Foreign
from cxr.explain.cam import BoxCam
from cxr.explain.drise import DRise
from cxr.explain.reading import FilmReading, detector_score

Make = Callable[[list[list[float]]], nn.Module]

BUILDERS: dict[str, dict[str, Any]] = {
    "fasterrcnn": {"anchors__image_size": 96},
    "fasterrcnn_v2": {"anchors__image_size": 96},
    "fasterrcnn_mobilenet": {"anchors__image_size": 96},
    "fasterrcnn_tiny": {"anchors__image_size": 96},
    "retinanet": {"anchors__image_size": 96},
    "fcos": {},
    "ssdlite": {},
    "yolov8": {},
    "rtdetr": {"queries": 20},
}
EXTRAS = {"yolov8": "ultralytics", "rtdetr": "transformers"}


@pytest.fixture(params=BUILDERS)
def reading(request: pytest.FixtureRequest) -> FilmReading:
    """A film of 96 × 70 as each detector of conf/model reads it, before it has learnt anything."""
    torch.manual_seed(0)
    pytest.importorskip(EXTRAS.get(request.param, "torchvision"))
    detector = build(request.param, 4, score_thresh=0.0, detections_per_img=20, **BUILDERS[request.param])
    return FilmReading(detector, torch.rand(1, 96, 70))


def test_the_score_of_every_detection_follows_from_its_level_alone(reading: FilmReading) -> None:
    detections = reading.detections
    named = detections["labels"] > 0  # RetinaNet and FCOS have a class 0 they never learn
    assert named.sum() > 5
    for box, label, score in zip(*(detections[k][named] for k in ("boxes", "labels", "scores")), strict=True):
        candidate = reading.candidates.behind(box, int(label), float(score))
        odds = reading.heads.log_odds(reading.level(candidate), candidate)
        assert odds.sigmoid().item() == pytest.approx(score.item(), abs=1e-4)
        assert candidate.box.tolist() == pytest.approx(box.tolist(), abs=0.01)


def test_a_cell_out_of_reach_does_not_change_the_score(reading: FilmReading) -> None:
    candidate = reading.candidates.strongest()
    level = reading.level(candidate)
    reach = reading.heads.reach(level, candidate)
    assert reach.shape == level.shape[2:]
    assert reach.min() >= 0
    assert reach.max() == 1
    changed = torch.where(reach > 0, level, level + 3)
    before, after = (reading.heads.log_odds(some, candidate).item() for some in (level, changed))
    assert after == pytest.approx(before, abs=1e-4)


def test_the_gradient_reaches_the_pixels(reading: FilmReading) -> None:
    candidate = reading.candidates.strongest()
    pixels = reading.batch.clone().requires_grad_()
    odds = reading.log_odds_of(candidate, pixels)
    (gradient,) = torch.autograd.grad(odds.sum(), pixels)
    assert odds.sigmoid().item() == pytest.approx(candidate.score, abs=1e-4)
    assert gradient.abs().sum() > 0


def test_a_cell_stands_over_the_pixel_its_receptive_field_is_centred_on(detector_of: Make) -> None:
    film = FilmReading(detector_of([[0.0, 0.0, 64.0, 64.0]]), torch.rand(1, 100, 70))  # padded to 128 × 96
    cells = torch.zeros(16, 12)
    cells[3, 5] = 1
    heat = film.on_film(cells)
    assert heat.shape == (100, 70)
    assert divmod(int(heat.argmax()), 70) == (24, 40)  # stride 8
    assert heat[24, 36] == pytest.approx(0.5)  # half way to the next cell


def test_the_strongest_detection_of_each_finding_is_chosen(detector_of: Make, two_lesions: Tensor) -> None:
    bright, dark, both = [16.0, 16.0, 48.0, 48.0], [80.0, 72.0, 112.0, 104.0], [0.0, 0.0, 127.0, 127.0]
    film = FilmReading(detector_of([both, dark, bright]), two_lesions)
    chosen = film.chosen(0.5)
    assert [(c.label, c.place.tolist()) for c in sorted(chosen, key=lambda c: c.label)] == [(1, bright), (2, dark)]
    assert len(film.chosen(0.5, most=1)) == 1


def test_without_a_detection_the_strongest_candidate_is_chosen(detector_of: Make) -> None:
    grey = torch.full((1, 64, 64), 0.5)
    grey[:, 8:16, 8:16] = 0.6  # one cell: mean 0.1 in the first region
    film = FilmReading(detector_of([[8.0, 8.0, 16.0, 16.0], [32.0, 32.0, 60.0, 60.0]]), grey)
    (only,) = film.chosen(threshold=0.999)
    assert only.label == 1
    assert only.score < 0.999
    assert only.place.tolist() == [8, 8, 16, 16]


def test_a_box_of_another_film_has_no_candidate(detector_of: Make, two_lesions: Tensor) -> None:
    film = FilmReading(detector_of([[16.0, 16.0, 48.0, 48.0]]), two_lesions)
    with pytest.raises(ValueError, match="no candidate of class 1 has the box"):
        film.candidates.behind(torch.tensor([0.0, 0.0, 9.0, 9.0]), 1, 0.5)


class FromOutside(nn.Module):
    """A detector of a kind that nobody here has opened."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        detections: list[dict[str, Tensor]] = self.inner(images)
        return detections


def test_a_detector_of_unknown_heads_is_explained_from_outside(detector_of: Make, two_lesions: Tensor) -> None:
    film = FilmReading(Foreign(FromOutside(detector_of([[16.0, 16.0, 48.0, 48.0]])), 3), two_lesions)
    (bright,) = film.chosen(0.5)
    assert (bright.label, bright.box.tolist()) == (1, [16, 16, 48, 48])
    row, column = divmod(int(DRise(masks=128, cells=8)(film, [bright])[0].argmax()), 128)
    assert 12 <= row <= 52
    assert 12 <= column <= 52
    with pytest.raises(TypeError, match=r"does not say what stands behind its pyramid.*cam=drise"):
        BoxCam()(film, [bright])


def test_a_film_without_any_candidate_has_nothing_to_explain() -> None:
    class Blind(nn.Module):
        def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
            nothing = {
                "boxes": torch.zeros(0, 4),
                "labels": torch.zeros(0, dtype=torch.int64),
                "scores": torch.zeros(0),
            }
            return [nothing] * len(images)

    assert FilmReading(Foreign(Blind(), 3), torch.rand(1, 32, 32)).chosen(0.5) == []


def test_the_detectors_own_score_at_a_box(detector_of: Make, two_lesions: Tensor) -> None:
    bright = [16.0, 16.0, 48.0, 48.0]
    detector = detector_of([bright])
    score = detector_score(detector, torch.tensor([16.0, 16.0, 48.0, 32.0]), 1)
    whole, nothing = score(torch.stack([two_lesions, torch.full_like(two_lesions, 0.5)])).tolist()
    at_the_box = FilmReading(detector, two_lesions).chosen(0.5)[0].score
    assert whole == pytest.approx(0.5 * at_the_box, rel=1e-5)  # half of the box: IoU 0.5
    assert nothing == pytest.approx(0.5 / 3, rel=1e-5)  # a softmax over three equal classes
