"""The folder of a run, of whatever script: made, held by one process, and what is done about files that are not ours.

Nothing is written into a folder before this process holds it and the run is accepted there, and nothing is removed but
what this very call has made, file by file, and files that a kill left half written. Nothing here imports torch.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from typing_extensions import override

from cxr.config import run_files, stopping
from cxr.config.entry import note_failure, resolved
from cxr.config.errors import ConfigError
from cxr.config.run_files import COMMAND, FAILED, LOCK, TRIAL
from cxr.files import DamagedFileError, read_mapping, remove_parts, write_json, write_whole
from cxr.report.words import LANGUAGES

HYDRA = ".hydra"
_NOTES = ("begun.json", "checkpoint.json")  # of predict.py and explain.py, written before they begin
_HYDRA_FILES = ("config.yaml", "hydra.yaml", "overrides.yaml")
_WAIT_S = 1.0  # for a lock that another process holds for a moment, to see whether it is held


@contextmanager
def held(cfg: DictConfig, may_differ: Sequence[str]) -> Iterator[Path]:
    """Hold the folder ``cfg.run_dir``, made where it is missing, and note in it what it was begun with.

    Besides, the log goes into it while it is held, and ``failed.json`` when the block ends in an error. Where it ends
    in a ``ConfigError`` before anything was done, what was made for it goes again.

    Raises ``ConfigError`` where another process holds it, where it was begun with other settings than these (but for
    the keys in ``may_differ``), where it holds files that no run has made, or where it cannot be made or written; and
    for a language that no page is written in, before hours of work.
    """
    language = cfg.get("language", LANGUAGES[0])
    if language not in LANGUAGES:
        raise ConfigError(f"language is {language!r}, expected one of {', '.join(LANGUAGES)}")
    path, started = Path(cfg.run_dir), time.monotonic()
    taken = f"{path}: another process is working in this folder; type another hydra.run.dir"
    with occupied(path, taken, "hydra.run.dir"):
        made = _accepted(path, cfg, may_differ)
        try:
            with _log_file(path):
                yield path
        except ConfigError:
            made.take_back()
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None and error.filename is None:
                error.filename = str(path)  # of a library that names no file, as TensorBoard
            if not stopping.received():
                note_failure(path, error, time.monotonic() - started)
            raise
        finally:
            if stopping.received() and not _in_sweep():
                stopping.say(_stopped(path))


@contextmanager
def occupied(path: Path, taken: str, setting: str) -> Iterator[None]:
    """Make ``path`` where it is missing and hold its lock; raise ``ConfigError(taken)`` where another process does.

    When the block ends in a ``ConfigError``, lock and folders that were made for it go again, these if they are empty.
    ``setting`` is what names the folder, for the message where it cannot be made.
    """
    made: list[Path] = []
    lock, new = FileLock(path / LOCK), False
    try:
        _make(path, made, setting)
        try:
            with suppress(FileExistsError):
                (path / LOCK).touch(exist_ok=False)  # so that this process knows whether it has made it
                new = True
            lock.acquire(timeout=_WAIT_S)
        except Timeout:
            raise ConfigError(taken) from None
        except OSError as error:
            if new:
                (path / LOCK).unlink(missing_ok=True)
            raise ConfigError(
                f"{path}: this folder cannot be written ({error.strerror}); type another {setting}"
            ) from error
        try:
            yield
        except ConfigError:
            if new:
                (path / LOCK).unlink(missing_ok=True)  # while it is held: nobody waits at a file that is gone
            raise
        finally:
            lock.release()
    except ConfigError:
        for folder in reversed(made):
            with suppress(OSError):  # not empty: another process has begun in it
                folder.rmdir()
        raise


def _make(path: Path, made: list[Path], setting: str) -> None:
    """Make ``path``, and add to ``made`` each folder that this process has made for it, the outermost first."""
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            with suppress(FileExistsError):  # another process was faster
                folder.mkdir()
                made.append(folder)
        if not path.is_dir():
            raise ConfigError(f"{path} is a file, expected a folder for the run; type another {setting}")
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path}: this folder cannot be made ({why}); type another {setting}") from error


@dataclass(frozen=True)
class _Made:
    """What this call may have written into the folder ``path`` before the run's work began.

    Args:
        path: of the run.
        files: ours that were not there before; () where the run was there before.
        before: names in the folder that were there before.
    """

    path: Path
    files: tuple[Path, ...]
    before: frozenset[str]

    def take_back(self) -> None:
        """Remove what was made, file by file, unless the run has left something of worth, or is a job of a sweep."""
        made = {file.relative_to(self.path).parts[0] for file in self.files} | {LOCK}
        beyond = {entry.name for entry in self.path.iterdir()} - self.before - made
        if not self.files or beyond or _in_sweep():
            return
        for file in self.files:
            file.unlink(missing_ok=True)
        if HYDRA not in self.before:
            with suppress(OSError):
                (self.path / HYDRA).rmdir()


def _accepted(path: Path, cfg: DictConfig, may_differ: Sequence[str]) -> _Made:
    """Refuse a folder that is not for this run; else note what is run in it, and return what that has made."""
    command = path / COMMAND
    before = frozenset(entry.name for entry in path.iterdir())
    ours = [command, *(path / name for name in _NOTES), *(path / HYDRA / name for name in _HYDRA_FILES), _log_of(path)]
    new = () if command.exists() else tuple(file for file in ours if not file.exists())
    settings, overrides = resolved(cfg), list(HydraConfig.get().overrides.task)
    if not command.exists():
        _refuse_foreign(path, before)
    if not command.exists() or not _same_settings(path, settings, overrides, may_differ):
        write_json(command, {"overrides": overrides, "config": settings})
    _write_hydra(path, cfg)
    (path / FAILED).unlink(missing_ok=True)
    remove_parts(path)
    return _Made(path, new, before)


def _refuse_foreign(path: Path, names: frozenset[str]) -> None:
    """Raise ``ConfigError`` where a folder that no run has begun in holds files: a run would write over some of them.

    Hidden ones do not count, which no run writes over, nor what a sweep and its study leave for a job.
    """
    foreign = sorted(name for name in names if not name.startswith(".") or name == HYDRA)
    left = {TRIAL} | ({FAILED} if _is_failure(path / FAILED) else set[str]())
    if _in_sweep():  # of a job that an older version was killed in
        left |= {HYDRA, _log_of(path).name}
    if foreign := [name for name in foreign if name not in left]:
        raise ConfigError(
            f"{path} holds files that no run has made there (the first of {len(foreign)}: {foreign[0]}), and a run"
            f" writes over what is in its way; nothing was touched. Type a folder of its own: hydra.run.dir={path}/run"
        )


def changed_since_begun(note: Path, digests: Mapping[str, str], begin_anew: Callable[[], None]) -> list[str]:
    """Return the keys of ``digests`` whose values are not those in ``note``, which is written where there are none.

    Where the note is damaged, nobody knows what the run was begun with: ``begin_anew`` removes what was done.
    """
    changed: list[str] = []
    if note.exists():
        try:
            before = read_mapping(note, *digests)
            changed = [key for key, digest in digests.items() if before[key] != digest]
        except DamagedFileError:
            begin_anew()
    if not changed:
        write_json(note, digests)
    return changed


def _is_failure(path: Path) -> bool:
    try:
        read_mapping(path, "status", "reason", "overrides")
    except (OSError, DamagedFileError):
        return False
    return True


def _same_settings(path: Path, now: Mapping[str, Any], overrides: list[str], may_differ: Sequence[str]) -> bool:
    """Whether the run in ``path`` was begun with these settings; where it was not, and something is kept, refuse.

    The folder itself may have moved. The same command with other defaults (of a newer version) begins anew where
    nothing is kept.
    """
    try:
        begun = read_mapping(path / COMMAND, "config", "overrides")
        before, typed = flat(begun["config"]), list(begun["overrides"])
    except (DamagedFileError, TypeError) as error:
        raise ConfigError(
            f"{path / COMMAND} is damaged, so that nobody can tell what this run was begun with ({error}); type another"
            " hydra.run.dir, or remove the folder if nothing in it is needed"
        ) from error
    there, here = str(before.get("run_dir", "")), str(now.get("run_dir", ""))
    after = flat(json.loads(json.dumps(now)))
    differ = [
        f"{key}: {before.get(key, 'absent')} there, {after.get(key, 'absent')} now"
        for key in sorted(before.keys() | after.keys())
        if _moved(before.get(key), there, here) != after.get(key)
        and not any(key == k or key.startswith(f"{k}.") for k in may_differ)
    ]
    if differ and (run_files.kept(path) or typed != overrides):
        raise ConfigError(
            "\n  - ".join([f"{path} holds a run with other settings; type another hydra.run.dir:", *differ])
        )
    return not differ


def _moved(value: Any, there: str, here: str) -> Any:
    """Return a setting with the folder the run was begun in replaced by the one it is in now."""
    return value.replace(there, here) if isinstance(value, str) and there else value


def _write_hydra(path: Path, cfg: DictConfig) -> None:
    """Write ``.hydra/`` as Hydra itself would, which may not write here before the folder is this run's."""
    (path / HYDRA).mkdir(exist_ok=True)
    of_hydra = HydraConfig.instance().cfg
    if of_hydra is None:
        raise RuntimeError("a run folder outside a run")
    contents = (cfg, of_hydra, HydraConfig.get().overrides.task)
    for name, content in zip(_HYDRA_FILES, contents, strict=True):
        write_whole(path / HYDRA / name, OmegaConf.to_yaml(content), flush=False)


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Write what is logged into ``<script>.log`` too, which is made with the first line."""
    handler = _LogFile(_log_of(path), delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        with suppress(OSError):
            handler.close()


class _LogFile(logging.FileHandler):
    """A log that misses lines when the disk is full. Python's own prints a traceback for each of them."""

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the line out. What the run itself writes says why it cannot go on."""


def _log_of(path: Path) -> Path:
    return path / f"{HydraConfig.get().job.name}.log"


def _stopped(path: Path) -> str:
    if (path / run_files.RESULT).exists():
        return f"stopped; the run in {path} had ended before"
    if (path / "checkpoints").is_dir() and run_files.kept(path):
        return f"stopped; the same command goes on from the last whole epoch in {path}"
    if run_files.kept(path):
        return f"stopped; the same command goes on with what is not done yet in {path}"
    first = "stopped before the first epoch was whole" if HydraConfig.get().job.name == "train" else "stopped"
    return f"{first}: nothing is kept but films drawn or decoded, and the same command begins anew in {path}"


def _in_sweep() -> bool:
    return HydraConfig.get().mode is RunMode.MULTIRUN


def flat(node: Any, key: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted keys."""
    if isinstance(node, dict):
        return {k: v for name, child in node.items() for k, v in flat(child, f"{key}.{name}" if key else name).items()}
    return {key: node}
