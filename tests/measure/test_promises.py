"""All promises of a detector: chosen together, kept as plain data, refused where damaged, held against films."""

import json
import math
from typing import Any

import pytest

from cxr.measure.promises import LEVELS, RATES, SCREENING, Promises, choose_promises, reached_promises

BOX, ELSEWHERE = (0, 0, 100, 100), (500, 500, 600, 600)
NAMES = ("heart", "nodule", "spine")


@pytest.fixture
def films(result):
    """Thirty patients with a heart, found with .31 to .60; four with a nodule; ten normal ones with a false box."""
    hearts = [result([(BOX, 1)], [(BOX, 1, 0.3 + n / 100)]) for n in range(1, 31)]
    nodules = [result([(BOX, 2)], [(BOX, 2, 0.9)]) for _ in range(4)]
    return hearts + nodules + [result([], [(ELSEWHERE, 1, n / 100)]) for n in range(1, 11)]


def test_single_findings_with_too_few_patients_are_refused_and_others_are_not(films):
    kept = choose_promises(films, NAMES, split="val", samples=5)
    tenth = kept.of_findings(0.1)
    assert tenth["heart"].threshold == 0.33  # two of thirty may be missed: (2 + 1) / 31
    assert (tenth["nodule"].threshold, tenth["nodule"].patients, tenth["nodule"].needed) == (None, 4, 9)
    assert (tenth["spine"].patients, tenth["spine"].needed, math.isnan(tenth["spine"].risk)) == (0, 9, True)
    assert kept.of_findings(0.01)["heart"].needed == 99
    assert (kept.films, kept.split) == (44, "val")


def test_screening_is_promised_with_its_operating_point(films):
    aside, point = choose_promises(films, NAMES, samples=5).of_screening(0.1)
    assert (aside.patients, aside.threshold) == (34, pytest.approx(0.33))  # (2 + 1) / 35, not (3 + 1) / 35
    assert point is not None
    assert (point.threshold, point.wanted_sensitivity, point.limited) == (aside.threshold, 0.9, False)
    assert point.cleared_share.value == 1  # all ten normal films score .1 or less
    none, no_point = choose_promises(films, NAMES, samples=5).of_screening(0.01)
    assert (none.threshold, none.needed, no_point) == (None, 99, None)


def test_false_boxes_are_promised_over_all_patients(films):
    kept = choose_promises(films, NAMES, samples=5)
    assert kept.of_false_boxes(0.25).patients == 44
    assert kept.of_false_boxes(0.25).threshold == 0.090001  # (1 + 10) / 45: one of the ten may be shown
    assert kept.of_false_boxes(1.0).threshold == 0.0  # (10 + 10) / 45: all may


def test_they_come_back_from_plain_data(films):
    kept = choose_promises(films, NAMES, samples=5)
    plain = json.loads(json.dumps(kept.as_dict()))
    again = Promises.from_dict(plain, NAMES)
    assert json.dumps(again.as_dict()) == json.dumps(kept.as_dict())  # NaN is not equal to itself
    assert (again.of_screening(0.05), list(again.findings)) == (kept.of_screening(0.05), list(NAMES))


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("split",), 3, "split and films"),
        (("films",), -1, "split and films"),
        (("more",), {}, "it has the fields"),
        (("findings", "fracture"), [], "findings names others than heart, nodule, spine"),
        (("findings", "heart"), [], "findings.heart is no list of 5 promises"),
        (("findings", "heart", 0), 7, "7 is no mapping"),
        (("findings", "heart", 3, "threshold"), -0.5, "has the threshold -0.5, which no promise of 0.1 has"),
        (("findings", "heart", 3, "threshold"), "0.5", "has the threshold 0.5"),
        (("findings", "heart", 3, "threshold"), math.nan, "has the threshold nan"),
        (("findings", "heart", 3, "level"), 0.5, "has the level 0.5"),
        (("findings", "heart", 3, "patients"), 2.5, "has the patients 2.5"),
        (("findings", "heart", 3, "risk"), math.inf, "has the risk inf"),
        (("findings", "heart", 3, "risk"), 10**400, "has the risk 1000"),
        (("findings", "heart", 3, "needed"), 9, "has the needed 9"),  # of a promise that there is
        (("screening", 3, "threshold"), 0.9, "points does not have the threshold that screening promises for 0.1"),
        (("points",), [None] * 4, "points is no list of 5"),
        (("points", 3), "x", "x is no mapping"),
        (("false_boxes",), None, "false_boxes is no list of 4 promises"),
    ],
)
def test_damaged_ones_are_refused_by_name(films, path, value, told):
    plain: Any = choose_promises(films, NAMES, samples=5).as_dict()
    place = plain
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=told):
        Promises.from_dict(plain, NAMES)


def test_what_films_gave_stands_beside_each_promise(films):
    kept = choose_promises(films, NAMES, samples=5)
    here = {(one.of, one.promise.level): one.risk for one in reached_promises(kept, films, samples=20)}
    assert len(here) == 4 * len(LEVELS) + len(RATES)
    assert here["heart", 0.1].value == pytest.approx(2 / 30)
    assert (here["heart", 0.1].n, here[SCREENING, 0.1].n) == (30, 34)
    assert here["nodule", 0.1].reason == "no promise"
