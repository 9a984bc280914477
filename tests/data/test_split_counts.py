"""How many films, patients and marks the splits hold: by hand on four films of three patients."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cxr.data.film import Film
from cxr.data.split_counts import split_counts


def film(name: str, patient: str, *findings: str) -> Film:
    boxes = np.tile(np.float32([1, 1, 5, 5]), (len(findings), 1)).reshape(-1, 4)
    return Film(Path(f"{name}.dcm"), name, name, patient, boxes, findings, 10, 10)


def test_items_patients_boxes_and_films_whose_readers_looked() -> None:
    two_boxes, normal = film("a", "Lin", "nodule", "nodule"), film("b", "Lin")
    other = replace(film("c", "Wang", "effusion"), labelled=frozenset({"effusion"}))  # nobody looked for nodules
    nobody = replace(film("d", "Chen"), labelled=frozenset())
    counts = split_counts({"train": [two_boxes, normal, other, nobody], "val": []}, ["nodule", "effusion"])
    assert counts["train"] == {
        "items": 4, "patients": 3, "normal": 1, "unmarked": 1,
        "findings": {
            "nodule": {"items": 1, "boxes": 2, "looked_for": 2},
            "effusion": {"items": 1, "boxes": 1, "looked_for": 3},
        },
    }  # fmt: skip
    assert counts["val"]["findings"]["nodule"] == {"items": 0, "boxes": 0, "looked_for": 0}
    assert "Lin" not in str(counts)
