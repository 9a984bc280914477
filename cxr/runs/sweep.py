"""Many runs of train.py: finds those that are left, runs them on a launcher, and reports their results.

A job's folder says what became of it, whoever ran it: ``result.json``, ``failed.json``, or neither where it was cut
off. So a sweep needs no memory of its own, and the same command goes on after a kill.
"""

import os
import statistics
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from rich.console import Console

from cxr import progress
from cxr.config import run_files, stopping
from cxr.config.check import check
from cxr.config.errors import ConfigError, SweepError, reason
from cxr.files import read_mapping, write_json
from cxr.read.workers import usable_cores
from cxr.runs.folder import occupied
from cxr.runs.sweep_report import job_status, print_report, read_jobs, write_report

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from cxr.runs.search import Study, Trial

_DONE = ("completed", "pruned")
_POLL_S = 1.0


@dataclass(frozen=True)
class Given:
    """What Hydra gives a sweeper, and the settings in conf/hydra/sweeper/cxr.yaml."""

    config: DictConfig
    loader: ConfigLoader
    launcher: Launcher
    params: Mapping[str, Any]
    retry: bool
    max_batch_size: int | None
    study: "Study | None"


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its folder, what is typed for it, and the epochs asked for."""

    folder: Path
    overrides: tuple[str, ...]
    epochs: int

    @property
    def status(self) -> str:
        """What became of it so far, as its folder says; "new" where it was never begun."""
        if not any((self.folder / name).exists() for name in (run_files.COMMAND, run_files.FAILED)):
            return "new"
        status = job_status(self.folder)
        return "interrupted" if status == "completed" and self._result["max_epochs"] < self.epochs else status

    @property
    def score(self) -> float | None:
        """The monitored figure of a job that completed."""
        score = self._result["score"]
        return None if score is None else float(score)

    @property
    def _result(self) -> dict[str, Any]:
        return read_mapping(self.folder / run_files.RESULT)


def sweep(given: Given, arguments: Sequence[str]) -> None:
    """Run the jobs that are left of a sweep, and report on all of them.

    Raises:
        ConfigError: a job's config has a problem, or another process works at this sweep; nothing was started.
        SweepError: a job did not complete.
    """
    run_files.check_name(OmegaConf.select(given.config, "name", default=""))
    folder = Path(given.config.hydra.sweep.dir)
    with _held(folder), progress.working(f"sweep {folder} is at work"):
        jobs = _search(given, given.study, arguments) if given.study else _grid(given, arguments)
        write_report(folder)
    print_report(folder)
    open_ends = [job for job in jobs if job.status not in _DONE]
    if open_ends:
        again = (
            "A study leaves failed trials as they are" if given.study else "The same command begins only these again"
        )
        Console().print(
            f"{len(open_ends)} of {len(jobs)} jobs did not complete. {again}.", style="red", highlight=False,
        )  # fmt: skip
        raise SweepError


def _grid(given: Given, arguments: Sequence[str]) -> list[Job]:
    """Run every combination of the values."""
    batches = BasicSweeper.split_arguments(_parsed(given, arguments), None)
    jobs = _planned(given, [overrides for batch in batches for overrides in batch])
    _run(given, jobs)
    return jobs


def _search(given: Given, study: "Study", arguments: Sequence[str]) -> list[Job]:
    """Run the trials that a study lacks, and return the jobs of all."""
    parsed = _parsed(given, arguments)
    space = {o.get_key_element(): _distribution(o) for o in parsed if o.is_sweep_override()}
    fixed = [f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in parsed if not o.is_sweep_override()]
    if not space:
        raise ConfigError("a study needs values to choose from; type e.g. 'optimizer.lr=interval(0.001,0.01)'")
    study.open()
    while trials := study.next(space, _side_by_side(given)):
        of = {trial.number: _of_trial(given, study, fixed, trial) for trial in trials}
        for trial in trials:
            study.mark(of[trial.number][0].folder, trial)
        _run(given, [of[trial.number][0] for trial in trials])
        _run(given, [job for first, *others in of.values() if first.status == "completed" for job in others])
        for trial in trials:
            _tell(study, trial, of[trial.number])
    return [Job(job.folder, job.overrides, epochs=0) for job in read_jobs(Path(given.config.hydra.sweep.dir))]


def _of_trial(given: Given, study: "Study", fixed: Sequence[str], trial: "Trial") -> list[Job]:
    chosen = [f"{key}={value}" for key, value in trial.values.items()]
    seeds = [[f"seed={seed}"] for seed in range(study.seeds)] if study.seeds > 1 else [[]]
    return _planned(given, [[*fixed, *chosen, *seed] for seed in seeds])


def _tell(study: "Study", trial: "Trial", jobs: Sequence[Job]) -> None:
    scores = [job.score for job in jobs if job.status == "completed"]
    known = [score for score in scores if score is not None]
    study.tell(trial, statistics.mean(known) if len(known) == len(jobs) else None, jobs[0].status == "pruned")


def _parsed(given: Given, arguments: Sequence[str]) -> list[Override]:
    words = [*(f"{key}={value}" for key, value in given.params.items()), *arguments]
    parsed = OverridesParser.create(config_loader=given.loader).parse_overrides(words)
    return list({override.get_key_element(): override for override in parsed}.values())  # the command line wins


def _distribution(override: Override) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if isinstance(value, ChoiceSweep):
        return CategoricalDistribution(list[Any](override.sweep_iterator()))
    low, high, step, log = None, None, None, False
    if isinstance(value, RangeSweep):
        numbers = list(value.range())
        low, high, step = numbers[0], numbers[-1], value.step
    elif isinstance(value, IntervalSweep):
        low, high, log = value.start, value.end, "log" in value.tags
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log, int(step or 1))
    if low is not None and high is not None:
        return FloatDistribution(float(low), float(high), log, None if step is None else float(step))
    raise ConfigError(f"{override.input_line}: a study takes a,b, range(…) or interval(…), also tag(log, interval(…))")


def _planned(given: Given, jobs: Sequence[Sequence[str]]) -> list[Job]:
    """Compose and check every job. Raises ``ConfigError`` with the problems of all."""
    planned, problems = [], dict[str, str]()
    for overrides in jobs:
        cfg = given.loader.load_sweep_config(given.config, list(overrides))
        name = str(OmegaConf.select(cfg, "hydra.sweep.subdir"))
        job = Job(Path(cfg.hydra.sweep.dir) / name, tuple(overrides), int(cfg.trainer.max_epochs))
        planned.append(job)
        try:
            _check(cfg, job.folder)
        except ConfigError as error:
            problems.setdefault(str(error), name)
    if problems:
        raise ConfigError("\n".join(f"{name}: {problem}" for problem, name in problems.items()))
    return planned


def _check(cfg: DictConfig, folder: Path) -> None:
    devices, owner = OmegaConf.select(cfg, "trainer.devices"), str(cfg.hydra.launcher._target_)
    if devices not in (None, 1, "1", "auto") and owner.rpartition(".")[2] != "SlurmLauncher":
        raise ConfigError(
            f"trainer.devices is {devices!r} in a sweep, expected 1: jobs side by side need a device each;"
            " hydra/launcher=slurm gives a job several"
        )
    with open_dict(cfg), read_write(cfg):
        cfg.hydra.runtime.output_dir = str(folder.absolute())
        HydraConfig.instance().set_config(cfg)
        job = deepcopy(cfg)
        del job["hydra"]
    check(job)


def _run(given: Given, jobs: Sequence[Job]) -> None:
    """Run those of ``jobs`` that are left; what becomes of each stands in its folder."""
    left = [job for job in jobs if _is_left(job, given.retry)]
    if len(left) < len(jobs):
        Console().print(f"{len(jobs) - len(left)} of {len(jobs)} jobs need nothing more", highlight=False)
    size = given.max_batch_size or max(1, len(left))
    batches = deque(left[first : first + size] for first in range(0, len(left), size))
    begun = 0
    while batches:
        batch = batches.popleft()
        threads = _threads(given, len(batch))
        try:
            given.launcher.launch([[*job.overrides, *threads] for job in batch], initial_job_idx=begun)
        except Exception as error:  # a process died: what its job was, only the folders tell
            _wait_for_others(batch)
            cut_off = [job for job in batch if _is_left(job, retry=False)]
            if len(batch) == 1:
                _note_death(batch[0], error)
            else:
                batches.extendleft([job] for job in reversed(cut_off))  # each alone, so that it shows which one fails
        begun += len(batch)


def _is_left(job: Job, retry: bool) -> bool:
    return job.status in ("new", "interrupted") or (retry and job.status == "failed")


def _wait_for_others(batch: Sequence[Job]) -> None:
    """Some launchers return at the first death while the other jobs run on."""
    while any(job.status == "running" for job in batch):
        sleep(_POLL_S)


def _note_death(job: Job, error: Exception) -> None:
    if job.status in ("new", "interrupted"):
        why = f"its process died (killed, or out of memory): {reason(error)}"
        job.folder.mkdir(parents=True, exist_ok=True)
        failure = {"status": "failed", "error": type(error).__name__, "reason": why}
        write_json(job.folder / run_files.FAILED, {**failure, "overrides": list(job.overrides), "seconds": 0.0})


def _side_by_side(given: Given) -> int:
    """Return how many jobs of a study run at once."""
    if given.max_batch_size:
        return given.max_batch_size
    jobs = int(given.config.hydra.launcher.get("n_jobs", 1))
    return jobs if jobs > 0 else usable_cores()


def _threads(given: Given, jobs: int) -> list[str]:
    """Return the override that gives each of ``jobs`` at once its share of the cores, unless the user typed it."""
    launcher = given.config.hydra.launcher
    at_once = {"JoblibLauncher": launcher.get("n_jobs"), "LocalLauncher": jobs}.get(
        launcher._target_.rpartition(".")[2]
    )
    if at_once is None or "OMP_NUM_THREADS" in os.environ:  # one after another, or the cluster's scheduler says
        return []
    return [f"++hydra.job.env_set.OMP_NUM_THREADS='{_share(int(at_once))}'"]


def _share(jobs: int) -> int:
    """Return the threads of each of ``jobs`` that share this machine's cores; -1 jobs: one a core."""
    return max(1, usable_cores() // jobs) if jobs > 0 else 1


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder of a sweep; refuse one of another process, or with files that no sweep has made."""
    begun = (folder / run_files.LOCK).exists()
    with occupied(folder, f"{folder}: another process works at this sweep; type name=… for another", "name"):
        foreign = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        if foreign and not begun:
            raise ConfigError(
                f"{folder} holds files that no sweep has made (the first of {len(foreign)}: {foreign[0]}); nothing was"
                " touched. Type name=… for another sweep"
            )
        try:
            yield
        finally:
            if stopping.received():
                stopping.say(f"stopped; jobs that have ended are kept in {folder}, and the same command goes on")
