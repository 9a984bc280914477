"""What films were to a checkpoint before they are evaluated: each is known by its pixels, not by its split."""

import numpy as np
import pytest

from cxr.measure.seen import Seen, seen

TRAINING = {"train": np.arange(10), "val": np.arange(10, 14), "test": np.arange(14, 18)}
NEW = np.arange(100, 106)


def test_films_of_another_data_set_are_new_whatever_their_split() -> None:
    films = seen(NEW, TRAINING, TRAINING["val"])
    assert films == Seen(films=6, trained_on=0, best_epoch_on=0, point_on=0, new=6, point_trained_on=0)
    assert not list(films.warnings("this checkpoint"))
    assert films.in_words() == (
        "The detector was trained on none of these 6 films, and its operating point was chosen on none of them. Films"
        " are compared by their pixels."
    )


def test_copies_of_training_films_in_another_data_set_are_known() -> None:
    films = seen(np.append(NEW, [3, 11, 12]), TRAINING, TRAINING["val"])
    assert films == Seen(films=9, trained_on=1, best_epoch_on=2, point_on=2, new=6, point_trained_on=0)
    assert "trained on 1 of these 9 films" in films.in_words()
    trained, epoch, point = films.warnings("this checkpoint")
    assert trained == "Of these films this checkpoint was trained on 1: the figures flatter it."
    assert "was chosen on 2 of these films" in epoch
    assert "was chosen on 2 of the films that screening is measured on" in point


@pytest.mark.parametrize(
    ("split", "trained_on", "point_on", "new", "warnings"),
    [("train", 10, 0, 0, 1), ("val", 0, 4, 0, 2), ("test", 0, 0, 4, 0)],
)
def test_the_films_of_the_training_in_its_splits(
    split: str, trained_on: int, point_on: int, new: int, warnings: int
) -> None:
    films = seen(TRAINING[split], TRAINING, TRAINING["val"])
    assert (films.trained_on, films.point_on, films.new) == (trained_on, point_on, new)
    assert len(list(films.warnings("A"))) == warnings
    assert ("all of these" in films.in_words()) == (split == "train")


def test_a_point_chosen_now_on_films_that_were_trained_on_is_warned_of() -> None:
    films = seen(NEW, TRAINING, np.array([2, 3, 200]))
    assert (films.point_on, films.point_trained_on) == (0, 2)
    (warning,) = films.warnings("this checkpoint")
    assert "chosen on, it was trained on 2: its threshold may be too high" in warning


def test_a_point_derived_on_the_very_films_is_warned_of() -> None:
    films = seen(NEW, TRAINING, NEW)
    assert (films.point_on, films.new) == (6, 0)
    (warning,) = films.warnings("this checkpoint")
    assert "was chosen on all of the films that screening is measured on" in warning


def test_without_an_operating_point_nothing_is_said_of_one() -> None:
    films = seen(NEW, TRAINING, None)
    assert films.point_on is None
    assert "it has no operating point" in films.in_words()
    assert not list(films.warnings("A"))


def test_films_that_the_backbone_was_pretrained_on_are_named() -> None:
    films = seen(NEW, TRAINING | {"pretrained": NEW[:2]}, TRAINING["val"])
    assert (films.pretrained_on, films.new) == (2, 4)
    assert "trained on none of these 6 films, its backbone was pretrained on 2 of them, and" in films.in_words()
    (warning,) = films.warnings("this checkpoint")
    assert warning == "Of these films the backbone of this checkpoint was pretrained on 2: the figures flatter it."
