"""``threshold=`` as a score or as a promise: what is shown, what is put aside, and what is refused with a number."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cxr.config.errors import ConfigError
from cxr.findings import FindingVocabulary
from cxr.measure.intervals import Estimate
from cxr.measure.operating_point import OperatingPoint
from cxr.measure.promises import LEVELS, RATES, Promises
from cxr.measure.risk_control import Promise
from cxr.report.algorithm import Algorithm
from cxr.report.promise_words import promise_sentences
from cxr.report.submission import write_promises
from cxr.runs.checkpoint import Checkpoint
from cxr.runs.promised import shown_by
from scripts import table

FINDINGS = FindingVocabulary([{"name": "heart"}, {"name": "nodule"}])
SHARE = Estimate(0.95, 0.9, 1.0, 60)


def point(threshold: float, wanted: float = 0.99) -> OperatingPoint:
    return OperatingPoint(threshold, wanted, SHARE, SHARE, 80, 60, 70, "val", limited=False)


def made(level: float, threshold: float, patients: int) -> Promise:
    """A promise that ``patients`` without a miss are enough for, or not."""
    needed = round(1 / level) - 1
    if patients < needed:
        return Promise(level, None, patients, 0.0, needed)
    return Promise(level, threshold, patients, level / 2)


SCREENING = tuple(made(level, 0.2 + level, 60) for level in LEVELS)
PROMISES = Promises(
    "val",
    80,
    {name: tuple(made(at, at * 2, n) for at in LEVELS) for name, n in (("heart", 50), ("nodule", 5))},
    SCREENING,
    tuple(None if one.threshold is None else point(one.threshold, 1 - one.level) for one in SCREENING),
    tuple(Promise(rate, 0.5 - rate / 10, 70, rate / 2) for rate in RATES),
)
CHECKPOINT = Checkpoint(
    Path("best.ckpt"), {}, FINDINGS, "", {}, {}, operating_point=point(0.25).as_dict(), promises=PROMISES
)


def test_a_score_stays_a_score() -> None:
    assert shown_by(0.4, CHECKPOINT, None).threshold == 0.4
    usual = shown_by(None, CHECKPOINT, {"heart": 0.6, "nodule": 0.5})
    assert (usual.threshold, usual.promises) == ({"heart": 0.6, "nodule": 0.5}, None)
    assert usual.point == point(0.25)


def test_risk_is_a_tenth_and_a_finding_without_a_promise_is_shown_as_usual_and_named() -> None:
    risk = shown_by("risk", CHECKPOINT, None)
    assert risk == shown_by({"risk": 0.1}, CHECKPOINT, None)
    assert risk.threshold == {"heart": 0.2, "nodule": 0.3}
    assert shown_by("risk", CHECKPOINT, {"heart": 0.6, "nodule": 0.5}).threshold == {"heart": 0.2, "nodule": 0.5}
    assert risk.promises is not None
    boxes, none, screening, flattered, broken = promise_sentences(risk.promises)
    assert "at most 10 % are missed, on average over new patients who have it, of whom each counts once" in boxes
    assert boxes.endswith("validation films: heart 50.")
    assert none == "No promise for nodule: 5 patients, 9 are needed. Its boxes are shown from the usual score up."
    assert "at most 10 % of the abnormal patients" in screening
    assert "chose when the training ended" in flattered
    assert "Another machine" in broken


def test_screening_puts_aside_no_more_than_before_unless_it_is_typed() -> None:
    assert shown_by("risk", CHECKPOINT, None).point == point(0.25)  # and not the .3 that a tenth would allow
    careful = replace(CHECKPOINT, operating_point=point(0.29).as_dict())
    half = shown_by({"risk": 0.05}, careful, None).point
    assert half == point(0.25, 0.95)  # its own point would put aside more than is promised
    typed = shown_by({"risk": 0.05, "screening": 0.1}, CHECKPOINT, None).point
    assert typed is not None
    assert typed.threshold == pytest.approx(0.3)
    alone = shown_by({"screening": 0.1}, CHECKPOINT, None)
    assert (alone.threshold, alone.point) == (0.3, typed)


def test_without_a_promise_of_screening_nothing_is_put_aside() -> None:
    few = replace(PROMISES, screening=tuple(made(level, 0.2, 5) for level in LEVELS), points=(None,) * len(LEVELS))
    poor = replace(CHECKPOINT, promises=few)
    risk = shown_by("risk", poor, None)
    assert risk.point is None
    assert risk.promises is not None
    assert "No promise for screening: 5 patients, 9 are needed. No film is put aside as normal." in promise_sentences(
        risk.promises
    )
    with pytest.raises(ConfigError, match="at most 10 % of the abnormal patients are put aside: 5 patients, 9 are"):
        shown_by({"screening": 0.1}, poor, None)


def test_false_boxes_have_one_score_for_all_findings_and_leave_screening_alone() -> None:
    few = shown_by({"false_boxes": 0.5}, CHECKPOINT, None)
    assert (few.threshold, few.point) == (0.45, point(0.25))
    assert few.promises is not None
    assert "at most 0.5 false boxes a film" in promise_sentences(few.promises)[0]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("rsik", "threshold is rsik, expected a score of 0 to 1"),
        (1.5, "threshold is 1.5, expected a score of 0 to 1"),
        ({"level": 0.1}, "a promise of risk, screening, false_boxes, not of level"),
        ({}, "one score cannot keep both"),
        ({"risk": 0.1, "false_boxes": 1.0}, "one score cannot keep both"),
        ({"risk": 0.07}, "risk is 0.07, and promises are made of 0.01, 0.02, 0.05, 0.1, 0.2"),
        ({"risk": True}, "risk is True"),
        (
            {"risk": 0.01},
            "of no finding .* at most 1 % are missed. heart: 50 patients, 99 are needed; nodule: 5 patients",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_in_words(typed: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        shown_by(typed, CHECKPOINT, None)


def test_a_checkpoint_of_before_says_what_to_type() -> None:
    with pytest.raises(ConfigError, match=r"best.ckpt holds no promises\. .* split=out_of_fold first"):
        shown_by("risk", replace(CHECKPOINT, promises=None), None)


def test_reports_and_tables_say_what_is_promised(tmp_path: Path) -> None:
    risk = shown_by("risk", CHECKPOINT, None)
    assert risk.promises is not None
    algorithm = Algorithm("1", "ab", risk.threshold, risk.point, promises=risk.promises)
    assert algorithm.parameters()[-5:] == promise_sentences(risk.promises)
    assert algorithm.identity() != replace(algorithm, promises=None).identity()
    write_promises(tmp_path / "promises.csv", risk.promises)
    rows = table(tmp_path / "promises.csv")
    assert [(row["of"], row["at_most"], row["threshold"], row["patients"]) for row in rows] == [
        ("heart", "0.1", "0.2", "50"),
        ("nodule", "0.1", "", "5"),
        ("screening", "0.1", repr(0.2 + 0.1), "60"),
    ]
    assert rows[0]["in_words"].startswith("Promise: of the boxes of a finding at most 10 % are missed")
    assert rows[0]["in_words"].endswith(promise_sentences(risk.promises)[-1])  # what breaks it
    assert rows[1]["in_words"] == promise_sentences(risk.promises)[1]  # that of nodules nothing is promised
    assert "nodule" not in rows[0]["in_words"] + rows[2]["in_words"]
