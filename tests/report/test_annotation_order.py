"""Films of which the detectors are least sure come first."""

from cxr.detect.prediction import Prediction
from cxr.report.annotation_order import doubt


def film(scores: tuple[float, ...], disagreement: tuple[float, ...] = ()) -> Prediction:
    boxes = tuple((0.0, 0.0, 1.0, 1.0) for _ in scores)
    return Prediction(1, "s", "p", 10, 10, boxes, ("a",) * len(scores), scores, {"a": 0.0}, 0.1, "", disagreement)


def test_a_score_at_the_threshold_is_the_greatest_doubt_and_the_far_end_of_the_scale_the_least() -> None:
    assert doubt(film((0.3,)), 0.3) == (0, 1)
    assert doubt(film((1.0,)), 0.3)[1] == 1 - 0.3 / 0.7  # the score of the whole film, 0, is nearer than the box's 1
    assert doubt(film((0.5,)), 0.3)[1] == 1 - (0.5 - 0.3) / 0.7
    assert doubt(film((0.9, 0.35)), {"a": 0.4})[1] == 1 - (0.4 - 0.35) / 0.6


def test_the_disagreement_of_members_counts_before_scores() -> None:
    sure, unsure = film((0.3,), (0.0,)), film((0.99, 0.98), (0.1, 0.5))
    assert sorted([sure, unsure], key=lambda one: doubt(one, 0.3)) == [sure, unsure]
    assert doubt(unsure, 0.3)[0] == 0.5
    assert doubt(film((0.03, 0.4), (0.5, 0.01)), 0.3)[0] == 0.5 * (0.03 / 0.3)  # one member alone saw the weak box
