"""What predict.py detects with: a checkpoint in PyTorch, or the network that export.py made of one."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch

from cxr.config.errors import ConfigError
from cxr.detect.film_detector import FilmDetector
from cxr.detect.stream import SIDE_BY_SIDE
from cxr.export.card import CARD
from cxr.export.detector import open_exported
from cxr.files import short_digest_of
from cxr.installation import command
from cxr.runs.checkpoint import Checkpoint, read_checkpoint
from cxr.runs.exported import as_checkpoint, read_card
from cxr.runs.restore import load_task

EAGER = "eager"
RUNTIMES = (EAGER, "onnx", "openvino")  # not torch: a TorchScript archive is a program, and may come from anywhere
_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}


def restored(ckpt: str, runtime: str, batch: int, trust: Sequence[str] = ()) -> tuple[Checkpoint, str, FilmDetector]:
    """Return what ``ckpt`` says of its films, the checkpoint's hash, and what detects: on the GPU where there is one.

    With another ``runtime`` than ``EAGER``, ``ckpt`` is a folder of export.py, the checkpoint has no weights, and the
    task is an ``ExportedDetector``, to which most films come ``batch`` at once. Raises ``ConfigError``.
    """
    path = Path(ckpt)
    if runtime == EAGER:
        if path.is_dir() and (path / CARD).is_file():
            raise ConfigError(f"ckpt={ckpt} is a folder of export.py; type runtime={read_card(path).runtime} too")
        checkpoint = read_checkpoint(path, trust)
        task = load_task(checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
        return checkpoint, short_digest_of(path), task
    if path.is_file():
        raise ConfigError(
            f"runtime={runtime} wants a folder of export.py, not a file;"
            f" type {command('export')} ckpt={ckpt} to={runtime}"
        )
    if importlib.util.find_spec(_PACKAGES[runtime]) is None:
        raise ConfigError(f"runtime={runtime} needs {_PACKAGES[runtime]}: pip install 'cxr[export]'")
    card = read_card(path)
    if card.runtime != runtime:
        raise ConfigError(f"ckpt={ckpt} was exported for {card.runtime}, not for {runtime}; export it to={runtime}")
    threads = torch.get_num_threads()
    exported = open_exported(path, card, callers=min(SIDE_BY_SIDE, threads), threads=threads, batch=batch)
    return as_checkpoint(card, path), card.checkpoint, exported
