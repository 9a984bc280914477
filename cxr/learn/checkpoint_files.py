"""Checkpoints that are whole or absent, that tell damage, and that load without executing code, wherever they moved."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from cxr.files import digest_file, digest_of, new_digest, noted_digests, part_of, place_with_digest

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"
"""Of the whole epoch before ``last.ckpt``, beside it: what a run goes on from where that one is damaged."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place, to the disk, and move it there in one step, with its digest beside it.

    Lightning's own writer makes its temporary file in the system's temporary folder; where that is another file
    system the move is a copy, and a run killed during it leaves a torn ``last.ckpt`` and cannot resume.

    The ``last.ckpt`` before stays as ``previous.ckpt``. There is a ``last.ckpt`` at any moment.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to the local ``path``; a reader never sees a part of it.

        Raises ``OSError`` with the path where the disk is full; what was there before is there then.
        """
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        with part_of(place) as part:
            digest = _write(checkpoint, part)
            if place.name == LAST and place.exists():
                _keep(place, place.with_name(PREVIOUS))
            place_with_digest(part, place, digest)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, loc: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint of this project as plain data: ``weights_only`` is always true, whatever is asked."""
        return super().load_checkpoint(path, map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint that is no longer among the best, with its digest."""
        super().remove_checkpoint(path)
        digest_file(Path(path)).unlink(missing_ok=True)


class MovedCheckpoints(Callback):
    """Lets a run go on in another folder than it was begun in.

    The state of Lightning's ``ModelCheckpoint`` names its folder, and where it is another one the score of the best
    epoch is forgotten. So the folder of each is replaced by the one it writes to now.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Rewrite the paths in the states of ``checkpoint`` before they are taken up."""
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            there, here = (state or {}).get("dirpath"), getattr(callback, "dirpath", None)
            if isinstance(there, str) and here is not None and there != str(here):
                checkpoint["callbacks"][callback.state_key] = _moved(state, there, str(here))


def _moved(node: Any, there: str, here: str) -> Any:
    """Return ``node`` with every path that lies in the folder ``there`` in the folder ``here``, keys included."""
    if isinstance(node, dict):
        return {_moved(key, there, here): _moved(value, there, here) for key, value in node.items()}
    if isinstance(node, str) and (node == there or node.startswith(there + os.sep)):
        return here + node[len(there) :]
    return node


def _write(checkpoint: dict[str, Any], part: Path) -> str:
    """Write ``checkpoint`` to ``part`` and to the disk, and return its digest."""
    with part.open("xb") as file:
        stream = _Digesting(file)
        try:
            torch.save(checkpoint, cast(IO[bytes], stream))
        except Exception as error:  # torch speaks of an "unexpected pos" where the disk is full
            raise stream.error or error from None
        file.flush()
        os.fsync(file.fileno())
    return stream.digest.hexdigest()


class _Digesting:
    """A file to write to that digests what it is given, and keeps the error that ended the writing."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = new_digest()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        self.digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._file.flush()


def _keep(last: Path, previous: Path) -> None:
    """Give the file at ``last``, with its digest, the name ``previous`` too, in the place of the one before."""
    noted = noted_digests(last)  # not computed anew: what was damaged since must not pass for whole
    digest = noted[0] if noted else digest_of(last)
    with part_of(previous) as part:
        try:
            part.hardlink_to(last)
        except OSError:  # a file system without links: for a moment there is no last.ckpt, only the one before
            last.replace(part)
        place_with_digest(part, previous, digest)
