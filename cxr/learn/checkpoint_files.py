"""Files of checkpoints: whole or absent, with a digest that shows damage, loaded without running code from them."""

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
"""The checkpoint of the epoch before ``last.ckpt``, in the same folder. A run goes on from it if this is damaged."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint to a temporary file in the same folder, flush it to disk, then rename it. Add its digest.

    Lightning's own writer uses the system's temporary folder. If that is on another file system, the move is a copy,
    and a run killed meanwhile leaves half a ``last.ckpt`` and cannot resume.

    The ``last.ckpt`` of the epoch before stays as ``previous.ckpt``. There is a ``last.ckpt`` at any moment.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to the local ``path``; a reader never sees a part of it.

        Raises ``OSError`` with the path if the disk is full; the earlier file then stays.
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
        """Read a checkpoint of this project as plain data; ``weights_only`` is always True, whatever the argument."""
        return super().load_checkpoint(path, map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint that is no longer one of the best, with its digest."""
        super().remove_checkpoint(path)
        digest_file(Path(path)).unlink(missing_ok=True)


class MovedCheckpoints(Callback):
    """Lets a run go on in another folder than the one in which it began.

    The state of Lightning's ``ModelCheckpoint`` contains its folder, and if that has changed, Lightning forgets the
    score of the best epoch. So the folder in each state is replaced by the present one.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Rewrite the paths in the states of ``checkpoint`` before Lightning loads them."""
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            there, here = (state or {}).get("dirpath"), getattr(callback, "dirpath", None)
            if isinstance(there, str) and here is not None and there != str(here):
                checkpoint["callbacks"][callback.state_key] = _moved(state, there, str(here))


def _moved(node: Any, there: str, here: str) -> Any:
    """Return ``node`` with the folder ``there`` replaced by ``here`` in every path, also in keys."""
    if isinstance(node, dict):
        return {_moved(key, there, here): _moved(value, there, here) for key, value in node.items()}
    if isinstance(node, str) and (node == there or node.startswith(there + os.sep)):
        return here + node[len(there) :]
    return node


def _write(checkpoint: dict[str, Any], part: Path) -> str:
    """Write ``checkpoint`` to the file ``part``, flush it to disk, and return its digest."""
    with part.open("xb") as file:
        stream = _Digesting(file)
        try:
            torch.save(checkpoint, cast(IO[bytes], stream))
        except Exception as error:  # torch reports a full disk as "unexpected pos"
            raise stream.error or error from None
        file.flush()
        os.fsync(file.fileno())
    return stream.digest.hexdigest()


class _Digesting:
    """A file that computes the digest of all data written to it, and keeps the error that ended the writing."""

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
    """Give the file ``last``, with its digest, the second name ``previous``, which replaces an earlier file."""
    noted = noted_digests(last)  # not computed again: a file that was damaged since must not count as whole
    digest = noted[0] if noted else digest_of(last)
    with part_of(previous) as part:
        try:
            part.hardlink_to(last)
        except OSError:  # a file system without links: for a moment there is only previous.ckpt
            last.replace(part)
        place_with_digest(part, previous, digest)
