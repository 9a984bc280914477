"""The folder of a run: its name, the files that show how far the run is, and which process works in it."""

import hashlib
import os
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import ListConfig

from cxr.config.errors import ConfigError
from cxr.files import DamagedFileError, read_mapping

RESULT = "result.json"
FAILED = "failed.json"  # why a run failed; deleted when the run begins again
TRIAL = "trial.json"  # the trial of an Optuna study to which a run belongs
COMMAND = "command.json"  # the command of a run, written once, under its lock
LOCK = ".lock"
KEPT = (
    "checkpoints/*.ckpt",
    "films/*/film.json",
    "studies/*/study.json",
    "films.jsonl",
    "detections.json",
)  # files from which a run of any script can go on
_RANKS = ("RANK", "SLURM_PROCID")
_FOLDERS_OF_FILMS = ("root", "images", "unmarked")  # the last word of a setting
_LONGEST_NAME = 200  # bytes of a folder's name; file systems take 255


def check_name(name: object) -> None:
    """Raise ``ConfigError`` unless ``name`` can be the name of a folder below outputs/."""
    text = str(name)
    if "/" in text or "\\" in text or not text.isprintable() or text in (".", ".."):
        raise ConfigError(f"name is {text!r}, expected the name of a folder: without slashes and control characters")
    if len(text.encode(errors="surrogateescape")) > _LONGEST_NAME:
        raise ConfigError(f"name is {len(text)} letters long ({text[:40]}…), expected at most {_LONGEST_NAME} bytes")


def run_dir(name: str, overrides: ListConfig) -> str:
    """Return the folder of the newest unfinished run of the same command, else a new folder named after the time.

    So the same command, typed again after a kill, goes on where it was; if nothing was kept, it begins again in the
    same folder. A run that has ended, or that another process holds, is left alone.
    """
    folder = Path("outputs") / name
    for old in sorted(folder.glob(f"*/{COMMAND}"), reverse=True):
        run = old.parent
        if (run / RESULT).exists() or _typed(old) != list(overrides):
            continue
        if rank() > 0 or not locked(run):  # for ranks above 0, it is rank 0 of the same run that holds the lock
            return str(run)
    return str(folder / (_launched() or datetime.now().strftime("%Y-%m-%d_%H-%M-%S.%f")))


def _typed(command: Path) -> list[str] | None:
    """Return the overrides with which a run began; None where its file is damaged and they are unknown."""
    try:
        return list(read_mapping(command)["overrides"])
    except (OSError, DamagedFileError, KeyError, TypeError):
        return None


def kept(folder: Path) -> bool:
    """Return whether a run's folder holds anything to go on from."""
    return (folder / RESULT).exists() or any(any(folder.glob(pattern)) for pattern in KEPT)


def rank() -> int:
    """Return the number of this process among those of its run, from 0, as set by torchrun or SLURM."""
    return next((int(os.environ[name]) for name in _RANKS if os.environ.get(name)), 0)


def launched() -> bool:
    """Return whether torchrun or SLURM has started this process and the others of its run."""
    return any(os.environ.get(name) for name in _RANKS)


def _launched() -> str | None:
    """Return a name that is the same in all processes of one run, from torchrun or SLURM; None without these."""
    job = os.environ.get("SLURM_JOB_ID") if "SLURM_PROCID" in os.environ else None
    if job:
        return f"slurm-{job}"
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    if run is None:
        return None
    if run != "none":
        return f"torchrun-{run}"
    # torchrun is the parent of all processes of a run, so its process id and start time are the same for all
    stat = Path(f"/proc/{os.getppid()}/stat")
    ticks = stat.read_text().rpartition(")")[2].split()[19] if stat.exists() else "0"
    return f"torchrun-{os.getppid()}-{ticks}"


def job_name(overrides: ListConfig) -> str:
    """Return the folder name of one job of a multirun: its overrides, shortened if needed, without slashes.

    ``sweep=`` and ``name=`` are left out, because the name of the folder above has them. A path is a digest: it may
    name a patient, and pages show the name of the folder.
    """
    name = ",".join(_shown(str(o)) for o in overrides if not str(o).startswith(("sweep=", "name=")))
    digest = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
    if len(name.encode(errors="surrogateescape")) <= _LONGEST_NAME:
        return name
    short = name.encode(errors="surrogateescape")[: _LONGEST_NAME - 20].decode(errors="ignore")
    return f"{short}…{digest}"


def _shown(override: str) -> str:
    key, equals, value = override.partition("=")
    if "/" in value or key.rpartition(".")[2] in _FOLDERS_OF_FILMS:
        value = hashlib.blake2b(value.encode(errors="surrogateescape"), digest_size=5).hexdigest()
    return f"{key}{equals}{value}".replace("/", "_")


def locked(folder: Path) -> bool:
    """Return whether a living process holds the run in ``folder``."""
    if not (folder / LOCK).is_file():  # trying the lock would make the file
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
