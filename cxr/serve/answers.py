"""What the service says of one film, in plain Python: the answer to a program, and what the page shows."""

from typing import Any

from cxr.detect.prediction import NotAssessed, Prediction, printed_threshold, six_digits
from cxr.report.algorithm import Algorithm
from cxr.report.journal import from_plain
from cxr.report.promise_words import promise_sentences
from cxr.serve.counters import Answer
from cxr.serve.queue import QueuedFilm


def prediction_of(film: QueuedFilm) -> Prediction | NotAssessed | None:
    """Return what the detector said of a film, or why it says nothing; None where it has not read it yet."""
    if film.answer is None:
        return None
    done = from_plain(film.answer)
    return done.prediction or done.not_assessed


def lack_of(film: QueuedFilm) -> str:
    """Return which of a film's objects could not be made, and why; "" where all were."""
    return "" if film.answer is None else from_plain(film.answer).note


def called_abnormal(prediction: Prediction, algorithm: Algorithm) -> bool | None:
    """Return whether screening calls a film abnormal; None without an operating point."""
    point = algorithm.operating_point
    return None if point is None else prediction.abnormal >= point.threshold


def kind_of(said: Prediction | NotAssessed, algorithm: Algorithm) -> Answer:
    """Return what is counted of an answer."""
    if isinstance(said, NotAssessed):
        return Answer.NOT_ASSESSED
    abnormal = called_abnormal(said, algorithm)
    return Answer.NO_POINT if abnormal is None else Answer.ABNORMAL if abnormal else Answer.BELOW


def film_answer(film: QueuedFilm, algorithm: Algorithm) -> dict[str, Any]:
    """Return the answer on a film, ready for JSON. Boxes are xyxy in pixels of the original film.

    ``assessed`` is absent as long as the detector has not read the film. ``note`` says why it waits or has failed, or
    what it lacks.
    """
    answer: dict[str, Any] = {
        "number": film.number,
        "study": film.study,
        "patient": film.patient,
        "state": film.state.value,
    }
    if note := film.reason or lack_of(film):
        answer["note"] = note
    said = prediction_of(film)
    if isinstance(said, NotAssessed):
        return answer | {"assessed": False, "reason": {"cause": said.reason.cause, "text": said.reason.text}}
    return answer if said is None else answer | {"assessed": True} | _assessed(said, algorithm)


def _assessed(said: Prediction, algorithm: Algorithm) -> dict[str, Any]:
    point = algorithm.operating_point
    detections = [
        {"finding": said.findings[n], "score": said.scores[n], "box": list(said.boxes[n])}
        for n in said.shown(algorithm.threshold)
    ]
    threshold = None if point is None else point.threshold
    screening = None if point is None else {
        "abnormal": called_abnormal(said, algorithm),
        "threshold": printed_threshold(point.threshold),
        "wanted_sensitivity": point.wanted_sensitivity,
    }  # fmt: skip
    return {
        "width": said.width,
        "height": said.height,
        "detections": detections,
        "finding_scores": {name: six_digits(score) for name, score in said.finding_scores.items()},
        "abnormal": six_digits(said.abnormal, threshold),
        "screening": screening,
        "model": {"digest": algorithm.digest, "version": algorithm.version, "detections_from": algorithm.threshold},
        **({} if algorithm.promises is None else {"promises": promise_sentences(algorithm.promises)}),
    }
