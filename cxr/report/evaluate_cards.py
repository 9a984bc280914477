"""Pictures of the films a detector did worst on, with boxes and words for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.data.dataset import RadiographDataset
from cxr.detect.prediction import six_digits
from cxr.measure.evaluation import Evaluation
from cxr.measure.mistakes import Alarm, Miss
from cxr.measure.results import FilmResult
from cxr.report.figures import film_picture, marks_of
from cxr.report.page import Card, Chip, finding_chip
from cxr.report.words import words

_PICTURE = 480  # pixels across
_SHOWN_BESIDE = 3  # detections of the same finding drawn beside a missed box: all of them would hide it


@dataclass(frozen=True)
class Worst:
    """Films of one kind of mistake, under a heading and a sentence on what is shown."""

    heading: str
    lead: str
    cards: Sequence[Card]


def worst_films(evaluation: Evaluation, films: RadiographDataset, of: str, language: str) -> list[Worst]:
    """Return the least found boxes, the surest false alarms and the abnormal films that were put aside.

    ``films`` are those of the evaluation's results, in the same order; ``of`` ends a heading, to say whose mistakes
    they are where there are two checkpoints.
    """
    say = words(language)["evaluate"]
    aside = 0 if evaluation.screening is None else len(evaluation.screening.wrongly_cleared)
    draw = _Cards(evaluation, films, language)
    return [
        Worst(say["missed"] + of, say["missed_lead"], [draw.missed(miss) for miss in evaluation.misses]),
        Worst(say["alarms"] + of, say["alarms_lead"], [draw.alarm(alarm) for alarm in evaluation.alarms]),
        Worst(
            say["cleared"] + of,
            say["cleared_lead"].format(films=aside),
            [draw.cleared(film) for film in evaluation.cleared],
        ),
    ]


class _Cards:
    """Draws films of an evaluation with some of their boxes, in one language."""

    def __init__(self, evaluation: Evaluation, films: RadiographDataset, language: str) -> None:
        self.evaluation = evaluation
        self.films = films
        self.language = language
        self.say = words(language)["evaluate"]

    def missed(self, miss: Miss) -> Card:
        """A box that the detector did not find, and detections of the same finding."""
        result = self.evaluation.results[miss.film]
        label = int(result.truth_labels[miss.truth])
        same = np.flatnonzero(result.labels == label)
        near = same[np.argsort(-result.scores[same], kind="stable")][:_SHOWN_BESIDE]
        text = self.say["found_with"].format(score=f"{miss.score:.2f}") if miss.score else self.say["not_found"]
        return self._card(miss.film, np.array([miss.truth]), near, [self._chip(label, text)])

    def alarm(self, alarm: Alarm) -> Card:
        """A detection where nothing is marked, and every true box."""
        result = self.evaluation.results[alarm.film]
        text = self.say["false_alarm"].format(score=f"{alarm.score:.2f}") + self._disagreement(result, alarm.detection)
        chips = [self._chip(int(result.labels[alarm.detection]), text), *self._marked(result)]
        return self._card(alarm.film, np.arange(len(result.truth_labels)), np.array([alarm.detection]), chips)

    def cleared(self, film: int) -> Card:
        """An abnormal film that was put aside: every true box, and the strongest detections."""
        result, point = self.evaluation.results[film], self.evaluation.point
        strongest = np.argsort(-result.scores, kind="stable")[:_SHOWN_BESIDE]
        score = six_digits(result.abnormal, None if point is None else point.threshold)
        chips = [*self._marked(result), Chip(self.say["film_score"].format(score=f"{score:.6g}"))]
        return self._card(film, np.arange(len(result.truth_labels)), strongest, chips)

    def _disagreement(self, result: FilmResult, detection: int) -> str:
        """How far the members of an ensemble disagree about a box, in words; "" where one detector answers."""
        if result.disagreement is None:
            return ""
        share = f"{result.disagreement[detection]:.2f}"
        return " · " + str(words(self.language)["members_disagree"]).format(share=share)

    def _marked(self, result: FilmResult) -> list[Chip]:
        return [self._chip(label, self.say["marked"]) for label in sorted(set(result.truth_labels.tolist()))]

    def _chip(self, label: int, text: str) -> Chip:
        findings = self.evaluation.findings
        return finding_chip(findings, findings.name(label), text, self.language)

    def _card(self, film: int, truth: NDArray[np.int64], detections: NDArray[np.int64], chips: Sequence[Chip]) -> Card:
        """A film with some of its true boxes and detections, by index, and words for them."""
        result, findings = self.evaluation.results[film], self.evaluation.findings
        image, target = self.films[film]
        scale = target["scale"].numpy()
        marked = marks_of(findings, result.truth_boxes[truth], result.truth_labels[truth], scale)
        chosen = result.boxes[detections], result.labels[detections], scale, result.scores[detections]
        detected = marks_of(findings, *chosen)
        path = self.films.films[film].path
        picture = film_picture(image[0].numpy(), marked, detected, findings, _PICTURE, self.language, path)
        return Card(result.study, picture, chips, "" if len(result.truth_labels) else self.say["none_marked"])
