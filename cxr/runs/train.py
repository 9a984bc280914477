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
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from cxr import installation
from cxr.config import run_files, stopping
from cxr.config.chatter import silence_libraries
from cxr.config.entry import resolved
from cxr.config.errors import ConfigError, reason
from cxr.data.datamodule import DataModule
from cxr.data.film_data import FilmDataModule
from cxr.data.film_digests import film_digests
from cxr.files import DamagedFileError, check_digest, read_mapping, why_not_written, write_json
from cxr.findings import FindingVocabulary
from cxr.learn.checkpoint_files import LAST, PREVIOUS, AtomicCheckpointIO, MovedCheckpoints
from cxr.learn.training import Training
from cxr.report.epochs import read_epochs
from cxr.runs import precision
from cxr.runs.folder import flat
from cxr.runs.folder import held as held  # the runs of other scripts take it from here

if TYPE_CHECKING:
    from cxr.runs.pruning import Pruning

# What may differ between a run and its resumption: none of it changes what is learned from which films.
_MAY_DIFFER = (
    *("run_dir", "name", "logger", "data.workers", "data.cache"),
    *("callbacks.progress", "callbacks.pictures", "callbacks.page", "callbacks.epochs"),
    *("trainer.max_epochs", "trainer.callbacks", "trainer.logger", "trainer.enable_progress_bar"),
)
_PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "pydicom", "albumentations", "torchmetrics", "numpy")


@dataclass
class Parts:
    """What a config instantiates to."""

    cfg: dict[str, Any]
    findings: FindingVocabulary
    data: DataModule[Any]
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
        return self.path / run_files.RESULT

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint of the last whole epoch."""
        return self.path / "checkpoints" / LAST

    @property
    def previous(self) -> Path:
        """The checkpoint of the whole epoch before the last one."""
        return self.path / "checkpoints" / PREVIOUS

    @property
    def completed(self) -> bool:
        """Whether an earlier call of the same run has ended well, with as many epochs as are asked for now."""
        return self.result.exists() and self.max_epochs <= self._read_result()["max_epochs"]

    def show(self) -> float:
        """Say that the run is complete and return its score."""
        result = self._read_result()
        score = math.nan if result["score"] is None else float(result["score"])
        if run_files.rank() == 0:
            Console().print(
                f"{self.path} is complete: {result['monitor']} = {score:.3f}. "
                f"Nothing to do; to train again, type another hydra.run.dir or remove the folder."
            )
        return score

    def _read_result(self) -> dict[str, Any]:
        try:
            result = read_mapping(self.result)
            missing = {"monitor", "score", "max_epochs"} - result.keys()
            if missing:
                raise DamagedFileError(f"{self.result} lacks {', '.join(sorted(missing))}")
        except DamagedFileError as error:
            raise ConfigError(
                f"{error}; it was written when the run ended. Remove it, and the same command with"
                f" hydra.run.dir={self.path} tests the checkpoint again and writes it anew"
            ) from error
        return result

    def complete(self, parts: Parts) -> float:
        """Write ``result.json``, TensorBoard's hyperparameters with the score, and a table; return the score."""
        best = _best_epoch(self)
        score = best.get(self.monitor, math.nan)
        tested = {k: float(v) for k, v in parts.trainer.callback_metrics.items() if k.startswith("test/")}
        metrics = best | tested
        if run_files.rank() > 0:
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
            "overrides": json.loads((self.path / run_files.COMMAND).read_text(encoding="utf-8"))["overrides"],
            "epochs": len(read_epochs(self.path / "metrics.csv")),
            "max_epochs": self.max_epochs,
            "seconds": round(time.time() - self.started, 1),
        }
        write_json(self.result, result)
        return score


@contextmanager
def opened(cfg: DictConfig) -> Iterator[RunFolder]:
    """Hold the run folder of ``cfg``; refuse one that another run holds or that has other settings.

    The first of a run's processes does so for all; the others say nothing but errors, as it has said it already.
    """
    first = run_files.rank() == 0
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
        cfg.trainer.precision = precision.settled(accelerator, Path(cfg.run_dir), sweep, run_files.rank())


def instantiate(cfg: DictConfig) -> Parts:
    """Build detector, data and trainer of a checked config; the optimizer is tried before any data are read."""
    plain = resolved(cfg)
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
    if processes > 1 and not run_files.launched():  # what Lightning starts by itself would wait for the first for ever
        command = installation.command("train")
        script = command.replace("python ", "").replace("cxr", "-m cxr")
        raise ConfigError(
            f"trainer.devices: {processes} processes are asked for and this is the only one; type torchrun"
            f" --nproc_per_node {trainer.num_devices} {script} … instead of {command} … (or srun, under SLURM)"
        )
    if trainer.strategy.root_device.type == "cpu" and run_files.rank() == 0:
        resumed = (Path(cfg.run_dir) / "checkpoints" / "last.ckpt").exists()
        precision.tell(plain["trainer"]["precision"], resumed)
    pruning = _pruning(Path(cfg.run_dir), plain["monitor"])
    if pruning is not None:
        trainer.callbacks.append(pruning)
    return Parts(plain, findings, data, task, trainer, pruning)


def _pruning(folder: Path, monitor: str) -> "Pruning | None":
    """What ends a run that is a trial of a study (``sweep=optuna``)."""
    if not (folder / run_files.TRIAL).exists():
        return None
    from cxr.runs.pruning import Pruning  # Optuna is an extra

    return Pruning(folder, monitor, hydra.utils.instantiate(HydraConfig.get().sweeper.study.pruner))


def fit(parts: Parts, folder: RunFolder) -> None:
    """Train, from ``last.ckpt`` where there is one."""
    try:
        parts.data.prepare_data()
        parts.data.setup("fit")
    except (ValueError, OSError) as error:  # of the films and their tables, in words for their owner
        raise ConfigError(reason(error) if why_not_written(error) else str(error)) from error
    if (
        parts.trainer.world_size > 1
    ):  # here, not in the trainer: a run that is resumed after its last epoch calibrates first
        parts.trainer.strategy.setup_environment()
    parts.task.card = {
        "config": parts.cfg,
        "findings": parts.findings.as_dict(),
        "data": parts.data.fingerprint(),
        "kind": parts.data.kind,
        "films": _digests(parts.data) if isinstance(parts.data, FilmDataModule) else {},
        "versions": _versions(),
    }
    resume = None
    last = _last_whole(folder)
    if last is not None:
        resume, content = last
        _refuse_other_films(folder, content, parts)
        if run_files.rank() == 0:
            Console().print(f"resuming {folder.path}")
        if _stopped_early(content):
            return
        del content, last  # the trainer reads it itself
    if run_files.rank() == 0:
        _add_session(folder.path / "provenance.json", _provenance(parts))
    for logger in parts.trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("config", f"```yaml\n{OmegaConf.to_yaml(OmegaConf.create(parts.cfg))}\n```")
    parts.trainer.callbacks += [MovedCheckpoints(), _OwnSignals()]  # type: ignore[attr-defined]
    parts.trainer.fit(parts.task, datamodule=parts.data, ckpt_path=resume, weights_only=True)


def _digests(data: FilmDataModule) -> dict[str, torch.Tensor]:
    """Return a digest of each film by split: an evaluation knows by it which ones the checkpoint has seen."""
    return {split: torch.from_numpy(film_digests(films, data.cache)) for split, films in data.films.items()}


class _OwnSignals(lightning.Callback):
    """Keeps SIGTERM ours while Lightning trains, which would only look at it after the batch, and then talk to others.

    Seen in Lightning 2.6: with several processes its handler waits for all of them, in the middle of a step.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: lightning.LightningModule) -> None:
        """Put our handler back in the place of Lightning's, in a process that had it before."""
        if stopping.installed():
            stopping.install()


def _last_whole(folder: RunFolder) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest checkpoint to go on from that is whole, and what it holds; None: begin anew.

    A damaged ``last.ckpt`` is set aside, and the run goes on from the one before: it does its last epoch once more.
    """
    damaged: list[str] = []
    for path in (folder.last, folder.previous):
        if not path.exists():
            continue
        try:
            content = _read_whole(path)
        except DamagedFileError as error:
            damaged.append(str(error))
            continue
        if damaged and run_files.rank() == 0:
            Console().print(f"{damaged[0]}. Going on from the epoch before, {path}", style="yellow", soft_wrap=True)
            folder.last.replace(folder.last.with_name(f"{LAST}.damaged"))  # else it would become the one before
        return path, content
    if damaged and len(read_epochs(folder.path / "metrics.csv")) > 2:  # the first epoch's, and one that was cut off
        raise ConfigError(
            "\n  - ".join([f"{folder.path} holds no checkpoint to go on from; type another hydra.run.dir:", *damaged])
        )
    if damaged and run_files.rank() == 0:
        Console().print(f"{damaged[0]}. There is none before it: beginning anew", style="yellow", soft_wrap=True)
        folder.last.replace(folder.last.with_name(f"{LAST}.damaged"))
    return None


def _read_whole(path: Path) -> dict[str, Any]:
    """Return what a checkpoint of this run holds. Raises ``DamagedFileError``."""
    try:
        check_digest(path)
        content = torch.load(path, weights_only=True, map_location="cpu")
    except DamagedFileError:
        raise
    except Exception as error:  # torch has no error of its own for files that are not its
        raise DamagedFileError(f"{path} cannot be read, it is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict) or not {"state_dict", "callbacks", "cxr"} <= content.keys():
        raise DamagedFileError(f"{path} is no checkpoint of train.py")
    return content


def calibrate(parts: Parts, folder: RunFolder) -> None:
    """Freeze into the best checkpoint what is chosen on validation films: the fusion of scores, the operating point.

    The first process does so while the others wait.
    """
    if run_files.rank() == 0:
        _calibrate(parts, folder)
    parts.trainer.strategy.barrier("calibrated")


def _calibrate(parts: Parts, folder: RunFolder) -> None:
    path, best = _best_whole(folder)
    if best["cxr"].get("calibrated") or not parts.data.films["val"]:
        return
    parts.task.load_state_dict(best["state_dict"])
    parts.task.eval()
    best["cxr"] |= {**parts.task.calibrate(parts.data.dataset("val")), "calibrated": True}
    best["state_dict"] = parts.task.state_dict()  # choosing may set buffers
    AtomicCheckpointIO().save_checkpoint(best, path)


def test(parts: Parts, folder: RunFolder) -> None:
    """Score the best epoch's weights on the test films."""
    _, best = _best_whole(folder)
    # Not by trainer.test(ckpt_path=…): weight averaging would put the raw weights back in place of the averaged ones
    parts.task.load_state_dict(best["state_dict"])
    parts.task.eval()
    parts.trainer.test(parts.task, datamodule=parts.data, verbose=False)


def _best_whole(folder: RunFolder) -> tuple[Path, dict[str, Any]]:
    """Return the checkpoint of the best epoch, or of the last one where there is none, and what it holds."""
    path = folder.best if folder.best.exists() else folder.last
    try:
        return path, _read_whole(path)
    except DamagedFileError as error:
        raise ConfigError(
            f"{error}. The weights of the best epoch are lost; type another hydra.run.dir to train anew"
        ) from error


def _best_epoch(folder: RunFolder) -> dict[str, float]:
    """The row of ``metrics.csv`` that ``best.ckpt`` was written after: the first with the highest monitored figure."""
    rows = read_epochs(folder.path / "metrics.csv")
    return max(rows, key=lambda row: row.get(folder.monitor, -math.inf), default={})


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


def _log_hparams(parts: Parts, score: float) -> None:
    groups = ("model", "optimizer", "scheduler", "data", "augment", "intensity", "trainer", "seed")
    told = flat({g: parts.cfg[g] for g in groups})
    plain = {key: value for key, value in told.items() if isinstance(value, (int, float, str, bool))}
    for logger in parts.trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(plain, {"score": score})
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
    try:
        sessions = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        write_json(path, [*sessions, session])
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} cannot be read, it is empty or damaged ({error}); it lists the processes that trained this run and"
            " nothing else: remove it, and the same command goes on"
        ) from error


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in _PACKAGES}


def _provenance(parts: Parts) -> dict[str, Any]:
    return {
        "command": installation.typed(),
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
    if installation.CLONE is None:  # a wheel may be installed inside somebody else's repository
        return None
    here = installation.CLONE

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
