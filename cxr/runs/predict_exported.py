"""What predict.py detects with: checkpoints in PyTorch, or the network that export.py made of one."""

import importlib.metadata
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cxr.config.errors import ConfigError
from cxr.detect.film_detector import FilmDetector
from cxr.detect.stream import SIDE_BY_SIDE
from cxr.export.card import CARD
from cxr.export.detector import open_exported
from cxr.installation import command
from cxr.report.algorithm import Algorithm
from cxr.report.promise_words import too_few
from cxr.runs.checkpoint import Checkpoint
from cxr.runs.exported import as_checkpoint, read_card
from cxr.runs.frozen_card import card_id
from cxr.runs.model_card import card_revision
from cxr.runs.named_detector import named_detector
from cxr.runs.promised import shown_by

EAGER = "eager"
RUNTIMES = (EAGER, "onnx", "openvino")  # not torch: a TorchScript archive is a program, and may come from anywhere
_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class Restored:
    """What detects, and what is known of it.

    Args:
        checkpoint: what it says of its films; without weights where there are others or several.
        digest: hash of all that decides about the answers.
        task: on the GPU where there is one.
        thresholds: finding → the score from which up its boxes are shown, where a sweep has frozen them.
        no_point: why there is no operating point of screening, where there is none.
        members: how many detectors answer.
        card: digest of the part of its model card that is frozen with it; "" where it is not known.
        revision: digest of the whole card that lies with its run; "" where there is none.
    """

    checkpoint: Checkpoint
    digest: str
    task: FilmDetector
    thresholds: Mapping[str, float] | None = None
    no_point: str = "the checkpoint holds no operating point"
    members: int = 1
    card: str = ""
    revision: str = ""

    def algorithm(self, settings: Mapping[str, Any]) -> Algorithm:
        """Return the detector as reports name it, with those of the ``settings`` of a run that decide what they say.

        Raises ``ConfigError`` where ``threshold`` asks for what it cannot keep (``shown_by``).
        """
        maps = json.dumps([settings["cam"], settings["seed"]], sort_keys=True) if settings["cam"] else ""
        looks = tuple(f"{key} {settings[key]}" for key in ("language", "runtime", "gate"))
        shown = shown_by(settings["threshold"], self.checkpoint, self.thresholds)
        version = importlib.metadata.version("cxr")
        return Algorithm(version, self.digest, shown.threshold, shown.point, looks, maps, shown.promises, self.card)

    def none_put_aside(self, algorithm: Algorithm) -> str:
        """Return why no film is put aside as normal, "" where films are."""
        if algorithm.operating_point is not None:
            return ""
        kept = None if algorithm.promises is None else algorithm.promises.screening
        return self.no_point if kept is None else f"of screening there is no promise, {too_few(kept)}"


def restored(
    ckpt: str | Sequence[str],
    runtime: str,
    batch: int,
    trust: Sequence[str] = (),
    members: int | Sequence[int] | None = None,
    views: int | Sequence[Mapping[str, Any]] = 1,
) -> Restored:
    """Return what ``ckpt`` names (``named_detector``), ready to detect.

    With another ``runtime`` than ``EAGER``, ``ckpt`` is a folder of export.py, the checkpoint has no weights, and the
    task is an ``ExportedDetector``, to which most films come ``batch`` at once. Raises ``ConfigError``.
    """
    if runtime == EAGER:
        if isinstance(ckpt, str) and (Path(ckpt) / CARD).is_file():
            raise ConfigError(f"ckpt={ckpt} is a folder of export.py; type runtime={read_card(Path(ckpt)).runtime} too")
        named = named_detector(ckpt, trust, members, views)
        known = (named.thresholds, named.no_point, len(named.members), card_id(named), card_revision(named))
        return Restored(named.checkpoint, named.digest, named.detector(), *known)
    if not isinstance(ckpt, str) or members is not None or views != 1:
        raise ConfigError(
            f"runtime={runtime} runs one exported network, on films as they are: leave members, views out"
        )
    path = Path(ckpt)
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
    try:
        exported = open_exported(path, card, callers=min(SIDE_BY_SIDE, threads), threads=threads, batch=batch)
    except Exception as error:  # each runtime has errors of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path}: {runtime} cannot open its network ({reason[:300]}); export it anew") from error
    return Restored(as_checkpoint(card, path), card.checkpoint, exported, card=card.model_card or "")
