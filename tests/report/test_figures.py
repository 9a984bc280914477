"""Pictures show a reader's boxes solid and detections dashed, in the finding's colour, where they are."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageColor

from cxr.findings import Finding, FindingVocabulary
from cxr.palette import GROUND, colour
from cxr.report.figures import Marks, epoch_curves, film_picture

FINDINGS = FindingVocabulary([Finding("nodule", "結節"), Finding("effusion", "積液")])
NOTHING = Marks(np.zeros((0, 4), np.float32), [])


def pixels(truth: Marks, seen: Marks, shape: tuple[int, int] = (100, 100), width: int = 200) -> np.ndarray:
    return np.asarray(film_picture(np.zeros(shape, np.float32), truth, seen, FINDINGS, width))


def ink(name: str) -> tuple[int, ...]:
    return ImageColor.getrgb(colour(FINDINGS, name))


def test_a_film_without_boxes_is_the_film_and_keeps_its_shape() -> None:
    film = np.linspace(0, 1, 50 * 100, dtype=np.float32).reshape(50, 100)
    picture = np.asarray(film_picture(film, NOTHING, NOTHING, FINDINGS, width=200))
    assert picture.shape == (100, 200, 3)
    assert picture[0, 0, 0] == 0
    assert picture[-1, -1, 0] == 255


def test_a_true_box_is_a_closed_line_at_twice_its_place_in_a_picture_twice_as_wide() -> None:
    truth = Marks(np.array([[10, 20, 40, 60]], np.float32), ["effusion"])
    picture = pixels(truth, NOTHING)
    assert (picture[40, 20:81] == ink("effusion")).all()  # upper edge
    assert (picture[40:121, 80] == ink("effusion")).all()  # right edge
    assert (picture[80, 50] == 0).all()  # inside


def test_a_detection_is_dashed() -> None:
    seen = Marks(np.array([[10, 40, 90, 90]], np.float32), ["nodule"], np.array([0.9], np.float32))
    lower_edge = (pixels(NOTHING, seen)[180, 20:181] == ink("nodule")).all(axis=1)
    assert 0.4 < lower_edge.mean() < 0.7
    assert lower_edge[:8].all()
    assert not lower_edge[10:15].any()


def test_a_box_on_the_border_is_drawn_inside() -> None:
    truth = Marks(np.array([[-5, 0, 105, 100]], np.float32), ["nodule"])
    picture = pixels(truth, NOTHING)
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == ink("nodule")).all()


def test_captions_of_boxes_in_one_corner_do_not_cover_each_other() -> None:
    boxes = np.array([[10, 10, 90, 90]] * 2, np.float32)
    one = pixels(NOTHING, Marks(boxes[:1], ["nodule"], np.array([0.9], np.float32)))
    two = pixels(NOTHING, Marks(boxes, ["nodule", "effusion"], np.array([0.9, 0.8], np.float32)))
    caption = (slice(20, 34), slice(24, 80))
    assert (two[caption] == one[caption]).all()


def test_the_dotted_line_stands_at_the_epoch_that_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first with the highest monitored figure, whatever else is drawn."""
    drawn: list[Figure] = []
    monkeypatch.setattr("cxr.report.figures.png", lambda figure, dpi: drawn.append(figure) or b"")
    scores = [(0.9, 0.5), (0.8, 0.7), (1.0, 0.6), (1.0, 0.7)]
    rows = [{"epoch": float(n), "val/map_50": ap50, "val/map": ap} for n, (ap50, ap) in enumerate(scores)]
    for monitor, epoch in (("val/map", 2), ("val/map_50", 3)):
        epoch_curves(rows, monitor)
        line = drawn[-1].axes[1].lines[-1]
        assert (line.get_label(), list(line.get_xdata())) == (f"kept: epoch {epoch}", [epoch, epoch])


@pytest.mark.parametrize(
    ("rows", "inked"),
    [([], []), ([{"epoch": 0.0, "train/loss": 1.0}], ["left"]), ([{"epoch": 0.0, "val/map_50": 0.5}], ["right"])],
)
def test_curves_of_a_run_cut_short_are_a_picture_too(rows: list[dict[str, float]], inked: list[str]) -> None:
    """The losses are drawn on the left and the scores on the right, the first of each in the style's first colour."""
    with Image.open(io.BytesIO(epoch_curves(rows, "val/map_50"))) as picture:
        assert picture.size == (990, 330)  # 9 × 3 inches, 110 pixels an inch
        drawn = np.asarray(picture.convert("RGB"))
    first = (drawn == ImageColor.getrgb("#8dd3c7")).all(2)
    assert (drawn[0, 0] == ImageColor.getrgb(GROUND)).all()
    assert [side for side, half in (("left", first[:, :495]), ("right", first[:, 495:])) if half.any()] == inked
