"""The entry point of the scripts: Hydra composes the config, and errors are explained in a user's words.

Nothing here imports torch, so a misspelt word gets its answer in a fraction of a second, not after 4 s of imports.
"""

import contextlib
import functools
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.experimental.callback import Callback as HydraCallback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from cxr.config import help_texts, stopping
from cxr.config.chatter import silence_libraries
from cxr.config.command_line import with_paths_quoted
from cxr.config.errors import ConfigError, SweepError, exit_for, exit_with, explain, is_of_a_film, reason
from cxr.config.run_files import FAILED, check_name, job_name, locked, rank, run_dir
from cxr.files import why_not_written, write_json
from cxr.installation import CONF, command, find_modules_here


def entry(config_name: str, ends: bool = True) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Return a decorator that turns a function of a config into the main function of a script.

    Hydra composes ``conf/<config_name>.yaml`` with the command line. An error in the command gives one message and
    exit code 2. An archive that is away, a full disk and a damaged film give one, too, and exit code 1: the command is
    right. Any other exception keeps its traceback. Where the work ``ends``, a line says now and then how long it has
    taken; a service says itself where it is.
    """

    def decorate(job: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @functools.wraps(job)
        def run_job(cfg: DictConfig) -> Any:
            return _run_job(config_name, job, cfg, ends)

        def main() -> None:
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # else Hydra prints and exits before we can explain
            find_modules_here()
            stopping.install()
            threading.excepthook = _thread_ended
            try:
                sys.argv[1:] = with_paths_quoted(sys.argv[1:])
            except ValueError as error:
                exit_with(str(error))
            try:
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(run_job)()
            except BaseException as error:
                raise _end_of(error) from None

        return main

    return decorate


def _run_job(config_name: str, job: Callable[[DictConfig], Any], cfg: DictConfig, ends: bool) -> Any:
    """Call ``job`` in a process that is prepared for it, and handle its errors."""
    started = time.monotonic()
    RunDirectory.tell_hydra()
    job_folder = _job_folder()
    if job_folder is not None:
        (job_folder / FAILED).unlink(missing_ok=True)
    _leave_loky()
    silence_libraries()
    from cxr.progress import working  # imported here, so that the message for a misspelt word comes sooner

    try:
        with working(f"{config_name} is at work") if ends and rank() == 0 else nullcontext():
            return job(cfg)
    except Exception as error:
        _report_error(error, job_folder, time.monotonic() - started)
        raise


def _report_error(error: Exception, job_folder: Path | None, seconds: float) -> None:
    """Note the error of a job in its folder; exit if it has a message for users, return if it needs a traceback."""
    if stopping.received():  # the stop caused this error; the other jobs of a sweep must not begin
        raise KeyboardInterrupt from error
    if isinstance(error, OSError) and error.filename is None and job_folder is not None:
        error.filename = str(job_folder)  # several libraries do not say which file they could not write
    if job_folder is not None:  # also if the job failed before it took its folder
        note_failure(job_folder, error, seconds)
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        return  # the error is raised again, and the other jobs go on
    if isinstance(error, ConfigError):
        exit_for(error)
    if why_not_written(error) or is_of_a_film(error):
        exit_with(reason(error), code=1)


def _thread_ended(arguments: threading.ExceptHookArgs) -> None:
    """Print one line if a library's thread could not write, such as TensorBoard's on a full disk."""
    error = arguments.exc_value
    if error is not None and (why := why_not_written(error)):
        print(f"{getattr(arguments.thread, 'name', 'a thread')}: {why}", file=sys.stderr)
    elif not stopping.received():
        threading.__excepthook__(arguments)


def _end_of(error: BaseException) -> BaseException:
    """Return what to raise in place of ``error``, which ended a script. The user's message is printed before."""
    if stopping.received():
        if rank() == 0:
            stopping.say("stopped before the run began: nothing was made, and the same command begins anew")
        return stopping.end(error)
    if isinstance(error, SweepError):
        return SystemExit(1)
    if isinstance(error, ConfigError):
        exit_for(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        exit_with(explain(error))
    return error


class RunDirectory(HydraCallback):
    """Keeps Hydra from making the run's folder; ``cxr.runs.folder`` makes it when it has accepted the run.

    Hydra would make the folder and write into it before anybody has checked whether another run holds it. So
    ``hydra.run.dir`` is "." while Hydra prepares a run, and gets its value back afterwards. Hydra still makes the
    folders for the jobs of a sweep, inside the folder that the sweep holds.
    """

    _folder: str | None = None
    _error: Exception | None = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Replace ``hydra.run.dir`` in the config before Hydra uses it."""
        kind = type(self)
        try:  # Hydra would turn an exception into a warning and go on
            check_name(OmegaConf.select(config, "name", default=""))
            kind._folder, kind._error = str(config.hydra.run.dir), None
        except (ConfigError, OmegaConfBaseException, OSError, ValueError) as error:
            kind._folder, kind._error = None, error
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.run.dir = "."

    @classmethod
    def tell_hydra(cls) -> None:
        """Put ``hydra.run.dir`` back. Raises the error of ``on_run_start`` if the folder's name is bad."""
        if cls._error is not None:
            if isinstance(cls._error, ConfigError):
                exit_for(cls._error)
            raise cls._error
        folder, cls._folder = cls._folder, None
        if folder is None:  # a job of a sweep
            return
        cfg: Any = HydraConfig.instance().cfg  # a DictConfig, which Hydra declares as the class of its contents
        with read_write(cfg.hydra), open_dict(cfg.hydra):
            cfg.hydra.run.dir = folder
            cfg.hydra.runtime.output_dir = os.path.abspath(folder)  # noqa: PTH100  # as Hydra has it: links stay


def _leave_loky() -> None:
    """Give the processes that a job starts a start method that they know.

    In joblib's workers the start method is "loky", which only joblib knows: processes that read films or load batches
    would die at once (hydra#964).
    """
    if multiprocessing.get_start_method(allow_none=True) == "loky":
        multiprocessing.set_start_method("spawn", force=True)


def note_failure(folder: Path, error: Exception, seconds: float) -> None:
    """Write ``failed.json`` into the folder of a run that this process holds, if the disk has room for it."""
    if rank() > 0:
        return
    failure = {
        "status": "failed",
        "error": type(error).__name__,
        "reason": reason(error),
        "overrides": list(HydraConfig.get().overrides.task),
        "seconds": round(seconds, 1),
    }
    with contextlib.suppress(OSError):  # the error itself is reported in any case
        write_json(folder / FAILED, failure)


def _job_folder() -> Path | None:
    """Return the folder of this job of a sweep; None without a sweep, or where another process works in the folder."""
    if HydraConfig.get().mode is not RunMode.MULTIRUN or rank() > 0:
        return None
    folder = Path(HydraConfig.get().runtime.output_dir)
    return None if locked(folder) else folder


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return ``cfg`` resolved into dicts, lists and scalars."""
    container = OmegaConf.to_container(cfg, resolve=True)
    if not isinstance(container, dict):
        raise TypeError("a config is a mapping")
    return {str(key): value for key, value in container.items()}


def instantiated(node: Any) -> Any:
    """Return what a node of the config instantiates to. Raises ``ConfigError`` where its call fails."""
    try:
        return hydra.utils.instantiate(node, _convert_="all")
    except InstantiationException as error:
        raise ConfigError(f"{error.__cause__ or error}") from error


def not_chosen(words: str, *, _root_: DictConfig) -> str:
    """Return those of ``words``, such as ``trainer=cpu data.size=256``, that a composed config has not chosen yet.

    A group counts as chosen if its file is the one that is named, a number if the config has this one or a lower one.
    """
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return " ".join(word for word in words.split() if not _is_chosen(word, choices, _root_))


def _is_chosen(word: str, choices: Mapping[str, Any], cfg: DictConfig) -> bool:
    key, _, value = word.partition("=")
    if key in choices:
        return bool(choices[key] == value)
    present = OmegaConf.select(cfg, key, throw_on_missing=False)
    return present <= float(value) if isinstance(present, int | float) else str(present) == value


# Here, not in ``entry``, because the processes that a launcher starts only import this module
OmegaConf.register_new_resolver("cxr.run_dir", run_dir, use_cache=True, replace=True)
OmegaConf.register_new_resolver("cxr.job_name", job_name, replace=True)
OmegaConf.register_new_resolver("cxr.not_chosen", not_chosen, replace=True)
OmegaConf.register_new_resolver("cxr.command", command, replace=True)  # in the help of the scripts, as the next two
OmegaConf.register_new_resolver("cxr.choices", help_texts.choices, replace=True)
OmegaConf.register_new_resolver("cxr.settings", help_texts.settings, replace=True)
