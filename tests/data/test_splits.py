"""Splits: whole patients, findings in proportion, the same for the same seed."""

from pathlib import Path

import numpy as np
import pytest

from cxr.data.film import Film
from cxr.data.splits import set_normal_fraction, split_items


def film(i: int, *findings: str, patient: str = "", split: str = "") -> Film:
    boxes = np.tile(np.float32([0, 0, 9, 9]), (len(findings), 1))
    return Film(Path(f"{i}.dcm"), str(i), f"s{i}", patient or f"p{i}", boxes, findings, 10, 10, split)


def population(n: int = 400, seed: int = 0) -> list[Film]:
    """Films of patients with one to three films, one finding common and one in twenty."""
    rng = np.random.default_rng(seed)
    films = []
    for i in range(n):
        names = [name for name, share in (("common", 0.4), ("rare", 0.05)) if rng.random() < share]
        films.append(film(i, *names, patient=f"p{rng.integers(n // 2)}"))
    return films


def test_no_patient_stands_on_two_sides() -> None:
    splits = split_items(population())
    patients = [{f.patient for f in films} for films in splits.values()]
    assert not patients[0] & patients[1]
    assert not patients[0] & patients[2]
    assert not patients[1] & patients[2]
    assert sorted(f.id for films in splits.values() for f in films) == sorted(f.id for f in population())


def test_every_finding_is_divided_in_proportion() -> None:
    films = population()
    splits = split_items(films, val_fraction=0.2, test_fraction=0.1)
    for name, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        assert len(splits[name]) == pytest.approx(share * len(films), abs=3)
        for label in ("common", "rare"):
            everywhere = sum(label in f.findings for f in films)
            assert sum(label in f.findings for f in splits[name]) == pytest.approx(share * everywhere, abs=1.5)
        assert sum(f.normal for f in splits[name]) == pytest.approx(share * sum(f.normal for f in films), abs=3)


def test_films_of_many_findings_are_divided_as_films_of_few() -> None:
    """Else validation films are easier than training films, and more than were asked for."""
    rng = np.random.default_rng(0)
    drawn = [tuple(name for name in "abcdefg" if rng.random() < 0.25) for _ in range(480)]
    splits = split_items([film(i, *names) for i, names in enumerate(drawn)], val_fraction=0.15, test_fraction=0)
    assert len(splits["val"]) == pytest.approx(0.15 * 480, abs=3)
    of_each = {name: np.mean([len(f.findings) for f in splits[name]]) for name in ("train", "val")}
    assert of_each["val"] == pytest.approx(of_each["train"], abs=0.1)


def test_a_finding_of_three_patients_is_in_every_split() -> None:
    films = [film(i) for i in range(30)] + [film(30 + i, "rare") for i in range(3)]
    for split in split_items(films, val_fraction=1 / 3, test_fraction=1 / 3).values():
        assert sum("rare" in f.findings for f in split) == 1


def test_the_seed_decides() -> None:
    ids = {seed: [f.id for f in split_items(population(), seed=seed)["val"]] for seed in (1, 2)}
    assert ids[1] == [f.id for f in split_items(population(), seed=1)["val"]]
    assert ids[1] != ids[2]


def test_films_held_back_by_the_data_set_are_the_test_set_and_their_patients_nowhere_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    films = [film(i, patient=f"p{i // 2}") for i in range(20)]
    films += [film(20, "x", split="test"), film(21, patient="p0", split="test")]
    splits = split_items(films, val_fraction=0.5, test_fraction=0.3)
    assert [f.id for f in splits["test"]] == ["20", "21"]
    assert len(splits["val"]) in (8, 10)
    assert not {"0", "1"} & {f.id for f in splits["train"] + splits["val"]}
    assert "2 of 20 items for train are left out: their patients stand in val or test too" in caplog.text


def test_splits_that_the_data_set_names_are_those_and_nothing_is_drawn(caplog: pytest.LogCaptureFixture) -> None:
    names = ["train", "val", "test", "train", "", "val"]
    films = [film(i, split=name) for i, name in enumerate(names)]
    expected = {"train": ["0", "3", "4"], "val": ["1", "5"], "test": ["2"]}
    for seed in range(3):
        splits = split_items(films, val_fraction=0.4, test_fraction=0.4, seed=seed)
        assert {split: [f.id for f in some] for split, some in splits.items()} == expected
    assert not caplog.text


def test_a_split_that_the_data_set_does_not_name_is_drawn_from_its_training_films() -> None:
    films = [film(i, split="val" if i < 5 else "train") for i in range(25)]
    splits = split_items(films, val_fraction=0.4, test_fraction=0.2)
    assert [f.id for f in splits["val"]] == ["0", "1", "2", "3", "4"]
    assert len(splits["test"]) == 4  # a fifth of the twenty for training
    assert {f.split for f in splits["test"] + splits["train"]} == {"train"}
    assert not split_items(films, test_fraction=0)["test"]


def test_a_patient_in_two_named_splits_stays_where_it_is_measured(caplog: pytest.LogCaptureFixture) -> None:
    places = [("train", "a"), ("val", "a"), ("train", "b"), ("test", "b"), ("val", "b"), ("train", "c"), ("val", "d")]
    splits = split_items([film(i, patient=name, split=split) for i, (split, name) in enumerate(places)])
    assert {split: [f.id for f in some] for split, some in splits.items()} == {
        "train": ["5"],
        "val": ["1", "6"],
        "test": ["3"],
    }
    assert "1 of 3 items for val are left out: their patients stand in test too" in caplog.text
    assert "2 of 3 items for train are left out: their patients stand in val or test too" in caplog.text


def test_a_split_of_another_name_and_folds_beside_named_validation_films_are_refused() -> None:
    with pytest.raises(ValueError, match="study s1 is of the split 'dev', expected train, val, test or none"):
        split_items([film(0), film(1, split="dev")])
    with pytest.raises(ValueError, match=r"data\.folds is 2, but the data set itself names its 1 validation items"):
        split_items([film(0), film(1), film(2, split="val")], folds=2)


def test_folds_share_their_test_set_and_validate_every_other_film_once() -> None:
    films = population()
    splits = [split_items(films, test_fraction=0.1, folds=4, fold=fold) for fold in range(4)]
    assert len({tuple(f.id for f in split["test"]) for split in splits}) == 1
    validated = [f.id for split in splits for f in split["val"]]
    assert len(set(validated)) == len(validated) == len(films) - len(splits[0]["test"])
    for split in splits:
        assert not {f.patient for f in split["train"]} & {f.patient for f in split["val"] + split["test"]}
        assert len(split["train"]) + len(split["val"]) + len(split["test"]) == len(films)


def test_nothing_for_test_or_validation_is_possible() -> None:
    splits = split_items(population(), val_fraction=0, test_fraction=0)
    assert (len(splits["train"]), splits["val"], splits["test"]) == (400, [], [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "sum below 1"),
        ({"val_fraction": -0.1}, "neither below 0"),
        ({"folds": 5, "fold": 5}, "fold is 5 of 5 folds"),
        ({"folds": 1}, "at least 2"),
    ],
)
def test_settings_that_leave_nothing_to_train_on_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_items(population(), **settings)  # type: ignore[arg-type]


def test_the_share_of_normal_films_is_reached_by_leaving_out_normal_ones() -> None:
    films = [film(i, "x") for i in range(30)] + [film(30 + i) for i in range(70)]
    kept = {share: set_normal_fraction(films, share) for share in (0.25, 0.5)}
    assert sum(f.normal for f in kept[0.25]) == 10
    assert sum(f.normal for f in kept[0.5]) == 30
    assert all(sum(not f.normal for f in some) == 30 for some in kept.values())
    assert {f.id for f in kept[0.25]} < {f.id for f in kept[0.5]}
    assert set_normal_fraction(films, 0.0) == films[:30]
    assert set_normal_fraction(films, None) == films


def test_too_few_normal_films_lose_no_finding(caplog: pytest.LogCaptureFixture) -> None:
    films = [film(0, "x"), film(1, "x"), film(2, "x"), film(3)]
    assert set_normal_fraction(films, 0.5) == films
    assert "1 normal films and 3 with findings give only 0.25" in caplog.text


@pytest.mark.parametrize("fraction", [1.0, -0.1])
def test_an_impossible_share_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= normal_fraction < 1"):
        set_normal_fraction([film(0)], fraction)
