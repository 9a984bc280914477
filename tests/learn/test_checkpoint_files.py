"""Checkpoints: the one before is kept, damage is told, a full disk leaves what was there, and folders may move."""

import errno
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from cxr.files import DamagedFileError, check_digest, why_not_written
from cxr.learn.checkpoint_files import AtomicCheckpointIO, MovedCheckpoints


def epoch(path: Path) -> int:
    check_digest(path)
    return int(torch.load(path, weights_only=True)["epoch"])


def saved(folder: Path, *epochs: int) -> Path:
    for number in epochs:
        AtomicCheckpointIO().save_checkpoint({"epoch": number, "weights": torch.zeros(100)}, folder / "last.ckpt")
    return folder / "last.ckpt"


def test_the_checkpoint_before_stays_with_its_digest(tmp_path: Path) -> None:
    last = saved(tmp_path, 0)
    assert not (tmp_path / "previous.ckpt").exists()
    saved(tmp_path, 1, 2)
    assert (epoch(last), epoch(tmp_path / "previous.ckpt")) == (2, 1)
    AtomicCheckpointIO().save_checkpoint({"epoch": 2}, tmp_path / "best.ckpt")
    assert {path.name for path in tmp_path.glob("*.ckpt")} == {"last.ckpt", "previous.ckpt", "best.ckpt"}


def test_where_there_are_no_links_the_one_before_stays_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    last = saved(tmp_path, 0, 1)
    assert (epoch(last), epoch(tmp_path / "previous.ckpt")) == (1, 0)


def test_what_was_damaged_since_it_was_written_does_not_pass_for_whole_as_the_one_before(tmp_path: Path) -> None:
    last = saved(tmp_path, 0)
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    saved(tmp_path, 1)
    with pytest.raises(DamagedFileError):
        check_digest(tmp_path / "previous.ckpt")


@pytest.mark.parametrize("moves", range(7))
def test_a_kill_between_any_two_steps_leaves_a_whole_checkpoint(
    tmp_path: Path, kill_after: Callable[[int], None], moves: int
) -> None:
    saved(tmp_path, 0, 1)
    kill_after(moves)
    try:
        saved(tmp_path, 2)
    except KeyboardInterrupt:
        assert moves < 6
    assert epoch(tmp_path / "last.ckpt") == (1 if moves < 5 else 2)
    assert epoch(tmp_path / "previous.ckpt") in (0, 1)


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let this process write no file of more than 100,000 bytes."""
    resource = pytest.importorskip("resource", reason="limits of a process are of Unix")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_told_by_the_file_not_by_torchs_unexpected_pos(tmp_path: Path) -> None:
    """The limit of a file's size plays the full disk: the same write() fails, with EFBIG in place of ENOSPC."""
    last = saved(tmp_path, 0)
    with pytest.raises(OSError, match="File too large") as error:
        AtomicCheckpointIO().save_checkpoint({"epoch": 1, "weights": torch.zeros(1_000_000)}, last)
    assert error.value.filename == str(last)
    assert str(why_not_written(error.value)).startswith(f"{last} could not be written")
    assert "unexpected pos" not in str(error.value)
    assert epoch(last) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "last.ckpt.blake2b"}


def test_a_run_that_moved_keeps_the_score_of_its_best_epoch(tmp_path: Path) -> None:
    old, new = ModelCheckpoint(str(tmp_path / "old"), "best", "val/map_50"), ModelCheckpoint(
        str(tmp_path / "new"), "best", "val/map_50"
    )  # fmt: skip
    path = str(tmp_path / "old" / "best.ckpt")
    old.best_model_path = old.kth_best_model_path = path
    old.best_model_score, old.best_k_models = torch.tensor(0.5), {path: torch.tensor(0.5)}
    checkpoint: dict[str, Any] = {"callbacks": {old.state_key: old.state_dict()}}
    trainer = cast(Trainer, SimpleNamespace(checkpoint_callbacks=[new]))
    MovedCheckpoints().on_load_checkpoint(trainer, LightningModule(), checkpoint)
    new.load_state_dict(checkpoint["callbacks"][new.state_key])  # warns, and forgets, where the folder is another
    assert new.best_model_path == str(tmp_path / "new" / "best.ckpt")
    assert new.best_k_models == {new.best_model_path: torch.tensor(0.5)}
    assert new.best_model_score == 0.5
