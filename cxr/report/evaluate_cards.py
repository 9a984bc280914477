"""Pictures of the films a detector did worst on, with boxes and words for them."""

import io
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from cxr.data.dataset import RadiographDataset
from cxr.detect.prediction import six_digits
from cxr.findings import FindingVocabulary
from cxr.measure.evaluation import Evaluation
from cxr.measure.mistakes import Alarm, Miss
from cxr.measure.results import FilmResult
from cxr.palette import colour
from cxr.report.explain_cards import data_uri
from cxr.report.figures import Marks, film_picture

_PICTURE = 480  # pixels across
_SHOWN_BESIDE = 3  # detections of the same finding drawn beside a missed box: all of them would hide it


def worst_films(evaluation: Evaluation, films: RadiographDataset, of: str) -> str:
    """Return sections of the least found boxes, the surest false alarms and the abnormal films that were put aside.

    Args:
        evaluation: of one checkpoint.
        films: of its results, in the same order.
        of: ends a heading, to say whose mistakes they are where there are two checkpoints.
    """
    aside = 0 if evaluation.screening is None else len(evaluation.screening.wrongly_cleared)
    sections = (
        (
            f"Least found boxes{of}",
            "Marked boxes (solid) that the detector did not find, or was least sure of; dashed what it named the same.",
            [_missed(evaluation, films, miss) for miss in evaluation.misses],
        ),
        (
            f"Surest false alarms{of}",
            "Detections (dashed) with the highest scores that no marked box (solid) answers to.",
            [_alarm(evaluation, films, alarm) for alarm in evaluation.alarms],
        ),
        (
            f"Abnormal films that screening put aside{of}",
            f"{aside} films below the operating point bear marks (solid); the least suspected are shown.",
            [_cleared(evaluation, films, i) for i in evaluation.cleared],
        ),
    )
    return "".join(
        f"<section><h2>{heading}</h2><p>{lead}</p>"
        + (f"<div class=films>{''.join(cards)}</div>" if cards else "<p>None.</p>")
        + "</section>"
        for heading, lead, cards in sections
    )


def _missed(evaluation: Evaluation, films: RadiographDataset, miss: Miss) -> str:
    result = evaluation.results[miss.film]
    label = int(result.truth_labels[miss.truth])
    same = np.flatnonzero(result.labels == label)
    near = same[np.argsort(-result.scores[same], kind="stable")][:_SHOWN_BESIDE]
    words = f"found with score {miss.score:.2f}" if miss.score else "not found at any score"
    chips = [_chip(evaluation.findings, label, words)]
    return _card(evaluation, films, miss.film, np.array([miss.truth]), near, chips)


def _alarm(evaluation: Evaluation, films: RadiographDataset, alarm: Alarm) -> str:
    result = evaluation.results[alarm.film]
    chips = [_chip(evaluation.findings, int(result.labels[alarm.detection]), f"false alarm, score {alarm.score:.2f}")]
    chips += [_chip(evaluation.findings, label, "marked") for label in sorted(set(result.truth_labels.tolist()))]
    every = np.arange(len(result.truth_labels))
    return _card(evaluation, films, alarm.film, every, np.array([alarm.detection]), chips)


def _cleared(evaluation: Evaluation, films: RadiographDataset, film: int) -> str:
    result = evaluation.results[film]
    strongest = np.argsort(-result.scores, kind="stable")[:_SHOWN_BESIDE]
    chips = [_chip(evaluation.findings, label, "marked") for label in sorted(set(result.truth_labels.tolist()))]
    threshold = None if evaluation.point is None else evaluation.point.threshold
    chips.append(f"<span class=quiet>score of the film {six_digits(result.abnormal, threshold):.6g}</span>")
    return _card(evaluation, films, film, np.arange(len(result.truth_labels)), strongest, chips)


def _card(
    evaluation: Evaluation,
    films: RadiographDataset,
    film: int,
    truth: NDArray[np.int64],
    detections: NDArray[np.int64],
    chips: Sequence[str],
) -> str:
    """A film with some of its true boxes and detections, by index, and words for them."""
    result = evaluation.results[film]
    image, target = films[film]
    picture = film_picture(
        image[0].numpy(), *_marks(result, truth, detections, target["scale"].numpy(), evaluation.findings),
        evaluation.findings, _PICTURE,
    )  # fmt: skip
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    normal = "" if len(result.truth_labels) else " · none of these findings marked"
    return (
        f"<figure class=film><img alt='film {escape(result.study)}' width={picture.width} height={picture.height}"
        f" src='{data_uri(out.getvalue(), 'image/jpeg')}'><figcaption><h3>{escape(result.study)}{normal}</h3>"
        f"<div>{' '.join(chips)}</div></figcaption></figure>"
    )


def _marks(
    result: FilmResult,
    truth: NDArray[np.int64],
    detections: NDArray[np.int64],
    scale: NDArray[np.float32],
    findings: FindingVocabulary,
) -> tuple[Marks, Marks]:
    """The chosen boxes in the pixels of the network's image."""
    factor = np.tile(scale, 2)
    true_names = [findings.name(int(label)) for label in result.truth_labels[truth]]
    names = [findings.name(int(label)) for label in result.labels[detections]]
    return (
        Marks(result.truth_boxes[truth] * factor, true_names),
        Marks(result.boxes[detections] * factor, names, result.scores[detections]),
    )


def _chip(findings: FindingVocabulary, label: int, words: str) -> str:
    name = findings.name(label)
    return (
        f"<span class='chip plain' style='--colour:{colour(findings, name)}'><i></i>"
        f"{escape(findings.label(name))} · {words}</span>"
    )
