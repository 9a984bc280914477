"""What is no checkpoint is refused in words, and no code in one is ever run."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr.config.errors import ConfigError
from cxr.runs.checkpoint import read_checkpoint


def test_what_is_no_checkpoint_is_refused_in_words(tmp_path: Path, trained: Any) -> None:
    whole = trained()[0].read_bytes()
    for name, content, message in (
        ("page.ckpt", b"<html>not found</html>" * 50, "not a checkpoint"),
        ("empty.ckpt", b"", "not a checkpoint: it is empty|Ran out of input"),
        ("torn.ckpt", whole[: len(whole) // 2], "not a checkpoint"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=rf"{name}: ({message})"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(ConfigError, match=r"nothing\.ckpt: there is no such file, expected a checkpoint of train"):
        read_checkpoint(tmp_path / "nothing.ckpt")


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder; there is no such file, expected a checkpoint of train"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "not a checkpoint of this project"),
        ({"epoch": 3, "state_dict": {}}, "not a checkpoint of this project: expected 'state_dict' and 'cxr'"),
        ({"state_dict": {}, "cxr": {}}, "cxr.config is NoneType, expected dict"),
        (
            {"state_dict": {}, "cxr": {"config": {}, "findings": {"findings": []}, "data": "", "versions": {}}},
            "cxr.findings is no vocabulary: a vocabulary needs at least one finding",
        ),
    ],
)
def test_a_checkpoint_of_another_program_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ConfigError, match=rf"other\.ckpt: {message}"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_an_operating_point_comes_along_and_must_be_plain(
    tmp_path: Path, written: Any, composed: Any, card: Any
) -> None:
    assert written().operating_point is None
    content = {"state_dict": {}, "cxr": card(composed()) | {"operating_point": {"threshold": 0.25}}}
    torch.save(content, tmp_path / "with.ckpt")
    assert read_checkpoint(tmp_path / "with.ckpt").operating_point == {"threshold": 0.25}
    content["cxr"]["operating_point"] = 0.25
    torch.save(content, tmp_path / "with.ckpt")
    with pytest.raises(ConfigError, match=r"with\.ckpt: cxr\.operating_point is float, expected dict"):
        read_checkpoint(tmp_path / "with.ckpt")


class Payload:
    """Unpickled the unsafe way, it makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.sentinel}",)


def test_a_checkpoint_that_holds_code_is_refused_and_nothing_of_it_is_run(tmp_path: Path) -> None:
    path, sentinel = tmp_path / "bad.ckpt", tmp_path / "sentinel"
    torch.save({"state_dict": {}, "cxr": Payload(sentinel)}, path)
    with pytest.raises(ConfigError, match=r"bad\.ckpt: .* names posix\.system, .*Nothing of it was run") as refused:
        read_checkpoint(path)
    assert "weights_only" not in str(refused.value)  # torch's own words advise to load the file unsafely
    path.write_bytes(pickle.dumps(Payload(sentinel), protocol=2))
    with pytest.raises(ConfigError, match=r"bad\.ckpt: not a checkpoint"):
        read_checkpoint(path)
    assert not sentinel.exists()
    pickle.loads(path.read_bytes())  # noqa: S301  the payload is a live one
    assert sentinel.exists()
