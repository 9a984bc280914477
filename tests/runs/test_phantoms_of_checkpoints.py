"""A checkpoint of phantoms draws none by itself: they are read where they are, and drawn where the user says so."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr.findings import FindingVocabulary
from cxr.phantom.anatomy import FINDINGS as DRAWN
from cxr.phantom.drawn_set import PhantomError
from cxr.phantom.thorax import FINDINGS as DRAWN_SERIES
from cxr.runs.checkpoint import read_checkpoint
from cxr.runs.restore import load_data
from scripts import ROOT, table


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def test_phantoms_that_are_there_are_read_and_nothing_is_written_beside_them(
    tmp_path: Path, monkeypatch: Any, content: Any, draw_phantoms: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_phantoms(tmp_path / "phantoms")
    (tmp_path / "phantoms" / ".phantom.lock").unlink()  # a folder of another machine, which is read only
    before = files(tmp_path / "phantoms")
    torch.save(content | {"state_dict": {}}, "a.ckpt")
    data = load_data(with_all_findings(tmp_path / "a.ckpt"))
    data.prepare_data()
    assert files(tmp_path / "phantoms") == before
    (tmp_path / "phantoms" / "test.csv").touch()
    Path("phantoms/phantom.json").replace("phantoms/phantom.unfinished.json")
    with pytest.raises(PhantomError, match="are not there, or not all of them"):
        load_data(with_all_findings(tmp_path / "a.ckpt")).prepare_data()


def with_all_findings(path: Path) -> Any:
    """Return the checkpoint with the vocabulary of the phantoms."""
    return replace(read_checkpoint(path), findings=FindingVocabulary([{"name": name} for name in DRAWN]))


def test_the_user_may_have_them_drawn(tmp_path: Path, monkeypatch: Any, content: Any) -> None:
    monkeypatch.chdir(tmp_path)
    content["cxr"]["config"]["data"]["read"]["workers"] = 1
    torch.save(content | {"state_dict": {}}, "a.ckpt")
    checkpoint = with_all_findings(tmp_path / "a.ckpt")
    load_data(checkpoint, {"read": {"draw": True}}).prepare_data()
    rows = table(tmp_path / "phantoms" / "train.csv")
    assert len({row["ID"] for row in rows}) == 8  # as many as the checkpoint's config says
    assert len(list((tmp_path / "phantoms" / "test").rglob("*.dcm"))) == 2


@pytest.mark.parametrize("module", ["phantom", "phantom_volume", "phantom_patients"])
def test_every_reader_that_draws_can_be_told_not_to(tmp_path: Path, module: str) -> None:
    readers = vars(importlib.import_module(f"cxr.data.sources.{module}"))
    (read,) = (reader for name, reader in readers.items() if name.startswith("read_phantom"))
    names = {"phantom": DRAWN, "phantom_volume": DRAWN_SERIES, "phantom_patients": ("disease",)}[module]
    findings = FindingVocabulary([{"name": name} for name in names])
    with pytest.raises(PhantomError, match=r"are not there.*\+data\.read\.draw=true"):
        read(tmp_path / "phantoms", findings, draw=False)
    assert not (tmp_path / "phantoms").exists()


def test_no_other_function_named_as_a_reader_draws() -> None:
    places = [path for path in (ROOT / "cxr").rglob("*.py") if "def read_phantom" in path.read_text(encoding="utf-8")]
    assert sorted(path.stem for path in places) == ["phantom", "phantom_patients", "phantom_volume"]
