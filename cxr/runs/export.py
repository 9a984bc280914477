"""One run of export.py: a trained detector as a network that another program runs, compared with the detector itself.

A folder holds the network (``model.onnx``, ``model.xml`` with ``model.bin``, or ``model.pt``), then ``export.json``
(``cxr.export.card``) and ``result.json``. Where the network says something else than the detector, there is none.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console

from cxr.config import run_files
from cxr.config.errors import ConfigError
from cxr.detect.detector import name_of
from cxr.detect.task import DetectionTask
from cxr.detect.transform import STRIDE
from cxr.detect.views import first_views
from cxr.export.card import Card
from cxr.export.compare import BOX_PX, FILMS, SCORE, Comparison, compare
from cxr.export.detector import open_exported
from cxr.export.files import NEEDS, missing_packages, write_files
from cxr.export.graph import Graph, UnsupportedError
from cxr.files import digest_of, short_digest_of, write_json
from cxr.installation import command
from cxr.measure import shift
from cxr.progress import working
from cxr.read.intensity import Intensity
from cxr.read.known_films import as_plain
from cxr.read.modality import ByModality
from cxr.read.preprocessing import Preprocessing
from cxr.runs.checkpoint import Checkpoint, entry_at, read_checkpoint
from cxr.runs.exported import write_card
from cxr.runs.folder import held
from cxr.runs.frozen_card import card_id
from cxr.runs.named_detector import NamedDetector
from cxr.runs.provenance import versions
from cxr.runs.restore import load_task, restored_intensity
from cxr.runs.result import tell

_OTHER_SIDE = 0.75  # of the films of the other size that are compared, of those it was trained on
_LEAST_SIDE = 64


@dataclass
class Parts:
    """What a config instantiates to."""

    to: str
    checkpoint: Checkpoint
    digest: str
    task: DetectionTask
    graph: Graph
    model_card: str
    started: float = field(default_factory=time.monotonic)


def opened(cfg: DictConfig) -> AbstractContextManager[Path]:
    """Hold the run folder of ``cfg``; refuse one begun with other settings, and what no package can write."""
    if cfg.to not in NEEDS:
        raise ConfigError(f"to is {cfg.to!r}, expected one of {', '.join(NEEDS)}")
    if missing := missing_packages(cfg.to):
        raise ConfigError(f"to={cfg.to} needs {' and '.join(missing)}: pip install 'cxr[export]'")
    return held(cfg, may_differ=("run_dir",))


def instantiate(cfg: DictConfig) -> Parts:
    """Restore the detector and take it as a graph. Raises ``ConfigError`` for one that has none, by its name."""
    checkpoint = read_checkpoint(cfg.ckpt, cfg.trust)
    refusal = f"{cfg.ckpt}: {_name(checkpoint)} cannot be exported"
    if str(entry_at(checkpoint, "task._target_", str)).rpartition(".")[2] != DetectionTask.__name__:
        raise ConfigError(f"{refusal}: it is no detector of films")
    task = load_task(checkpoint)
    channels = _channels(restored_intensity(checkpoint), checkpoint.kind)
    try:
        graph = Graph(task.detector, checkpoint.size, channels).eval()
    except UnsupportedError as error:
        raise ConfigError(f"{refusal}: {error}") from error
    digest = short_digest_of(Path(cfg.ckpt))
    named = NamedDetector(str(cfg.ckpt), (checkpoint,), (digest,), tuple(first_views(1)))
    return Parts(cfg.to, checkpoint, digest, task, graph, card_id(named))


def export(parts: Parts, folder: Path) -> Card:
    """Write the network and, where it says what the detector says, its card.

    Raises ``ConfigError`` with the largest difference where it does not; the network is removed then.
    """
    console = Console(stderr=True)
    console.print(f"exporting {_name(parts.checkpoint)} to {parts.to}", highlight=False)
    files = write_files(parts.graph, parts.to, folder)
    try:
        card = _card(parts, files)
        compared = _compared(parts, card, folder)
        if not compared.alike:
            raise ConfigError(
                f"{parts.to}: the exported network does not say what the detector says; on {compared}. Allowed are"
                f" {BOX_PX:g} px and {SCORE:g}. Nothing is left of it; runtime=eager always says what was trained"
            )
    except BaseException:
        for path in files:
            path.unlink(missing_ok=True)
        raise
    card = replace(card, compared=compared.as_dict())
    write_card(card, folder)
    return card


def report(parts: Parts, card: Card, folder: Path) -> None:
    """Write ``result.json`` and say what to type next."""
    result = {"status": "completed", "to": parts.to, "compared": card.compared, "files": dict(card.files)}
    write_json(folder / run_files.RESULT, {**result, "seconds": round(time.monotonic() - parts.started, 1)})
    compared = Comparison(**{**card.compared, "sides": tuple(card.compared["sides"])})
    tell(f"as the detector itself on {compared}")
    size = sum((folder / name).stat().st_size for name in card.files) / 2**20
    tell(f"{folder} · {', '.join(card.files)} · {size:.1f} MiB")
    if parts.to != "torch":
        words = f"{command('predict')} ckpt={folder} runtime={parts.to} images=FOLDER"
        tell(words)


def _compared(parts: Parts, card: Card, folder: Path) -> Comparison:
    other = max(_LEAST_SIDE, round(card.size * _OTHER_SIDE / STRIDE) * STRIDE)
    sides = card.size, other if other != card.size else card.size + STRIDE
    exported = open_exported(folder, card, callers=1, threads=torch.get_num_threads())
    with working("comparing", FILMS + 1) as work:
        return compare(parts.task, exported, sides, FILMS, lambda done: work.advance(done - work.done))


def _card(parts: Parts, files: Sequence[Path]) -> Card:
    checkpoint, head = parts.checkpoint, parts.task.image_head
    return Card(
        runtime=parts.to,
        files={path.name: digest_of(path) for path in files},
        detector=_name(checkpoint),
        checkpoint=parts.digest,
        findings=checkpoint.findings.as_dict(),
        size=checkpoint.size,
        channels=parts.graph.channels,
        stride=STRIDE,
        outputs=parts.graph.outputs,
        intensity=entry_at(checkpoint, "data.intensity", dict),
        kind=checkpoint.kind,
        score_thresh=parts.graph.score_thresh,
        detections_per_img=parts.graph.detections_per_img,
        box_weight=0.0 if head is None else float(head.box_weight),
        film_weight=0.0 if head is None else float(head.film_weight),
        operating_point=checkpoint.operating_point,
        versions=versions(("cxr", "torch", "torchvision", *NEEDS[parts.to])),
        known_films=as_plain(checkpoint.known[0]) if checkpoint.known else None,
        promises=None if checkpoint.promises is None else checkpoint.promises.as_dict(),
        reference=shift.as_plain(checkpoint.reference) if checkpoint.reference else None,
        model_card=parts.model_card,
    )


def _name(checkpoint: Checkpoint) -> str:
    return name_of(entry_at(checkpoint, "model", dict))


def _channels(intensity: Preprocessing, kind: str | None) -> int:
    """Return how many channels ``intensity`` makes of the films of a kind."""
    if isinstance(intensity, ByModality):
        return next(row.intensity.channels for row in intensity.rows if kind in (None, row.kind))
    return intensity.channels if isinstance(intensity, Intensity) else 1
