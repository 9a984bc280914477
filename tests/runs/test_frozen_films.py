"""What a checkpoint keeps of groups and of what films are like: taken back as it was, refused in words, or absent."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cxr.config.errors import ConfigError
from cxr.data.film import Film
from cxr.data.groups import KINDS, NOT_STATED, counted
from cxr.measure.results import FilmResult
from cxr.measure.shift import FEATURES, PIXELS, SCORES, Reference
from cxr.runs.checkpoint import Checkpoint, read_checkpoint
from cxr.runs.evaluated_groups import least_patients
from cxr.runs.frozen_films import as_tensors, film_rows
from cxr.runs.named_detector import NamedDetector

COUNTS = counted([dict.fromkeys(KINDS, NOT_STATED) | {"sex": "F"}] * 12, [f"p{n}" for n in range(12)])
REFERENCE = Reference(FEATURES, np.arange(4 * len(FEATURES), dtype=np.float32).reshape(4, -1))


@pytest.fixture
def kept(tmp_path: Path, composed: Any, card: Any) -> Any:
    """Return what reads a checkpoint with these entries back."""

    def read(**entries: Any) -> Checkpoint:
        torch.save({"state_dict": {}, "cxr": card(composed()) | entries}, tmp_path / "a.ckpt")
        return read_checkpoint(tmp_path / "a.ckpt")

    return read


def test_groups_and_reference_come_back_and_old_checkpoints_have_none(kept: Any) -> None:
    read = kept(groups=COUNTS, reference=as_tensors(REFERENCE))
    assert read.groups["kinds"]["sex"] == {"F": {"films": 12, "patients": 12}}
    assert read.reference.features == FEATURES
    np.testing.assert_array_equal(read.reference.rows, REFERENCE.rows)
    old = kept()
    assert (old.groups, old.reference) == (None, None)
    assert as_tensors(None) is None


def test_what_is_damaged_is_refused_with_the_entry_it_stands_in(kept: Any) -> None:
    with pytest.raises(ConfigError, match=r"a\.ckpt: cxr\.groups does not count the groups of films: films is no num"):
        kept(groups={**COUNTS, "films": "many"})
    with pytest.raises(ConfigError, match=r"a\.ckpt: cxr\.reference does not describe films: it has the feature 'n"):
        kept(reference={"features": ["name"], "rows": torch.zeros(1, 1)})
    with pytest.raises(ConfigError, match=r"a\.ckpt: cxr\.reference is list, expected dict"):
        kept(reference=[1])


def test_checkpoints_that_answer_as_one_are_compared_by_how_films_were_taken(kept: Any) -> None:
    member = kept(groups=COUNTS, reference=as_tensors(REFERENCE))
    ensemble = NamedDetector("a,b", (member, member), ("1", "2"), ())
    assert ensemble.checkpoint.reference is not None
    assert ensemble.checkpoint.reference.features == PIXELS
    assert ensemble.checkpoint.reference.films == 4
    assert ensemble.checkpoint.groups is None


@pytest.mark.parametrize("least", [9, 0, True, "20", 20.0])
def test_a_group_that_may_lead_to_a_patient_cannot_be_asked_for(least: Any) -> None:
    with pytest.raises(ConfigError, match=r"subgroups\.least is .*, expected 10 patients or more"):
        least_patients({"subgroups": {"least": least}})
    assert least_patients({"subgroups": {"least": 10}}) == 10


def test_scores_of_boxes_that_are_not_all_there_are_not_compared() -> None:
    pixels = np.full((32, 32), 32768, np.uint16)
    cache: Any = SimpleNamespace(get=lambda path: SimpleNamespace(pixels=pixels))
    none = np.zeros((0, 4), np.float32)
    film = Film(Path("a"), "1", "s", "p", none, (), 32, 32)
    labels, scores = np.array([1, 1], np.int64), np.array([0.5, 0.25], np.float32)
    boxes = np.zeros((2, 4), np.float32)
    said = FilmResult("s", "p", (32, 32), none, labels[:0], boxes, labels, scores, scores[:1], 0.75)
    films = [film, replace(film, labelled=frozenset({"nodule"})), film]
    whole, part, refused = film_rows(films, [said, said, None], cache, ())[:, len(FEATURES) - len(SCORES) :].tolist()
    assert whole == [0.75, 0.5, 0.75]
    assert part[0] == 0.75
    assert np.isnan([*part[1:], *refused]).all()
