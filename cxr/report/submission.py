"""Detections as tables: COCO's results, csv files in original pixels, and the course's submission.

Each file is written film by film from an iterator, so that memory does not grow with their number, and put in place
whole.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from cxr.detect.prediction import Prediction
from cxr.findings import FindingVocabulary

SUBMISSION_COLUMNS = ("ID", "category", "score", "xmin", "xmax", "ymin", "ymax")


def write_coco(folder: Path, predictions: Iterable[Prediction], findings: FindingVocabulary) -> None:
    """Write ``detections.json``, COCO's results, and ``images.json``, which says what their ids mean.

    A result is {image_id, category_id, bbox, score}: bbox is x, y, width, height in original pixels, category_id the
    detector's class 1..K, image_id the film's place among those given, from 1. Images are named by pseudonyms.
    """
    with _written(folder / "detections.json") as results, _written(folder / "images.json") as images:
        add_result, add_image = _json_list(results, "["), _json_list(images, '{"images": [')
        for film in predictions:
            about = {"id": film.number, "study": film.study, "patient": film.patient}
            add_image({**about, "width": film.width, "height": film.height})
            for (x0, y0, x1, y1), name, score in zip(film.boxes, film.findings, film.scores, strict=True):
                bbox = [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)]
                category = findings.index(name)
                add_result({"image_id": film.number, "category_id": category, "bbox": bbox, "score": score})
        categories = [{"id": findings.index(name), "name": name} for name in findings.names]
        results.write("\n]\n")
        images.write(f'\n], "categories": {json.dumps(categories)}}}\n')


def write_detections(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write a row a box: pseudonym, finding, score, corners in original pixels, and what is said of the whole film.

    ``finding_score`` and ``abnormal`` are the film's: how surely it bears that finding, and any.
    """
    columns = ("study", "finding", "score", "xmin", "ymin", "xmax", "ymax", "finding_score", "abnormal")
    with _written(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        for film in predictions:
            for box, name, score in zip(film.boxes, film.findings, film.scores, strict=True):
                rows.writerow([film.study, name, score, *box, film.finding_scores[name], film.abnormal])


def write_films(
    path: Path, predictions: Iterable[Prediction], findings: FindingVocabulary, threshold: float | None
) -> None:
    """Write a row a film, those without a box too: pseudonyms, size, how surely it is abnormal, and by which finding.

    ``cleared`` is yes where ``abnormal`` lies below ``threshold``, the operating point of screening, else no; empty
    without one.
    """
    with _written(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image_id", "study", "patient", "width", "height", "abnormal", "cleared", *findings.names])
        for film in predictions:
            cleared = "" if threshold is None else "yes" if film.abnormal < threshold else "no"
            scores = [film.finding_scores[name] for name in findings.names]
            rows.writerow(
                [film.number, film.study, film.patient, film.width, film.height, film.abnormal, cleared, *scores]
            )


def write_submission(path: Path, predictions: Iterable[Prediction], ids: Mapping[int, str]) -> None:
    """Write what the course wants: a row a box, English names, corners as fractions of width and height.

    Args:
        path: the csv.
        predictions: in the order of the course's ``test.csv``. A film without boxes, a normal one, has no row.
        ids: number of a film → its ``ID``.
    """
    with _written(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(SUBMISSION_COLUMNS)
        for film in predictions:
            for (x0, y0, x1, y1), name, score in zip(film.boxes, film.findings, film.scores, strict=True):
                fractions = (x0 / film.width, x1 / film.width, y0 / film.height, y1 / film.height)
                rows.writerow([ids[film.number], name, score, *(f"{side:.6f}" for side in fractions)])


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
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        yield file
    part.replace(path)
