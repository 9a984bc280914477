"""Groups beside all other films: Holm by hand, figures by hand, and a test that keeps its level."""

import numpy as np
import pytest

from cxr.data.groups import KINDS, NOT_STATED
from cxr.measure.group_tests import Permutations, holm
from cxr.measure.operating_point import choose_operating_point
from cxr.measure.results import FilmResult
from cxr.measure.subgroups import Settings, Subgroups, measure_groups

BOX = (10.0, 10.0, 60.0, 60.0)


def film(number: int, found: bool, abnormal: bool = True, patient: str = "") -> FilmResult:
    """A film with one box, or normal; detected where it is ``found``, by a score that no other film has."""
    boxes = np.array([BOX] if found else [], np.float32).reshape(-1, 4)
    return FilmResult(
        f"s{number}",
        patient or f"p{number}",
        (100, 100),
        np.array([BOX] if abnormal else [], np.float32).reshape(-1, 4),
        np.array([1] if abnormal else [], np.int64),
        boxes,
        np.ones(len(boxes), np.int64),
        np.full(len(boxes), 0.5 + number / 1000, np.float32),
        np.array([0.5 if found else 0.0], np.float32),
        0.5 + number / 1000 if found else 0.0,
    )


def groups(**of_kinds: list[str]) -> list[dict[str, str]]:
    count = len(next(iter(of_kinds.values())))
    return [{kind: of_kinds.get(kind, [NOT_STATED] * count)[i] for kind in KINDS} for i in range(count)]


def test_holm_multiplies_the_smallest_by_all_tests_and_the_next_by_one_less() -> None:
    # .005 x 4, .01 x 3, .03 x 2; .04 x 1 is smaller than the one before it, whose .06 it takes
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.fixture(scope="module")
def half_found_on_men() -> Subgroups:
    """20 women, all found; 20 men, of whom ten are found; 10 normal films of each."""
    films = [film(n, found=n < 20 or n % 2 == 0) for n in range(40)]
    films += [film(n, found=False, abnormal=False) for n in range(40, 60)]
    sexes = ["F"] * 20 + ["M"] * 20 + ["F"] * 10 + ["M"] * 10
    point = choose_operating_point(films[:20], samples=2)
    return measure_groups(films, films, groups(sex=sexes), [1], point, Settings(10, samples=60, permutations=199))


def test_a_group_is_measured_beside_all_other_films(half_found_on_men: Subgroups) -> None:
    measured = half_found_on_men
    women, men = measured.groups
    assert (women.kind, women.name, women.films, women.patients) == ("sex", "F", 30, 30)
    sensitivity = men.figures["sensitivity@1fp"]
    assert (sensitivity.value.value, sensitivity.rest, sensitivity.difference.value) == (0.5, 1.0, -0.5)
    assert sensitivity.value.low < 0.5 < sensitivity.value.high
    assert sensitivity.difference.high < 0
    assert men.figures["screening"].value.value == 0.5
    # a man who is not found scores as low as the 10 normal ones: half of the pairs in order, the others half a tie
    assert men.figures["roc_auc"].value.value == 0.75
    assert measured.whole["sensitivity@1fp"] == 0.75


def test_two_groups_that_are_each_others_rest_are_one_test(half_found_on_men: Subgroups) -> None:
    measured = half_found_on_men
    assert measured.tests == 4  # one a figure
    women, men = measured.groups
    assert women.figures["ap50"].p == men.figures["ap50"].p
    assert women.division == men.division
    found = [(group.name, figure) for group, figure, _ in measured.differing()]
    assert ("M", "sensitivity@1fp") in found
    assert {name for name, _ in found} == {"M"}  # told once, of those on whom the detector is worse
    assert men.figures["sensitivity@1fp"].p_holm == pytest.approx(4 * men.figures["sensitivity@1fp"].p, rel=0.5)


def test_a_small_group_is_not_named_and_nothing_is_compared_with_a_small_rest() -> None:
    films = [film(n, found=True) for n in range(30)]
    makers = ["RARE"] * 3 + ["ODD"] * 2 + ["A"] * 25
    measured = measure_groups(films, films, groups(maker=makers), [1], None, Settings(10, samples=5))
    assert measured.groups == ()  # beside A there are five patients
    assert measured.too_few == {"maker": (5, 5)}
    assert "RARE" not in str(measured)
    assert measured.alone["sex"] == NOT_STATED
    assert measured.tests == 0


def test_patients_change_places_whole_and_with_their_like() -> None:
    patients = ["a", "a", "b", "b", "c", "d", "e", "f"]
    abnormal = np.array([0, 1, 0, 1, 1, 0, 1, 0], bool)
    member = np.array([1, 1, 0, 0, 1, 1, 0, 0], bool)  # a, c, d
    permutations, rng = Permutations(patients, abnormal), np.random.default_rng(0)
    drawn = [permutations.draw(member, rng) for _ in range(50)]
    assert all(one[0] == one[1] and one[2] == one[3] for one in drawn)
    assert {(int(one.sum()), int((one & abnormal).sum())) for one in drawn} == {(4, 2)}
    assert len({one.tobytes() for one in drawn}) == 8  # a or b, c or e, d or f


def test_the_test_keeps_its_level() -> None:
    """200 times 30 patients with one or two films of random values, ten of them a group: p < .05 in one of twenty."""
    rng, false = np.random.default_rng(3), 0
    for seed in range(200):
        patients = [f"{n}" for n in range(30)] + [f"{n}" for n in range(0, 30, 2)]
        values = rng.normal(size=30)[[int(p) for p in patients]] + rng.normal(size=45)
        member = np.array([int(p) < 10 for p in patients], bool)
        permutations = Permutations(patients, np.zeros(45, bool))
        difference = lambda one, v=values: float(v[one].mean() - v[~one].mean())  # noqa: E731
        false += permutations.p_value(difference, member, seed, most=199) < 0.05
    assert 3 <= false <= 17  # of 200, 10 expected: outside of this in one of a hundred seeds


def test_a_difference_that_no_permutation_reaches_has_the_smallest_p_value() -> None:
    values = np.array([0.0] * 12 + [1.0] * 12)
    permutations = Permutations([str(n) for n in range(24)], np.zeros(24, bool))
    difference = lambda one: float(values[one].mean() - values[~one].mean())  # noqa: E731
    assert permutations.p_value(difference, values == 0, most=399) == 1 / 400
