"""A folder of export.py is read as data: what does not fit is refused by name, and nothing that it names is called."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cxr.config.errors import ConfigError
from cxr.export.card import CARD, Card
from cxr.files import digest_of
from cxr.runs.exported import as_checkpoint, read_card, write_card
from cxr.runs.predict_exported import restored
from cxr.runs.restore import intensity_of_films, restored_intensity
from cxr.runs.restored_network import operating_point

LOG = {"_target_": "cxr.read.intensity.LogWindow", "scale": 2.5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as export.py leaves it; its network is never opened here."""
    (tmp_path / "model.onnx").write_bytes(b"a network")
    card = Card(
        runtime="onnx",
        files={"model.onnx": digest_of(tmp_path / "model.onnx")},
        detector="fasterrcnn_tiny",
        checkpoint="0123456789abcdef",
        findings={"findings": [{"name": "heart", "chinese": "心", "aliases": ["cor"]}], "normal": ["no finding"]},
        size=128,
        channels=1,
        stride=32,
        outputs=("boxes", "labels", "scores"),
        intensity={"_target_": "cxr.read.intensity.Intensity", "steps": [LOG]},
        kind=None,
        score_thresh=0.01,
        detections_per_img=100,
        box_weight=0.25,
        film_weight=0.5,
        operating_point=None,
        versions={"torch": "2"},
        compared={"films": 121},
    )
    write_card(card, tmp_path)
    return tmp_path


def change(folder: Path, **entries: Any) -> None:
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    (folder / CARD).write_text(json.dumps({**card, **entries}), encoding="utf-8")


def test_a_card_comes_back_as_it_was_written_and_is_plain_json(folder: Path) -> None:
    card = read_card(folder)
    assert (card.size, card.box_weight, card.outputs) == (128, 0.25, ("boxes", "labels", "scores"))
    again = folder / "again"
    again.mkdir()
    (again / "model.onnx").write_bytes(b"a network")
    write_card(card, again)
    assert read_card(again) == card
    assert [path.name for path in folder.glob(f"*{CARD}*")] == [CARD]  # moved into place whole
    checkpoint = as_checkpoint(card, folder)
    assert checkpoint.findings.names == ("heart",)
    assert checkpoint.findings.index("cor") == 1
    assert checkpoint.size == 128
    assert "LogWindow(scale=2.5" in intensity_of_films(checkpoint).fingerprint()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format": 2}, "expected an object whose format is 1"),
        ({"size": "128"}, "size is '128', expected int"),
        ({"size": True}, "size is True, expected int"),
        ({"size": 31}, "size is 31, expected 32 or more"),
        ({"box_weight": 1.5}, "box_weight is 1.5, expected 0 to 1"),
        ({"kind": 3}, "kind is 3, expected str or null"),
        ({"runtime": "tensorrt"}, "runtime is 'tensorrt', expected one of onnx, openvino, torch"),
        ({"findings": {"findings": []}}, "findings is no vocabulary"),
        ({"findings": {"nonsense": 1}}, "findings is no vocabulary"),
        ({"findings": {"long " * 1000: 1}}, "findings is no vocabulary"),
        ({"files": {}}, "files is empty"),
        ({"files": {"../model.onnx": ""}}, "files names '../model.onnx', and there is no such file in its folder"),
        ({"files": {"other.onnx": ""}}, "files names 'other.onnx'"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_found(folder: Path, entries: dict[str, Any], message: str) -> None:
    change(folder, **entries)
    with pytest.raises(ConfigError) as error:
        read_card(folder)
    assert message in str(error.value)
    assert CARD in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_network_that_is_not_the_one_of_the_card_is_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"another network")
    with pytest.raises(ConfigError, match=r"model\.onnx: not the file that export\.json was written for"):
        read_card(folder)


def test_a_folder_without_a_card_and_a_torn_one_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / CARD).write_text('{"format": 1, "run', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"export\.json cannot be read"):
        read_card(folder)
    (folder / CARD).unlink()
    with pytest.raises(ConfigError, match=r"expected a folder of python export\.py"):
        read_card(folder)


def test_a_card_larger_than_any_is_refused_unread(folder: Path) -> None:
    os.truncate(folder / CARD, 16 * 2**20 + 1)
    with pytest.raises(ConfigError, match=r"export\.json has 16,777,217 bytes, expected at most 16,777,216$"):
        read_card(folder)


@pytest.mark.parametrize(("runtime", "name"), [("onnx", "model.onnx"), ("openvino", "model.xml")])
def test_a_network_that_its_runtime_cannot_open_is_told_in_one_sentence(folder: Path, runtime: str, name: str) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(runtime, runtime), reason="extra export")
    (folder / name).write_bytes(b"no network")
    change(folder, runtime=runtime, files={name: digest_of(folder / name)})
    with pytest.raises(ConfigError) as error:
        restored(str(folder), runtime, batch=8)
    assert str(error.value).startswith(f"{folder}: {runtime} cannot open its network (")
    assert str(error.value).endswith("); export it anew")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "hostile",
    [
        {"_target_": "os.system", "command": "touch pwned"},
        {"_target_": "cxr.read.intensity.Intensity", "steps": [{"_target_": "builtins.exec"}]},
        {"_target_": "cxr.read.intensity.Intensity", "steps": [{**LOG, "scale": {"_target_": "os.system"}}]},
        {"_target_": "cxr.read.modality.Path"},
    ],
)
def test_what_a_card_names_of_an_intensity_is_held_to_what_a_checkpoint_may_name(
    folder: Path, hostile: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[object] = []
    monkeypatch.setattr(os, "system", called.append)
    change(folder, intensity=hostile)
    with pytest.raises(ConfigError, match=r"export\.json: its config's data\.intensity"):
        restored_intensity(as_checkpoint(read_card(folder), folder))
    assert not called


@pytest.mark.parametrize(
    ("runtime", "file", "message"),
    [
        ("eager", "", "is a folder of export.py; type runtime=onnx too"),
        ("openvino", "", "was exported for onnx, not for openvino; export it to=openvino"),
        ("onnx", "model.onnx", "wants a folder of export.py, not a file; type python export.py"),
        ("onnx", "nowhere", "expected a folder of python export.py"),
    ],
)
def test_a_folder_and_a_runtime_that_do_not_go_together_are_told(
    folder: Path, runtime: str, file: str, message: str
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="extra export")
    if file != "model.onnx":
        pytest.importorskip("onnxruntime", reason="extra export")
    with pytest.raises(ConfigError) as error:
        restored(str(folder / file), runtime, batch=8)
    assert message in str(error.value)


def test_a_damaged_operating_point_of_a_card_is_refused(folder: Path) -> None:
    assert operating_point(as_checkpoint(read_card(folder), folder)) is None
    change(folder, operating_point={"threshold": 0.5})
    with pytest.raises(ConfigError, match=r"cxr\.operating_point does not fit this version: it has the fields"):
        operating_point(as_checkpoint(read_card(folder), folder))
