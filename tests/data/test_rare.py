"""Rare findings: films shown more often, findings held back, a few shots of each."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cxr.data.dataset import EpochSampler
from cxr.data.film import Film
from cxr.data.rare import few_shots, repeat_factors, withhold
from cxr.findings import FindingVocabulary
from cxr.phantom.drawn_set import PhantomError
from cxr.phantom.films import _plan, write_course_layout

VOCABULARY = FindingVocabulary([{"name": "heart"}, {"name": "lung"}, {"name": "bone"}])


def film(number: int, *findings: str, labelled: frozenset[str] | None = None) -> Film:
    boxes = np.array([[10 * i, 0, 10 * i + 5, 5] for i, _ in enumerate(findings)], np.float32).reshape(-1, 4)
    name = str(number)
    return Film(Path(name), name, name, name, boxes, findings, 100, 100, labelled=labelled)


def names(films: list[Film]) -> list[str]:
    return [film.id for film in films]


def test_a_film_is_repeated_by_the_root_of_what_its_rarest_finding_lacks() -> None:
    # of 100 films 50 bear heart, 1 bears bone; a threshold of .16 asks 1 for heart and sqrt(.16 / .01) = 4 for bone
    films = [film(i, "heart") for i in range(49)] + [film(49, "heart", "bone")] + [film(i) for i in range(50, 100)]
    factors = repeat_factors(films, 0.16)
    assert factors[49] == pytest.approx(4)
    assert set(factors[:49] + factors[50:]) == {1.0}


def test_two_boxes_of_a_finding_on_a_film_are_one_film_that_bears_it() -> None:
    films = [film(0, "bone", "bone"), *(film(i) for i in range(1, 10))]
    assert repeat_factors(films, 0.4)[0] == pytest.approx(2)  # sqrt(.4 / .1), not sqrt(.4 / .2)


def test_an_epoch_shows_films_as_often_as_their_factors_say() -> None:
    sampler = EpochSampler(4, seed=3, repeats=[1, 1, 1, 2.5])  # 5.5: six a epoch
    shown: Counter[int] = Counter()
    for epoch in range(400):
        sampler.set_epoch(epoch)
        order = [index for _, index in sampler]
        assert len(order) == len(sampler) == 6
        assert set(order) == {0, 1, 2, 3}
        shown.update(order)
    assert shown[3] / 400 == pytest.approx(2.5 * 6 / 5.5, abs=0.1)
    assert shown[0] / 400 == pytest.approx(1 * 6 / 5.5, abs=0.1)


def test_without_factors_the_order_is_what_it_was() -> None:
    plain, once = EpochSampler(50, seed=1), EpochSampler(50, seed=1, repeats=[1.0] * 50)
    assert list(plain) == list(once)
    assert sorted(index for _, index in plain) == list(range(50))


def test_a_finding_held_back_leaves_no_boxes_and_no_negatives() -> None:
    both, alone, normal = withhold([film(0, "heart", "bone"), film(1, "bone"), film(2)], ["bone"], VOCABULARY)
    assert (both.findings, both.boxes.tolist()) == (("heart",), [[0, 0, 5, 5]])
    assert alone.findings == ()
    for kept in (both, alone, normal):
        assert kept.labelled == {"heart", "lung"}
        assert not kept.normal  # it may bear what nobody looked for


def test_a_film_that_told_of_one_finding_tells_of_none_when_it_is_held_back() -> None:
    (kept,) = withhold([film(0, "bone", labelled=frozenset({"bone"}))], ["bone"], VOCABULARY)
    assert kept.labelled == frozenset()


def test_a_mark_tells_whatever_else_was_looked_for() -> None:
    marked = film(0, "bone", labelled=frozenset({"heart"}))
    assert [marked.looked_for(name) for name in VOCABULARY.names] == [True, False, True]
    assert not marked.normal


def test_holding_back_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="all findings; at least one must be left to learn"):
        withhold([film(0)], ["heart", "lung", "bone"], VOCABULARY)


def test_shots_show_each_finding_so_often_with_as_few_others_as_can_be() -> None:
    films = [film(0, "heart", "lung", "bone"), *(film(i, "heart") for i in range(1, 6)), film(6, "bone")]
    films += [film(i) for i in range(7, 12)]
    chosen = few_shots(films, 2)
    assert {"0", "6"} <= set(names(chosen))  # both of bone, and so the only one of lung
    assert sum("heart" in film.findings for film in chosen) == 2
    assert sum(film.normal for film in chosen) == 2
    assert names(chosen) == sorted(names(chosen), key=int)
    assert names(few_shots(films, 2)) == names(chosen)


def test_a_rare_finding_stays_on_so_many_training_patients_and_on_all_test_films() -> None:
    plain, rare = _plan(200, 100, 0, 0.25), _plan(200, 100, 0, 0.25, {"scoliosis": 0.02})
    patients = {job.patient for job in rare if not job.test and "scoliosis" in job.findings}
    assert len(patients) == 4
    for before, after in zip(plain, rare, strict=True):
        assert (before.id, before.patient) == (after.id, after.patient)
        lost = set(before.findings) - set(after.findings)
        assert lost <= (set() if before.test else {"scoliosis"})
        assert not set(after.findings) - set(before.findings)


def test_a_rare_finding_that_is_not_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PhantomError, match=r"data\.read\.rare names pneumothorax, expected some of aortic_curvature"):
        write_course_layout(tmp_path, rare={"pneumothorax": 0.1})
