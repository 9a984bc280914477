"""The report of what doctors changed: figures by hand, and a page that names nobody."""

from pathlib import Path

import numpy as np
import pytest

from cxr.data.corrections import Corrected
from cxr.data.film import Film, Reading
from cxr.findings import FindingVocabulary
from cxr.report.changes import figures, write_report

FINDINGS = FindingVocabulary([{"name": "heart"}, {"name": "spine"}])


def reading(rater: str, *marks: tuple[str, list[float]]) -> Reading:
    boxes = np.array([box for _, box in marks], np.float32).reshape(-1, 4)
    return Reading(rater, boxes, tuple(name for name, _ in marks), scores=(0.5,) * len(marks))


def film(ours: Reading | None, *doctors: Reading) -> Corrected:
    boxes, names = doctors[0].boxes, doctors[0].findings
    seen = {} if ours is None else dict.fromkeys((one.rater for one in doctors), ours)
    return Corrected(Film(Path("gone.dcm"), "1", "s1", "p1", boxes, names, 100, 100, readings=doctors), seen)


HEART, MOVED, SPINE = [0.0, 0, 40, 40], [0.0, 0, 40, 50], [60.0, 0, 70, 90]
CORRECTED = [
    film(
        reading("cxr", ("heart", HEART), ("spine", SPINE)),
        reading("a", ("heart", MOVED)),
        reading("b", ("heart", HEART)),
    ),
    film(reading("cxr", ("heart", HEART)), reading("a", ("heart", HEART))),
    film(None, reading("a", ("spine", SPINE))),
]


def test_changes_and_agreement_are_counted_by_finding() -> None:
    found = figures(CORRECTED, FINDINGS)
    assert (found["films"], found["shown"], found["unchanged"], found["readers"]) == (3, 2, 1, 2)
    none = {"kept": 0, "moved": 0, "renamed": 0, "deleted": 0, "added": 0, "overlap": None}
    assert found["changes"]["heart"] == {**none, "kept": 2, "moved": 1, "overlap": pytest.approx(0.8)}
    assert found["changes"]["spine"] == {**none, "deleted": 2}
    agreed = found["agreement"][
        "heart"
    ]  # one film of two readers, who both marked it: no disagreement is left to chance
    assert (agreed["films"], agreed["shared"], agreed["kappa"], agreed["box_f1"]) == (1, 1, None, 1)
    assert agreed["overlap"] == pytest.approx(0.8)
    assert "spine" not in found["agreement"]


@pytest.mark.parametrize(("language", "words"), [("en", "How doctors changed our boxes"), ("zh", "醫師如何變更偵測框")])
def test_the_page_is_written_in_both_languages(tmp_path: Path, language: str, words: str) -> None:
    page = write_report(tmp_path / "out", CORRECTED, FINDINGS, language).read_text(encoding="utf-8")
    assert words in page
    assert "0.80" in page
    assert (tmp_path / "out" / "changes.json").is_file()
