"""One training run: its folder, how it resumes, and what it leaves.

A run's folder holds ``.hydra/`` (the config), ``checkpoints/best.ckpt`` and ``last.ckpt``, ``tensorboard/``,
``metrics.csv``, ``index.html``, ``provenance.json`` from its start and ``result.json`` from its end.
"""

import importlib.metadata
import json
import logging
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import hydra
import lightning
import torch
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from cxr import config, precision
from cxr.chatter import silence_libraries
from cxr.config import ConfigError
from cxr.data.datamodule import RadiographDataModule
from cxr.detect.checkpoint import AtomicCheckpointIO
from cxr.findings import FindingVocabulary
from cxr.read.radiograph import ReadError
from cxr.report.callbacks import read_epochs
from cxr.training import Training

if TYPE_CHECKING:
    from cxr.pruning import Pruning

# What may differ between a run and its resumption: none of it changes what is learned from which films.
_MAY_DIFFER = (
    *("run_dir", "name", "logger", "data.workers", "data.cache"),
    *("callbacks.progress", "callbacks.pictures", "callbacks.page", "callbacks.epochs"),
    *("trainer.max_epochs", "trainer.callbacks", "trainer.logger", "trainer.enable_progress_bar"),
)
_PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "pydicom", "albumentations", "torchmetrics", "numpy")


class Data(Protocol):
    """What a run asks of a ``LightningDataModule``, whatever it holds: films, series, or both."""

    films: Mapping[str, Sequence[Any]]  # of each split, from setup on
    unreadable: Sequence[ReadError]

    def prepare_data(self) -> None:
        """Read and decode what is not decoded yet."""

    def setup(self, stage: str | None = None) -> None:
        """Split what is there."""

    def fingerprint(self) -> str:
        """Return digits that change when pixels, labels or splits do."""

    def dataset(self, split: str) -> Any:
        """Return a split as a data set, not augmented but for training."""


@dataclass
class Parts:
    """What a config instantiates to."""

    cfg: dict[str, Any]
    findings: FindingVocabulary
    data: Data
    task: Training
    trainer: Trainer
    pruning: "Pruning | None" = None

    @property
    def pruned(self) -> bool:
        """Whether the study that this run is a trial of has ended it."""
        return self.pruning is not None and self.pruning.pruned


@dataclass
class RunFolder:
    """The folder of one run, held by its first process for as long as it is open; only that one writes into it."""

    path: Path
    monitor: str
    max_epochs: int
    started: float

    @property
    def result(self) -> Path:
        """The file whose presence says that the run ended well."""
        return self.path / config.RESULT

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint of the last whole epoch."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def completed(self) -> bool:
        """Whether an earlier call of the same run has ended well, with as many epochs as are asked for now."""
        return self.result.exists() and self.max_epochs <= self._read_result()["max_epochs"]

    def show(self) -> float:
        """Say that the run is complete and return its score."""
        result = self._read_result()
        score = math.nan if result["score"] is None else float(result["score"])
        if config.rank() == 0:
            Console().print(
                f"{self.path} is complete: {result['monitor']} = {score:.3f}. "
                f"Nothing to do; to train again, type another hydra.run.dir or remove the folder."
            )
        return score

    def _read_result(self) -> dict[str, Any]:
        return dict(json.loads(self.result.read_text(encoding="utf-8")))

    def complete(self, parts: Parts) -> float:
        """Write ``result.json``, TensorBoard's hyperparameters with the score, and a table; return the score."""
        best = _best_epoch(self)
        score = best.get(self.monitor, math.nan)
        tested = {k: float(v) for k, v in parts.trainer.callback_metrics.items() if k.startswith("test/")}
        metrics = best | tested
        if config.rank() > 0:
            return score
        _log_hparams(parts, score)
        if parts.pruned:
            Console().print(f"{self.path}: the study has pruned this run", highlight=False)
        else:
            _print_table(parts, metrics, self.path)
        result = {
            "status": "pruned" if parts.pruned else "completed",
            "monitor": self.monitor,
            "score": _finite(score),
            "metrics": {k: _finite(v) for k, v in sorted(metrics.items())},
            "overrides": json.loads((self.path / config.COMMAND).read_text(encoding="utf-8"))["overrides"],
            "epochs": len(read_epochs(self.path / "metrics.csv")),
            "max_epochs": self.max_epochs,
            "seconds": round(time.time() - self.started, 1),
        }
        config.write_json(self.result, result)
        return score


@contextmanager
def opened(cfg: DictConfig) -> Iterator[RunFolder]:
    """Hold the run folder of ``cfg``; refuse one that another run holds or that has other settings.

    The first of a run's processes does so for all; the others say nothing but errors, as it has said it already.
    """
    first = config.rank() == 0
    if not first:
        logging.getLogger().setLevel(logging.ERROR)
    _settle_precision(cfg)
    with held(cfg, _MAY_DIFFER) if first else nullcontext(Path(cfg.run_dir)) as path:
        yield RunFolder(path, str(cfg.monitor), int(cfg.trainer.max_epochs), started=time.time())


def _settle_precision(cfg: DictConfig) -> None:
    """Put the precision in place of ``auto``, so that what keeps the config (command.json, checkpoints) names it."""
    if cfg.trainer.precision == precision.AUTO:
        job = HydraConfig.get()
        sweep = Path(job.sweep.dir) if job.mode is RunMode.MULTIRUN else None
        accelerator = str(cfg.trainer.accelerator)
        cfg.trainer.precision = precision.settled(accelerator, Path(cfg.run_dir), sweep, config.rank())


@contextmanager
def held(cfg: DictConfig, may_differ: Sequence[str]) -> Iterator[Path]:
    """Hold the folder ``cfg.run_dir``, made where it is missing, and note in it what it was begun with.

    Raises ``ConfigError`` where another process holds it, or where it was begun with other settings than these (but for
    the keys in ``may_differ``).
    """
    path = Path(cfg.run_dir)
    path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path / config.LOCK, timeout=0):
            _refuse_other_settings(path, config.plain(cfg), may_differ)
            if not (path / config.COMMAND).exists():
                command = {"overrides": list(HydraConfig.get().overrides.task), "config": config.plain(cfg)}
                config.write_json(path / config.COMMAND, command)
            yield path
    except Timeout:
        raise ConfigError(f"{path}: another process is working in this folder; type another hydra.run.dir") from None


def instantiate(cfg: DictConfig) -> Parts:
    """Build detector, data and trainer of a checked config; the optimizer is tried before any data are read."""
    plain = config.plain(cfg)
    silence_libraries()  # again: Lightning sets the level of its own when it is imported
    for chatty in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(chatty).handlers.clear()  # Hydra's handlers print it already
    lightning.seed_everything(plain["seed"], workers=True, verbose=False)
    try:
        task = hydra.utils.instantiate(cfg.task, _convert_="all")
        task.optimizer(
            [torch.nn.Parameter(torch.zeros(1))]
        )  # a value it refuses is told now, not after hours of reading
        findings = hydra.utils.instantiate(cfg.findings, _convert_="all")
        data = hydra.utils.instantiate(cfg.data, _convert_="all")
        trainer = hydra.utils.instantiate(cfg.trainer, _convert_="all")
    except hydra.errors.InstantiationException as error:
        raise ConfigError(f"{error.__cause__ or error}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer: {error}") from error
    _check_monitor(plain["monitor"], task)
    processes = trainer.num_devices * trainer.num_nodes
    if processes > 1 and not config.launched():  # what Lightning starts by itself would wait for the first for ever
        raise ConfigError(
            f"trainer.devices: {processes} processes are asked for and this is the only one; type torchrun"
            f" --nproc_per_node {trainer.num_devices} train.py … instead of python train.py … (or srun, under SLURM)"
        )
    if trainer.strategy.root_device.type == "cpu" and config.rank() == 0:
        resumed = (Path(cfg.run_dir) / "checkpoints" / "last.ckpt").exists()
        precision.tell(plain["trainer"]["precision"], resumed)
    pruning = _pruning(Path(cfg.run_dir), plain["monitor"])
    if pruning is not None:
        trainer.callbacks.append(pruning)
    return Parts(plain, findings, data, task, trainer, pruning)


def _pruning(folder: Path, monitor: str) -> "Pruning | None":
    """What ends a run that is a trial of a study (``sweep=optuna``)."""
    if not (folder / config.TRIAL).exists():
        return None
    from cxr.pruning import Pruning  # Optuna is an extra

    return Pruning(folder, monitor, hydra.utils.instantiate(HydraConfig.get().sweeper.study.pruner))


def fit(parts: Parts, folder: RunFolder) -> None:
    """Train, from ``last.ckpt`` where there is one."""
    try:
        parts.data.prepare_data()
        parts.data.setup("fit")
    except (ValueError, OSError) as error:  # of the films and their tables, in words for their owner
        raise ConfigError(str(error)) from error
    if (
        parts.trainer.world_size > 1
    ):  # here, not in the trainer: a run that is resumed after its last epoch calibrates first
        parts.trainer.strategy.setup_environment()
    parts.task.card = {
        "config": parts.cfg,
        "findings": parts.findings.as_dict(),
        "data": parts.data.fingerprint(),
        "kind": parts.data.kind if isinstance(parts.data, RadiographDataModule) else None,
        "versions": _versions(),
    }
    resume = None
    if folder.last.exists():
        last = torch.load(folder.last, weights_only=True, map_location="cpu")
        _refuse_other_films(folder, last, parts)
        resume = str(folder.last)
        if config.rank() == 0:
            Console().print(f"resuming {folder.path}")
        if _stopped_early(last):
            return
    if config.rank() == 0:
        _add_session(folder.path / "provenance.json", _provenance(parts))
    for logger in parts.trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("config", f"```yaml\n{OmegaConf.to_yaml(OmegaConf.create(parts.cfg))}\n```")
    try:
        parts.trainer.fit(
            parts.task, datamodule=cast(LightningDataModule, parts.data), ckpt_path=resume, weights_only=True
        )
    except SystemExit:  # what Lightning makes of Ctrl-C
        Console().print(f"stopped; the same command goes on from the last whole epoch in {folder.path}")
        raise SystemExit(130) from None


def calibrate(parts: Parts, folder: RunFolder) -> None:
    """Freeze into the best checkpoint what is chosen on validation films: the fusion of scores, the operating point.

    The first process does so while the others wait.
    """
    if config.rank() == 0:
        _calibrate(parts, folder)
    parts.trainer.strategy.barrier("calibrated")


def _calibrate(parts: Parts, folder: RunFolder) -> None:
    path = folder.best if folder.best.exists() else folder.last
    best = torch.load(path, weights_only=True, map_location="cpu")
    if best["cxr"].get("calibrated") or not parts.data.films["val"]:
        return
    parts.task.load_state_dict(best["state_dict"])
    best["cxr"] |= {**parts.task.calibrate(parts.data.dataset("val")), "calibrated": True}
    best["state_dict"] = parts.task.state_dict()  # choosing may set buffers
    AtomicCheckpointIO().save_checkpoint(best, path)


def test(parts: Parts, folder: RunFolder) -> None:
    """Score the best epoch's weights on the test films."""
    best = folder.best if folder.best.exists() else folder.last
    # Not by trainer.test(ckpt_path=…): weight averaging would put the raw weights back in place of the averaged ones
    parts.task.load_state_dict(torch.load(best, weights_only=True, map_location="cpu")["state_dict"])
    parts.trainer.test(parts.task, datamodule=cast(LightningDataModule, parts.data), verbose=False)


def _best_epoch(folder: RunFolder) -> dict[str, float]:
    """The row of ``metrics.csv`` that ``best.ckpt`` was written after: the first with the highest monitored figure."""
    rows = read_epochs(folder.path / "metrics.csv")
    return max(rows, key=lambda row: row.get(folder.monitor, -math.inf), default={})


def _refuse_other_settings(folder: Path, now: Mapping[str, Any], may_differ: Sequence[str]) -> None:
    command = folder / config.COMMAND
    if not command.exists():
        return
    before = _flat(json.loads(command.read_text(encoding="utf-8"))["config"])
    after = _flat(json.loads(json.dumps(now)))
    differ = [
        f"{key}: {before.get(key, 'absent')} there, {after.get(key, 'absent')} now"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not any(key == k or key.startswith(f"{k}.") for k in may_differ)
    ]
    if differ:
        raise ConfigError(
            "\n  - ".join([f"{folder} holds a run with other settings; type another hydra.run.dir:", *differ])
        )


def _refuse_other_films(folder: RunFolder, last: Mapping[str, Any], parts: Parts) -> None:
    """Films that came, went or changed move the splits: what was trained on would be validated and tested on."""
    if last["cxr"]["data"] != parts.data.fingerprint():
        raise ConfigError(
            f"{folder.path}: the films are not those the run began with (some were added, changed, or cannot be read"
            " now); bring them back, or type another hydra.run.dir to begin anew"
        )


def _stopped_early(last: Mapping[str, Any]) -> bool:
    """Whether the run of this checkpoint ended by early stopping; Lightning would go on training it."""
    states = (state for name, state in last["callbacks"].items() if name.startswith("EarlyStopping"))
    return any(state["stopped_epoch"] > 0 for state in states)


def _check_monitor(monitor: str, task: Training) -> None:
    """The monitored figure must be one that validation logs and that rises as the model gets better."""
    known = [f"val/{name}" for name in task.monitors()]
    if monitor not in known:
        raise ConfigError(f"monitor is {monitor!r}, expected one of {', '.join(known)}")


def _flat(node: Any, key: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        return {k: v for name, child in node.items() for k, v in _flat(child, f"{key}.{name}" if key else name).items()}
    return {key: node}


def _log_hparams(parts: Parts, score: float) -> None:
    groups = ("model", "optimizer", "scheduler", "data", "augment", "intensity", "trainer", "seed")
    flat = {k: v for k, v in _flat({g: parts.cfg[g] for g in groups}).items() if isinstance(v, (int, float, str, bool))}
    for logger in parts.trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(flat, {"score": score})
            logger.finalize("success")


def _print_table(parts: Parts, metrics: Mapping[str, float], folder: Path) -> None:
    console = Console()
    console.print(parts.task.table(metrics, parts.data.films["test"]))
    pictures = next((f"   ·   pictures: {path}" for path in sorted(folder.glob("*.html"))), "")
    console.print(f"curves: tensorboard --logdir {folder}{pictures}")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN


def _add_session(path: Path, session: dict[str, Any]) -> None:
    """Append to the list of processes that trained this run."""
    sessions = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    config.write_json(path, [*sessions, session])


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in _PACKAGES}


def _provenance(parts: Parts) -> dict[str, Any]:
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "versions": _versions(),
        "git": _git(),
        "data": parts.data.fingerprint(),
        "films": {split: len(films) for split, films in parts.data.films.items()},
        "unreadable": [str(e) for e in parts.data.unreadable],
        "seed": parts.cfg["seed"],
        "precision": parts.cfg["trainer"]["precision"],
        "hardware": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "bfloat16": str(precision.bfloat16()),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def _git() -> dict[str, Any] | None:
    """The commit the code stands at, and whether files differ from it; None outside a git checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(  # noqa: S603
            ["git", "-C", str(here), *words],  # noqa: S607
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
