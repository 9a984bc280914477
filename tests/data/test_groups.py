"""Groups of films: counted without leading to a patient, and taken back from a checkpoint with care."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.data.film import Film
from cxr.data.groups import KINDS, NOT_STATED, TOO_FEW, checked, counted, groups_of, pooled


def stated(*makers: str) -> list[dict[str, str]]:
    return [dict.fromkeys(KINDS, NOT_STATED) | {"maker": maker} for maker in makers]


def test_groups_of_few_patients_are_pooled_and_their_value_is_gone() -> None:
    groups = stated(*["A"] * 4, *["RARE"] * 3, "ODD")
    patients = ["p1", "p2", "p3", "p3", "p4", "p4", "p4", "p5"]
    named = pooled(groups, patients, least=3)
    assert [one["maker"] for one in named] == ["A"] * 4 + [TOO_FEW] * 4
    counts = counted(groups, patients, least=3)
    assert counts["kinds"]["maker"] == {"A": {"films": 4, "patients": 3}, TOO_FEW: {"films": 4, "patients": 2}}
    assert counts["kinds"]["sex"] == {NOT_STATED: {"films": 8, "patients": 5}}
    assert (counts["films"], counts["patients"], counts["least_patients"]) == (8, 5, 3)
    assert checked(counts) == counts


def test_a_table_tells_where_a_picture_cannot(tmp_path: Path) -> None:
    picture = tmp_path / "film.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    film = Film(picture, "1", "s", "p", np.zeros((0, 4), np.float32), (), 9, 9, source="nih", groups={"sex": "F"})
    assert groups_of(film) == dict.fromkeys(KINDS, NOT_STATED) | {"sex": "F", "source": "nih"}


def _all(groups: Any) -> dict[str, Any]:
    return {"kinds": dict.fromkeys(KINDS, groups)}


def _with(change: dict[str, Any]) -> dict[str, Any]:
    return {**counted(stated("A", "A"), ["p", "q"], least=1), **change}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "expected least_patients"),
        (_with({"more": 1}), "expected least_patients"),
        (_with({"films": True}), "films is no number"),
        (_with({"patients": -1}), "patients is no number"),
        (_with({"kinds": {"sex": {}}}), "kinds are not sex"),
        (_with(_all([])), r"kinds.sex is no list"),
        (_with(_all({"x\n": {"films": 1, "patients": 1}})), "no text"),
        (_with(_all({"x" * 65: {"films": 1, "patients": 1}})), "no text"),
        (_with(_all({"x": {"films": 1}})), "without films and patients"),
        (_with(_all({"x": {"films": 1.5, "patients": 1}})), "no number of them"),
    ],
)
def test_counts_that_are_none_are_refused(fields: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        checked(fields)
