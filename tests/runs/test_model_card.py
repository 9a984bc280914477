"""The card of a checkpoint: where it lies, what it is named by, and what may stand in it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr.config.errors import ConfigError
from cxr.runs.checkpoint import read_checkpoint
from cxr.runs.frozen_card import card_id
from cxr.runs.measured_notes import home_of, read_notes, write_note
from cxr.runs.model_card import card_revision, main, refresh_card, write_card
from cxr.runs.named_detector import NamedDetector, named_detector


@pytest.fixture
def run(tmp_path: Path, trained: Callable[..., Any]) -> Path:
    """The folder of a run with a checkpoint, as train.py leaves it."""
    path, _ = trained()
    folder = tmp_path / "wang da ming" / "run"
    (folder / "checkpoints").mkdir(parents=True)
    shutil.move(path, folder / "checkpoints" / "best.ckpt")
    write(folder / "command.json", {"overrides": ["data.root=/data/wang da ming", "seed=3"], "config": {}})
    write(folder / "result.json", {"metrics": {"test/map_50": 0.25, "test/loss": 1.0}})
    command = ["train.py", "data.root=/data/wang da ming", "seed=3"]
    write(folder / "provenance.json", [{"command": command, "git": None, "versions": {}, "films": {"train": 8}}])
    return folder


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def of(folder: Path) -> NamedDetector:
    return named_detector(str(folder / "checkpoints" / "best.ckpt"))


def card_in(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return content


def test_the_card_lies_with_the_run_and_names_nobody_and_no_folder(run: Path) -> None:
    assert home_of(of(run)) == run
    write_card(of(run), run)
    text = (run / "card.json").read_text(encoding="utf-8") + (run / "card.html").read_text(encoding="utf-8")
    assert "wang" not in text
    assert str(run) not in text
    (figure,) = card_in(run)["measured"]["training"]
    assert (figure["value"], figure["at"]) == (0.25, "/metrics/test~1map_50")
    assert "http" not in (run / "card.html").read_text(encoding="utf-8")


def test_the_hash_is_that_of_the_model_wherever_it_lies_and_another_one_for_other_weights(
    run: Path, tmp_path: Path
) -> None:
    named = of(run)
    alone = tmp_path / "copied.ckpt"
    shutil.copy(run / "checkpoints" / "best.ckpt", alone)
    assert card_id(named_detector(str(alone))) == card_id(named)
    content = torch.load(alone, weights_only=True)
    content["state_dict"] = {key: value * 2 for key, value in content["state_dict"].items()}
    torch.save(content, alone)
    assert card_id(named_detector(str(alone))) != card_id(named)
    assert home_of(named_detector(str(alone))) is None


def test_a_card_that_is_made_again_is_the_same_file_and_another_language_is_the_same_card(run: Path) -> None:
    write_card(of(run), run)
    before = (run / "card.json").read_bytes()
    write_card(of(run), run, "zh")
    assert (run / "card.json").read_bytes() == before
    assert '<html lang="zh-Hant">' in (run / "card.html").read_text(encoding="utf-8")


def test_the_verb_takes_a_run_and_writes_where_it_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cxr card", str(run), "--out", str(tmp_path / "out")])
    main()
    card = card_in(tmp_path / "out")
    assert card["measured"]["training"]  # what was measured is read where the run lies
    assert f"model card {card['id']}, revision {card['revision']}" in " ".join(capsys.readouterr().out.split())
    alone = shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt")
    monkeypatch.setattr("sys.argv", ["cxr card", str(alone)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "lies in no run's folder; type --out FOLDER" in capsys.readouterr().err


def test_what_is_measured_later_makes_another_revision_of_the_same_card(run: Path) -> None:
    named = of(run)
    refresh_card(named)
    first = card_in(run)
    content = {"films": 3, "scores": [explained("box")], "sanity": {"box": {"head": 0.5}}}
    (note,) = [write_note(run, named, "explain", run, content)]
    refresh_card(named)
    later = card_in(run)
    assert later["id"] == first["id"] == card_id(named)
    assert later["revision"] != first["revision"]
    assert card_revision(named) == later["revision"]
    (figure,) = later["measured"]["explanations"][0]["figures"]
    assert (figure["source"], figure["at"], figure["value"]) == (note.stem, "/scores/0", 0.5)
    assert later["sources"][note.stem]["command"].startswith(("python explain.py", "cxr explain"))


def test_a_note_about_other_weights_is_not_believed(run: Path) -> None:
    named = of(run)
    path = write_note(run, named, "explain", run, {"films": 3, "scores": [], "sanity": {}})
    assert [name for name, _ in read_notes(run, named, "explain")] == [path.stem]
    assert not list(read_notes(run, replace(named, digests=("0123456789abcdef",)), "explain"))
    path.write_text("{", encoding="utf-8")  # cut short
    assert not list(read_notes(run, named, "explain"))


def test_a_card_that_somebody_changed_is_not_named(run: Path) -> None:
    named = of(run)
    refresh_card(named)
    card = card_in(run)
    write(run / "card.json", {**card, "limits": []})
    assert card_revision(named) == ""


def test_a_checkpoint_without_counts_of_its_splits_says_so(run: Path) -> None:
    write_card(of(run), run)
    card = card_in(run)
    assert card["frozen"]["data"]["splits"] == {}
    assert "counts_unknown" in {limit["code"] for limit in card["limits"]}
    assert "is not recorded in this checkpoint" in (run / "card.html").read_text(encoding="utf-8")


def test_counts_that_are_no_counts_are_refused_with_their_place(run: Path) -> None:
    path = run / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    names = [one["name"] for one in content["cxr"]["findings"]["findings"]]
    of_finding = {"items": 1, "boxes": 1, "looked_for": 8}
    split = {"items": 8, "patients": 8, "normal": 2, "unmarked": 0, "findings": dict.fromkeys(names, of_finding)}
    whole = {"train": split, "val": split, "test": split}
    for splits, message in (
        ({"train": split}, r"cxr\.splits has \['train'\], expected train, val, test"),
        ({**whole, "val": {**split, "items": -1}}, r"cxr\.splits\.val\.items is -1, expected a number from 0 up"),
        ({**whole, "val": {**split, "items": True}}, r"cxr\.splits\.val\.items is True"),
        ({**whole, "test": {**split, "findings": {"x": of_finding}}}, r"splits\.test\.findings has \['x'\]"),
        ({**whole, "test": 7}, r"cxr\.splits\.test is 7, expected counts by name"),
    ):
        torch.save({**content, "cxr": {**content["cxr"], "splits": splits}}, path)
        with pytest.raises(ConfigError, match=message):
            read_checkpoint(path)
    torch.save({**content, "cxr": {**content["cxr"], "splits": whole}}, path)
    assert read_checkpoint(path).splits == whole


def explained(method: str) -> dict[str, Any]:
    row = {"finding": "all", "method": method, "figure": "hit", "value": 0.5, "low": 0.4, "high": 0.6}
    return {**row, "boxes": 4, "patients": 4}
