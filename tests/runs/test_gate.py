"""The gate of a checkpoint: kept as tensors, read back as data, and the same in an exported network's card."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cxr.config.errors import ConfigError
from cxr.detect.views import View
from cxr.read.chest_films import Reason
from cxr.read.known_films import KnownFilms, as_plain, learn
from cxr.runs.checkpoint import Checkpoint, read_checkpoint
from cxr.runs.evaluated_films import NotMeasured, counts, warning
from cxr.runs.gate import _spread, as_tensors, gate, known_films
from cxr.runs.named_detector import NamedDetector


@pytest.fixture(scope="module")
def known() -> KnownFilms:
    """A model of pictures of noise around one pattern."""
    rng = np.random.default_rng(0)
    pattern = np.sin(np.arange(24) / 4)[:, None] * np.ones(24)
    pictures = [np.float32(pattern + rng.normal(0, 0.1, (24, 24))) for _ in range(20)]
    model = learn(pictures[:12], pictures[12:])
    assert model is not None
    return model


def test_a_checkpoint_keeps_it_as_tensors_and_gives_it_back(content: Any, known: KnownFilms, tmp_path: Path) -> None:
    content["cxr"]["known_films"] = as_tensors(known)
    torch.save(content, tmp_path / "a.ckpt")
    (again,) = read_checkpoint(tmp_path / "a.ckpt").known
    assert (again.allowed, again.films, again.chosen_on) == (known.allowed, 12, 8)
    assert all(np.array_equal(getattr(again, name), getattr(known, name)) for name in ("mean", "axes", "spread"))
    assert json.loads(json.dumps(as_plain(again))) == as_plain(known)  # what the card of an exported network holds
    assert as_tensors(None) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": torch.zeros(3)},
        {"axes": "call me"},
        {"spread": torch.full((3,), torch.nan)},
        {"allowed": torch.ones(2)},
    ],
    ids=["shape", "text", "nan", "tensor"],
)
def test_what_is_no_model_of_films_is_refused_by_name(
    content: Any, known: KnownFilms, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    content["cxr"]["known_films"] = {**(as_tensors(known) or {}), **wrong}
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(ConfigError, match=r"a\.ckpt: cxr\.known_films is no model of training films"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_checkpoint_that_does_not_tell_has_a_gate_of_headers_and_says_so(
    written: Callable[..., Checkpoint], known: KnownFilms, caplog: pytest.LogCaptureFixture
) -> None:
    before = written()
    with caplog.at_level(logging.WARNING):
        assert gate(before, True).known == ()
    assert "judged by their headers alone" in caplog.text
    caplog.clear()
    assert gate(replace(before, known=(known,)), True).known == (known,)
    assert gate(replace(before, known=(known,)), False).known == ()
    assert gate(replace(before, kind="CT"), True).known == ()
    assert not caplog.text
    with pytest.raises(ConfigError, match="gate is 'maybe', expected true or false"):
        gate(before, "maybe")  # type: ignore[arg-type]


def test_an_ensemble_has_the_models_of_all_its_members(written: Callable[..., Checkpoint], known: KnownFilms) -> None:
    members = (replace(written(), known=(known,)), replace(written(), known=(known,)))
    assert NamedDetector("two", members, ("a", "b"), (View(),)).checkpoint.known == (known, known)


def test_slices_have_no_model() -> None:
    assert known_films(SimpleNamespace(kind="CT")) is None  # type: ignore[arg-type]


def test_a_film_that_is_not_assessed_is_listed_with_what_its_readers_say() -> None:
    films = [
        NotMeasured("p1", Reason("turned", "the film lies turned by 90 degrees"), "abnormal"),
        NotMeasured("p2", Reason("unlike", "far away"), "normal"),
        NotMeasured("p3", Reason("unlike", "far away"), "unknown"),
    ]
    assert films[0].in_words("en") == "p1: not assessed: the film lies turned by 90 degrees · marked as abnormal"
    assert "標記為異常" in films[0].in_words("zh")
    assert counts(films)["by_reason"] == {"turned": 1, "unlike": 2}
    assert counts(films)["by_state"] == {"abnormal": 1, "normal": 1, "unknown": 1}
    causes = "2 unlike the films of the training, 1 turned by 90 or 180 degrees"
    assert warning(films).startswith(f"3 films are not assessed ({causes}), 1 of them abnormal")


def test_of_many_films_2000_are_looked_at_evenly() -> None:
    chosen = _spread(list(range(5000)))  # type: ignore[arg-type]  # numbers in place of films
    assert len(chosen) == 2000
    assert (chosen[0], chosen[-1]) == (0, 4999)
    assert set(np.diff(chosen)) == {2, 3}  # 4999 / 1999 is 2.5
    assert _spread(list(range(3))) == [0, 1, 2]  # type: ignore[arg-type]
    assert _spread([]) == []
