"""Which films teach a detector most when a doctor marks them: those of which it is least sure."""

from cxr.detect.prediction import Prediction, Threshold, least_score


def doubt(film: Prediction, threshold: Threshold) -> tuple[float, float]:
    """Return how little sure the detectors are of a film, each 0..1; compared as a pair, the larger one goes first.

    First comes how far the members of an ensemble disagree about a box of the film (0 for a single detector), which is
    query by committee (Seung, Opper and Sompolinsky 1992). A box below the threshold counts by its share of it: of the
    many weak boxes nearly each is of one member alone. Then how near a score lies to the threshold at which a box
    is shown: 1 at the threshold, 0 at the end of the scale that is further away (uncertainty sampling, Lewis and Gale
    1994). Scores are those of the boxes, and of the whole film for each finding.
    """
    scores = [*zip(film.findings, film.scores, strict=True), *film.finding_scores.items()]
    near = max((_nearness(score, least_score(threshold, finding)) for finding, score in scores), default=0.0)
    boxes = zip(film.disagreement, film.findings, film.scores, strict=False)  # no disagreement of a single detector
    apart = (apart * _share(score, least_score(threshold, finding)) for apart, finding, score in boxes)
    return max(apart, default=0.0), near


def _share(score: float, threshold: float) -> float:
    return 1.0 if score >= threshold else score / threshold


def _nearness(score: float, threshold: float) -> float:
    return 1 - abs(score - threshold) / max(threshold, 1 - threshold)
