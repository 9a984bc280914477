"""Detections as tables: COCO's results, csv files in original pixels, and the course's submission.

Each file is written film by film from an iterator, so that memory does not grow with their number, and put in place
whole. Scores have six digits.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from cxr.detect.prediction import NotAssessed, Prediction, six_digits
from cxr.files import whole_file
from cxr.findings import FindingVocabulary
from cxr.measure.promises import KeptPromises
from cxr.report.journal import Done
from cxr.report.promise_words import sentence_of

PROMISES = "promises.csv"
SUBMISSION_COLUMNS = ("ID", "category", "score", "xmin", "xmax", "ymin", "ymax")

Images = Callable[[int], str] | None
"""Number of a film → its path relative to the folder the user named; None where tables show pseudonyms alone."""


def write_coco(folder: Path, films: Iterable[Done], findings: FindingVocabulary, images: Images = None) -> None:
    """Write ``detections.json``, COCO's results, and ``images.json``, which says what their ids mean.

    A result is {image_id, category_id, bbox, score}, and of an ensemble ``disagreement``: bbox is x, y, width, height
    in original pixels, category_id the detector's class 1..K, image_id the film's place among those given, from 1.
    Images have pseudonyms, and a ``file_name`` from ``images``; ``assessed`` is false, with the ``reason``, for a film
    that the detector says nothing of. A film that could not be read is no image.
    """
    with _written(folder / "detections.json") as results, _written(folder / "images.json") as about:
        add_result, add_image = _json_list(results, "["), _json_list(about, '{"images": [')
        for done in films:
            film = done.prediction or done.not_assessed
            if film is not None:
                add_image(_coco_image(film, images))
            for result in _coco_results(done.prediction, findings):
                add_result(result)
        categories = [{"id": findings.index(name), "name": name} for name in findings.names]
        results.write("\n]\n")
        about.write(f'\n], "categories": {json.dumps(categories)}}}\n')


def _coco_image(film: Prediction | NotAssessed, images: Images) -> dict[str, Any]:
    named = {} if images is None else {"file_name": images(film.number)}
    size = {"width": film.width, "height": film.height}
    refused = {"assessed": False, "reason": film.reason.text} if isinstance(film, NotAssessed) else {"assessed": True}
    return {"id": film.number, **named, "study": film.study, "patient": film.patient, **size, **refused}


def _coco_results(film: Prediction | None, findings: FindingVocabulary) -> Iterator[dict[str, Any]]:
    if film is not None:
        for n, ((x0, y0, x1, y1), name, score) in enumerate(zip(film.boxes, film.findings, film.scores, strict=True)):
            bbox = [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)]
            category = findings.index(name)
            apart = {"disagreement": film.disagreement[n]} if film.disagreement else {}
            yield {"image_id": film.number, "category_id": category, "bbox": bbox, "score": six_digits(score), **apart}


def write_detections(
    path: Path,
    predictions: Iterable[Prediction],
    threshold: float | None = None,
    images: Images = None,
    disagreement: bool = False,
) -> None:
    """Write a row a box: pseudonym, finding, score, corners in original pixels, and scores of the whole film.

    ``finding_score`` and ``abnormal`` are the film's: how sure the detector is of that finding, and of any.
    ``threshold`` is that of screening, see ``six_digits``. With ``images`` the first column is ``image``.
    With ``disagreement`` the last column is that of an ensemble's members about the box.
    """
    columns = ["study", "finding", "score", "xmin", "ymin", "xmax", "ymax", "finding_score", "abnormal"]
    columns += ["disagreement"] if disagreement else []
    with _written(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([*_image_column(images), *columns])
        for film in predictions:
            abnormal = six_digits(film.abnormal, threshold)
            for n, (box, name, score) in enumerate(zip(film.boxes, film.findings, film.scores, strict=True)):
                whole = [six_digits(film.finding_scores[name]), abnormal, *film.disagreement[n : n + 1]]
                rows.writerow([*_image(film.number, images), film.study, name, six_digits(score), *box, *whole])


def write_films(
    path: Path,
    films: Iterable[Done],
    findings: FindingVocabulary,
    threshold: float | None,
    images: Images = None,
) -> None:
    """Write a row a film that was given: pseudonyms, size, how surely it is abnormal, and by which finding.

    ``assessed`` is yes, or no with the ``reason``: the film could not be read, it is no film for the detector, or its
    answer is not finite. Such a film has no scores and is never cleared. ``cleared`` is yes where ``abnormal`` lies
    below ``threshold``, the operating point of screening, else no; empty without one. It follows from the exact score,
    and the score that is shown never says otherwise (``six_digits``).
    """
    with _written(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        columns = ["study", "patient", "width", "height", "assessed", "reason", "abnormal", "cleared"]
        rows.writerow(["image_id", *_image_column(images), *columns, *findings.names])
        for done in films:
            about = [done.number, *_image(done.number, images)]
            if done.prediction is not None:
                rows.writerow([*about, *_assessed(done.prediction, findings, threshold)])
            else:
                rows.writerow([*about, *_not_assessed(done), *[""] * len(findings.names)])


def _assessed(film: Prediction, findings: FindingVocabulary, threshold: float | None) -> list[Any]:
    cleared = "" if threshold is None else "yes" if film.abnormal < threshold else "no"
    scores = [six_digits(film.finding_scores[name]) for name in findings.names]
    about = (film.study, film.patient, film.width, film.height)
    return [*about, "yes", "", six_digits(film.abnormal, threshold), cleared, *scores]


def _not_assessed(done: Done) -> list[Any]:
    film = done.not_assessed
    if film is None:  # it could not be read
        return ["", "", "", "", "no", done.failed.removeprefix(f"film {done.number}: "), "", "no"]
    return [film.study, film.patient, film.width, film.height, "no", film.reason.text, "", "no"]


def write_promises(path: Path, kept: KeptPromises) -> None:
    """Write a row a promise: of what, at most how much, from which score, on how many patients; and the row in words.

    A promise that there is none of has no threshold.
    """
    asked = [(name, one) for name, one in (("false_boxes", kept.false_boxes), ("screening", kept.screening)) if one]
    with _written(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["of", "at_most", "threshold", "patients", "films", "in_words"])
        for name, one in [*kept.boxes.items(), *asked]:
            threshold = "" if one.threshold is None else repr(one.threshold)
            rows.writerow([name, one.level, threshold, one.patients, kept.split, sentence_of(name, kept)])


def write_submission(path: Path, predictions: Iterable[Prediction], ids: Mapping[int, str]) -> None:
    """Write what the course wants: a row a box, English names, corners as fractions of width and height.

    ``predictions`` are in the order of the course's ``test.csv``; a film without boxes, a normal one, has no row.
    ``ids`` maps a film's number to its ``ID``.
    """
    with _written(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(SUBMISSION_COLUMNS)
        for film in predictions:
            for (x0, y0, x1, y1), name, score in zip(film.boxes, film.findings, film.scores, strict=True):
                fractions = (x0 / film.width, x1 / film.width, y0 / film.height, y1 / film.height)
                rows.writerow([ids[film.number], name, six_digits(score), *(f"{side:.6f}" for side in fractions)])


def _image_column(images: Images) -> list[str]:
    return [] if images is None else ["image"]


def _image(number: int, images: Images) -> list[str]:
    return [] if images is None else [images(number)]


def _json_list(file: TextIO, opening: str) -> Callable[[Mapping[str, object]], None]:
    """Return what adds an item to a JSON list that is begun with ``opening``, an item a line."""
    file.write(opening)
    between = iter([""])

    def add(item: Mapping[str, object]) -> None:
        file.write(f"{next(between, ',')}\n{json.dumps(item)}")

    return add


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """Open a file that stands at ``path`` when it is whole."""
    with whole_file(path) as part, part.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        yield file
