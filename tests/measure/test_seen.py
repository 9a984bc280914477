"""What films were to a checkpoint before they are evaluated: no claim that is not so, and none left out."""

import pytest

from cxr.measure.seen import CHOSEN_NOW, FROZEN, TESTED_ON, seen

NO_POINT = "not measured: there is none"


@pytest.mark.parametrize(
    ("relation", "split", "point_from", "trained_on", "chosen_on"),
    [
        ("own", "train", FROZEN, "all", "none"),
        ("own", "val", FROZEN, "none", "all"),
        ("own", "test", FROZEN, "none", "none"),
        ("own", "all", FROZEN, "some", "some"),
        ("foreign", "all", FROZEN, "none", "none"),  # neither trained nor chosen on them
        ("foreign", "val", FROZEN, "none", "none"),  # their validation films, not the checkpoint's
        ("foreign", "all", CHOSEN_NOW, "none", "some"),
        ("foreign", "test", CHOSEN_NOW, "none", "none"),
        ("foreign", "test", TESTED_ON, "none", "all"),
        ("unknown", "test", FROZEN, "unknown", "unknown"),
        ("unknown", "val", CHOSEN_NOW, "unknown", "all"),
        ("own", "test", NO_POINT, "none", None),
    ],
)
def test_each_case(relation: str, split: str, point_from: str, trained_on: str, chosen_on: str | None) -> None:
    films = seen(relation, split, point_from)  # type: ignore[arg-type]
    assert (films.trained_on, films.chosen_on) == (trained_on, chosen_on)


def test_foreign_films_are_said_to_be_so_and_warn_of_nothing() -> None:
    films = seen("foreign", "all", FROZEN)
    assert not list(films.warnings("this checkpoint"))
    assert films.in_words() == (
        "These films are of another data set than the training's. Unless they are copies, the detector was trained on"
        " none of these films, and its operating point was chosen on none of them."
    )


def test_what_flatters_is_warned_of() -> None:
    assert "trained on are among" in " ".join(seen("own", "train", FROZEN).warnings("A"))
    validation = " ".join(seen("own", "val", FROZEN).warnings("A"))
    assert "was chosen on the films that screening is measured on" in validation
    assert "epoch" in validation
    assert "may have been" in " ".join(seen("unknown", "test", FROZEN).warnings("A"))
    assert "no operating point" in seen("own", "test", NO_POINT).in_words()
