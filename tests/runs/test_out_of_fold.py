"""No film is judged by what learnt from its patient, however it is tried. Checkpoints and films are stand-ins here."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from cxr.config.errors import ConfigError
from cxr.data.film import Film
from cxr.findings import FindingVocabulary
from cxr.measure.results import FilmResult
from cxr.runs import out_of_fold
from cxr.runs.checkpoint import Checkpoint
from cxr.runs.named_detector import NamedDetector
from cxr.runs.out_of_fold import chosen_on, folds_of

NOTHING = np.zeros((0, 4), np.float32)


def film(number: int, patient: int) -> Film:
    return Film(Path(f"{number}.dcm"), str(number), f"study-{number}", f"patient-{patient}", NOTHING, (), 64, 64)


FILMS = [film(number, number) for number in range(4)]


@dataclass
class Data:
    """A data module whose films have their own names as pixels."""

    films: dict[str, list[Film]]
    root: str = "films"
    readable: list[Film] = field(init=False)

    def __post_init__(self) -> None:
        self.readable = [one for some in self.films.values() for one in some]
        self.cache = SimpleNamespace(get=lambda path: SimpleNamespace(digest=f"{int(path.stem):016x}"))

    def prepare_data(self) -> None: ...

    def setup(self) -> None: ...


def digests(films: Sequence[Film]) -> np.ndarray:
    return np.array(sorted(int(one.id) for one in films), np.int64)


def member(fold: int, data: Data, folds: int = 2) -> Checkpoint:
    config = {"data": {"fold": fold, "folds": folds}}
    known = {split: digests(films) for split, films in data.films.items()}
    return Checkpoint(Path(f"{fold}.ckpt"), config, FindingVocabulary([{"name": "heart"}]), "", {}, {}, films=known)


def named(*members: Checkpoint, folder: Path | None = Path("sweep")) -> NamedDetector:
    return NamedDetector("sweep", members, ("",) * len(members), (), folder)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> list[Data]:
    """Two folds of two films each; ``folds_of`` reads them for the member of that number."""
    both = [
        Data({"train": FILMS[2:], "val": FILMS[:2], "test": []}),
        Data({"train": FILMS[:2], "val": FILMS[2:], "test": []}),
    ]
    monkeypatch.setattr(out_of_fold, "load_data", lambda checkpoint, _: both[checkpoint.config["data"]["fold"]])
    return both


def sweep(data: list[Data], **changes: Any) -> NamedDetector:
    first = member(0, data[0])
    return named(replace(first, films={**first.films, **changes}), member(1, data[1]))


def test_each_film_has_the_member_that_was_not_trained_on_it(data: list[Data]) -> None:
    folds = folds_of(sweep(data), {})
    assert [[one.id for one in fold.films] for fold in folds] == [["0", "1"], ["2", "3"]]
    assert [one.id for one in out_of_fold.in_order(reversed(folds))] == ["0", "1", "2", "3"]


def test_a_film_sneaked_into_a_training_is_found_by_its_pixels(data: list[Data]) -> None:
    with pytest.raises(ConfigError, match=r"0.ckpt was trained on film study-1, which it would have to judge"):
        folds_of(sweep(data, train=digests(FILMS[1:])), {})


def test_another_film_of_a_judged_patient_in_the_training_is_found(data: list[Data]) -> None:
    second = film(7, patient=1)
    data[0].films["train"].append(second)
    data[0].readable.append(second)
    with pytest.raises(ConfigError, match="trained on another film of the patient of film study-1"):
        folds_of(sweep(data, train=digests([*FILMS[2:], second])), {})


def test_a_film_that_came_after_the_training_is_not_judged(data: list[Data]) -> None:
    with pytest.raises(ConfigError, match=r"film study-1 was not there when 0.ckpt was trained"):
        folds_of(sweep(data, val=digests(FILMS[:1])), {})


def test_a_film_in_two_folds_or_in_none_is_refused(data: list[Data]) -> None:
    data[1].films["val"].append(FILMS[0])
    data[1].films["train"].remove(FILMS[0])
    with pytest.raises(ConfigError, match="1 films do not lie in one fold, the first is study-0, in 2"):
        folds_of(named(member(0, data[0]), member(1, data[1])), {})
    data[1].films["val"].remove(FILMS[0])
    data[0].films["val"].remove(FILMS[0])
    data[0].films["train"].append(FILMS[0])
    with pytest.raises(ConfigError, match="the first is study-0, in 0"):
        folds_of(named(member(0, data[0]), member(1, data[1])), {})


@pytest.mark.parametrize("numbers", [[(0, 3), (1, 3)], [(0, 2), (0, 2)], [(0, None), (0, None)], [(0, 1)]])
def test_what_is_no_whole_set_of_folds_is_refused(data: list[Data], numbers: list[tuple[int, int]]) -> None:
    members = [member(fold, data[0], cast(int, folds)) for fold, folds in numbers]
    with pytest.raises(ConfigError, match="expected the folder of a sweep with each fold once"):
        folds_of(named(*members), {})


def test_a_sweep_with_jobs_beside_its_folds_is_refused(data: list[Data]) -> None:
    with pytest.raises(ConfigError, match="with each fold once"):  # its ensemble.json would fit no later command
        folds_of(replace(sweep(data), left_out=2), {})


def test_a_list_of_checkpoints_and_other_films_are_refused(data: list[Data]) -> None:
    whole = sweep(data)
    with pytest.raises(ConfigError, match="expected the folder of a sweep"):
        folds_of(replace(whole, folder=None), {})
    with pytest.raises(ConfigError, match="leave data=… out"):
        folds_of(whole, {"_target_": "x"})


def test_thresholds_are_those_of_calibrated_scores_and_each_finding_has_its_own_curve() -> None:
    here, there = ([[0, 0, 9, 9]], [[50, 50, 60, 60]])
    results = [
        FilmResult(
            f"{label}-{number}",
            f"{label}-{number}",
            (64, 64),
            np.array(here, np.float32),
            np.array([label]),
            np.array(here if number < right else there, np.float32),
            np.array([label]),
            np.array([0.9], np.float32),
            np.full(2, 0.9, np.float32),
            0.9,
        )
        for label, right in ((1, 24), (2, 36))
        for number in range(48)
    ]
    frozen = chosen_on(results, ["heart", "spine"], 0.9)
    for name, share in (("heart", 0.5), ("spine", 0.75)):
        assert float(frozen.curves[name](np.array([0.9], np.float32))[0]) == pytest.approx(share, abs=0.02)
        assert frozen.thresholds[name] == pytest.approx(share, abs=0.02)
