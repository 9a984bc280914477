"""One training run: how its parts are built, how it goes on after a kill, and how it ends."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from cxr.config import run_files, stopping
from cxr.config.chatter import silence_libraries
from cxr.config.entry import instantiated, resolved
from cxr.config.errors import ConfigError, film_errors
from cxr.data.datamodule import DataModule
from cxr.data.film_data import FilmDataModule
from cxr.data.film_digests import film_digests
from cxr.data.split_counts import split_counts
from cxr.data.unmarked import UnmarkedDataModule
from cxr.files import write_json
from cxr.findings import FindingVocabulary
from cxr.installation import command
from cxr.learn.checkpoint_files import LAST, AtomicCheckpointIO, MovedCheckpoints
from cxr.learn.training import Training
from cxr.report.without_paths import overrides_without_paths, settings_without_paths
from cxr.runs import precision
from cxr.runs.folder import flat, held
from cxr.runs.frozen_films import frozen_films
from cxr.runs.model_card import refresh_card
from cxr.runs.named_detector import BEST, named_detector
from cxr.runs.pretrained_films import pretrained_films, refuse_pretrained_films
from cxr.runs.provenance import add_session, versions
from cxr.runs.result import tell, typed
from cxr.runs.training_folder import TrainingFolder

if TYPE_CHECKING:
    from cxr.runs.pruning import Pruning

# What may differ between a run and its resumption: none of it changes what is learned from which films.
_MAY_DIFFER = (
    *("run_dir", "name", "logger", "data.workers", "data.cache"),
    *("callbacks.progress", "callbacks.pictures", "callbacks.page", "callbacks.epochs"),
    *("trainer.max_epochs", "trainer.callbacks", "trainer.logger", "trainer.enable_progress_bar"),
)


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


@contextmanager
def opened(cfg: DictConfig) -> Iterator[TrainingFolder]:
    """Hold the run folder of ``cfg``; refuse one that another run holds or that has other settings.

    The first of a run's processes does so for all; the others log errors only.
    """
    first = run_files.rank() == 0
    if not first:
        logging.getLogger().setLevel(logging.ERROR)
    _settle_precision(cfg)
    with held(cfg, _MAY_DIFFER) if first else nullcontext(Path(cfg.run_dir)) as path:
        yield TrainingFolder(path, str(cfg.monitor), int(cfg.trainer.max_epochs), started=time.monotonic())


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
    task = instantiated(cfg.task)
    try:  # a value that the optimizer refuses is reported now, not after hours of reading
        task.optimizer(task.learning_parameters())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer: {error}") from error
    findings, data, trainer = (instantiated(node) for node in (cfg.findings, cfg.data, cfg.trainer))
    _check_monitor(plain["monitor"], task)
    _refuse_to_be_alone(trainer)
    if trainer.strategy.root_device.type == "cpu" and run_files.rank() == 0:
        precision.tell(plain["trainer"]["precision"], resumed=(Path(cfg.run_dir) / "checkpoints" / LAST).exists())
    pruning = _pruning(Path(cfg.run_dir), plain["monitor"])
    if pruning is not None:
        trainer.callbacks.append(pruning)
    return Parts(plain, findings, data, task, trainer, pruning)


def _refuse_to_be_alone(trainer: Trainer) -> None:
    """Raise ``ConfigError`` if a trainer of several processes was not started by torchrun or SLURM.

    The processes that Lightning starts by itself would wait for the first one for ever.
    """
    if trainer.num_devices * trainer.num_nodes > 1 and not run_files.launched():
        script = command("train").replace("python ", "").replace("cxr", "-m cxr")
        raise ConfigError(
            f"trainer.devices: {trainer.num_devices * trainer.num_nodes} processes are asked for and this is the only"
            f" one; type torchrun --nproc_per_node {trainer.num_devices} {script} … instead of {command('train')} …"
            " (or srun, under SLURM)"
        )


def _pruning(folder: Path, monitor: str) -> "Pruning | None":
    """Return what ends a run that is a trial of a study (``sweep=optuna``)."""
    if not (folder / run_files.TRIAL).exists():
        return None
    from cxr.runs.pruning import Pruning  # Optuna is an extra

    return Pruning(folder, monitor, instantiated(HydraConfig.get().sweeper.study.pruner))


def fit(parts: Parts, folder: TrainingFolder) -> None:
    """Train, from ``last.ckpt`` where there is one."""
    with film_errors():
        parts.data.prepare_data()
        parts.data.setup("fit")
    pretrained = pretrained_films(parts.cfg)
    if isinstance(parts.data, FilmDataModule):
        refuse_pretrained_films(parts.cfg, pretrained, parts.data)
    if parts.trainer.world_size > 1:  # not left to the trainer: a run resumed after its last epoch calibrates first
        parts.trainer.strategy.setup_environment()
    parts.task.card = {
        "config": parts.cfg,
        "findings": parts.findings.as_dict(),
        "data": parts.data.fingerprint(),
        "kind": parts.data.kind,
        "splits": split_counts(parts.data.films, parts.findings.names),
        "films": _digests(parts.data, pretrained)
        if isinstance(parts.data, FilmDataModule | UnmarkedDataModule)
        else {},
        "versions": versions(),
    }
    resume = None
    last = folder.read_last()
    if last is not None:
        resume, content = last
        _refuse_other_films(folder, content, parts)
        if run_files.rank() == 0:
            tell(f"resuming {folder.path}")
        if _stopped_early(content):
            return
        del content, last  # the trainer reads it itself
    if run_files.rank() == 0:
        add_session(folder.path, parts.data, parts.cfg["seed"], parts.cfg["trainer"]["precision"])
    for logger in parts.trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            shown = OmegaConf.to_yaml(OmegaConf.create(settings_without_paths(parts.cfg)))
            logger.experiment.add_text("config", f"```yaml\n{shown}\n```")
    parts.trainer.callbacks += [MovedCheckpoints(), _OwnSignals()]  # type: ignore[attr-defined]
    parts.trainer.fit(parts.task, datamodule=parts.data, ckpt_path=resume, weights_only=True)


def _digests(data: FilmDataModule | UnmarkedDataModule, pretrained: NDArray[np.int64]) -> dict[str, torch.Tensor]:
    """Return a digest of each film by split, and of those that the backbone's weights have seen as ``pretrained``.

    An evaluation knows by it which films the checkpoint has seen.
    """
    digests = {split: film_digests(films, data.cache) for split, films in data.films.items()}
    return {split: torch.from_numpy(of_split) for split, of_split in {**digests, "pretrained": pretrained}.items()}


class _OwnSignals(lightning.Callback):
    """Keeps SIGTERM ours while Lightning trains, which would only look at it after the batch, and then talk to others.

    Seen in Lightning 2.6: with several processes its handler waits for all of them, in the middle of a step.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: lightning.LightningModule) -> None:
        """Put our handler back in the place of Lightning's, in a process that had it before."""
        if stopping.installed():
            stopping.install()


def calibrate(parts: Parts, folder: TrainingFolder) -> None:
    """Freeze into the best checkpoint what is chosen on validation films: fusion of scores, operating point, gate.

    The first process does so while the others wait.
    """
    if run_files.rank() == 0:
        _calibrate(parts, folder)
    parts.trainer.strategy.barrier("calibrated")


def _calibrate(parts: Parts, folder: TrainingFolder) -> None:
    path, best = folder.read_best()
    if best["cxr"].get("calibrated") or not parts.data.films["val"]:
        return
    parts.task.load_state_dict(best["state_dict"])
    parts.task.eval()
    best["cxr"] |= parts.task.calibrate(parts.data.dataset("val"))
    if isinstance(parts.data, FilmDataModule):
        best["cxr"] |= frozen_films(parts.task, parts.data)
    best["cxr"]["calibrated"] = True
    best["state_dict"] = parts.task.state_dict()  # choosing may set buffers
    AtomicCheckpointIO().save_checkpoint(best, path)


def test(parts: Parts, folder: TrainingFolder) -> None:
    """Score the best epoch's weights on the test films, in float32, as evaluate.py and predict.py compute.

    Under ``bf16-mixed`` the same detector has other scores in the third digit, and so another average precision.
    """
    _, best = folder.read_best()
    # Not by trainer.test(ckpt_path=…): weight averaging would put the raw weights back in place of the averaged ones
    parts.task.load_state_dict(best["state_dict"])
    parts.task.eval()
    if isinstance(parts.trainer.strategy.precision_plugin, MixedPrecision):
        parts.trainer.strategy.precision_plugin = Precision()
    parts.trainer.test(parts.task, datamodule=parts.data, verbose=False)


def complete(parts: Parts, folder: TrainingFolder) -> float:
    """Write ``result.json``, TensorBoard's hyperparameters with the score, and a table; return the score."""
    best = folder.best_epoch()
    score = best.get(folder.monitor, math.nan)
    tested = {k: float(v) for k, v in parts.trainer.callback_metrics.items() if k.startswith("test/")}
    metrics = best | tested
    if run_files.rank() > 0:
        return score
    _log_hparams(parts, score)
    if parts.pruned:
        tell(f"{folder.path}: the study has pruned this run")
    else:
        _print_table(parts, metrics, folder)
    result = {
        "status": "pruned" if parts.pruned else "completed",
        "monitor": folder.monitor,
        "score": _finite(score),
        "metrics": {k: _finite(v) for k, v in sorted(metrics.items())},
        "overrides": overrides_without_paths(typed(folder.path)),
        "epochs": len(folder.epochs()),
        "max_epochs": folder.max_epochs,
        "seconds": round(time.monotonic() - folder.started, 1),
    }
    if not parts.pruned:
        _write_card(parts, folder, result)
    write_json(folder.path / run_files.RESULT, result)
    return score


def _write_card(parts: Parts, folder: TrainingFolder, result: Mapping[str, Any]) -> None:
    """Write the model card of the run, of what is known by now; evaluate.py and explain.py renew it."""
    if (folder.path / BEST).is_file():
        page = parts.cfg["callbacks"].get("page") or {}
        refresh_card(named_detector(str(folder.path / BEST)), page.get("language", "en"), result)


def _refuse_other_films(folder: TrainingFolder, last: Mapping[str, Any], parts: Parts) -> None:
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
    settings = flat(settings_without_paths({group: parts.cfg[group] for group in groups}))
    plain = {key: value for key, value in settings.items() if isinstance(value, (int, float, str, bool))}
    for logger in parts.trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(plain, {"score": score})
            logger.finalize("success")


def _print_table(parts: Parts, metrics: Mapping[str, float], folder: TrainingFolder) -> None:
    """Print the figures, and where everything is; the checkpoint last, as the next command wants it."""
    best, checkpoint = folder.best_epoch(), folder.path / BEST
    Console().print(parts.task.table(metrics, parts.data.films["test"]))
    lines = [f"curves: tensorboard --logdir {folder.path}"]
    if (page := folder.path / "index.html").is_file():
        lines.append(f"page: {page}")
    if best and checkpoint.is_file():
        lines.append(f"checkpoint, of epoch {best['epoch'] + 1:.0f} with the best {folder.monitor}: {checkpoint}")
    tell("\n".join(lines))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN
