"""The folder of a run: its name, the files that say how far the run has come, and which process works in it."""

import hashlib
import os
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import ListConfig

from cxr.config.errors import ConfigError
from cxr.files import DamagedFileError, read_mapping

RESULT = "result.json"
FAILED = "failed.json"  # why a run ended badly; gone as soon as it is begun again
TRIAL = "trial.json"  # of which trial of a study a run is, where it is one
COMMAND = "command.json"  # what a run was begun with, written once, under its lock
LOCK = ".lock"
KEPT = (
    "checkpoints/*.ckpt",
    "films/*/film.json",
    "studies/*/study.json",
    "films.jsonl",
    "detections.json",
)  # what a run can go on from, whatever script made it
_RANKS = ("RANK", "SLURM_PROCID")
_LONGEST_NAME = 200  # bytes of a folder's name; file systems take 255


def check_name(name: object) -> None:
    """Raise ``ConfigError`` unless ``name`` can be the name of a folder below outputs/."""
    text = str(name)
    if "/" in text or "\\" in text or not text.isprintable() or text in (".", ".."):
        raise ConfigError(f"name is {text!r}, expected the name of a folder: without slashes and control characters")
    if len(text.encode(errors="surrogateescape")) > _LONGEST_NAME:
        raise ConfigError(f"name is {len(text)} letters long ({text[:40]}…), expected at most {_LONGEST_NAME} bytes")


def run_dir(name: str, overrides: ListConfig) -> str:
    """Return the folder of this run: the newest of the same command that was cut off, else a new one named by the time.

    So the same command typed again after a kill goes on where it was, and begins anew in the same folder where nothing
    was kept yet. A run that ended, or that another process holds, is left alone.
    """
    folder = Path("outputs") / name
    for old in sorted(folder.glob(f"*/{COMMAND}"), reverse=True):
        run = old.parent
        if (run / RESULT).exists() or _typed(old) != list(overrides):
            continue
        if rank() > 0 or not locked(run):  # the others of a run find it locked by their first
            return str(run)
    return str(folder / (_launched() or datetime.now().strftime("%Y-%m-%d_%H-%M-%S.%f")))


def _typed(command: Path) -> list[str] | None:
    """Return what a run was begun with; None where its file is damaged: nobody can tell whether it is the same."""
    try:
        return list(read_mapping(command)["overrides"])
    except (OSError, DamagedFileError, KeyError, TypeError):
        return None


def kept(folder: Path) -> bool:
    """Whether a run's folder holds anything to go on from."""
    return (folder / RESULT).exists() or any(any(folder.glob(pattern)) for pattern in KEPT)


def rank() -> int:
    """Return which of the processes of one run this is, from 0, as torchrun or SLURM have told it."""
    return next((int(os.environ[name]) for name in _RANKS if os.environ.get(name)), 0)


def launched() -> bool:
    """Whether torchrun or SLURM has started this process, and the others of its run with it."""
    return any(os.environ.get(name) for name in _RANKS)


def _launched() -> str | None:
    """Return a name that all processes of one run agree on without talking: after what launched them; else None."""
    job = os.environ.get("SLURM_JOB_ID") if "SLURM_PROCID" in os.environ else None
    if job:
        return f"slurm-{job}"
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    if run is None:
        return None
    if run != "none":
        return f"torchrun-{run}"
    # torchrun starts its processes together, so the second they began in is known to each: that of their parent
    stat = Path(f"/proc/{os.getppid()}/stat")
    ticks = stat.read_text().rpartition(")")[2].split()[19] if stat.exists() else "0"
    return f"torchrun-{os.getppid()}-{ticks}"


def job_name(overrides: ListConfig) -> str:
    """Return the folder name of one job of a multirun: its overrides, short enough and free of slashes.

    What names the sweep, and so is in the name of the folder above, is left out.
    """
    name = ",".join(str(o).replace("/", "_") for o in overrides if not str(o).startswith(("sweep=", "name=")))
    digest = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
    if len(name.encode(errors="surrogateescape")) <= _LONGEST_NAME:
        return name
    short = name.encode(errors="surrogateescape")[: _LONGEST_NAME - 20].decode(errors="ignore")
    return f"{short}…{digest}"


def locked(folder: Path) -> bool:
    """Whether a living process holds the run in ``folder``."""
    if not (folder / LOCK).is_file():  # asking would make it
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
