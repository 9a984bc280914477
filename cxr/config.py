"""What knows Hydra: the entry point of the scripts, the check of a whole config before any data is read, run folders.

Nothing here imports torch: a misspelt word is answered in a fraction of a second, not after 4 s of imports.
"""

import contextlib
import functools
import hashlib
import multiprocessing
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import hydra
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback as HydraCallback
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from cxr import stopping
from cxr.chatter import silence_libraries
from cxr.command_line import nearest as _nearest
from cxr.export.card import CARD
from cxr.files import DamagedFileError, read_mapping, why_not_written
from cxr.files import write_json as write_json  # where most of those who write a run's files look for it
from cxr.installation import CONF, command
from cxr.signatures import signature

RESULT = "result.json"
FAILED = "failed.json"  # why a run ended badly; gone as soon as it is begun again
TRIAL = "trial.json"  # of which trial of a study a run is, where it is one
COMMAND = "command.json"  # what a run was begun with, written once, under its lock
LOCK = ".lock"
_PLUGINS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}  # → extra
_ROOMS = {  # of a task → of its data, and what to type
    "detect": ("data", "phantom, course, coco, vindr, nih, rsna, chestxdet, yolo or merge"),
    "volume": ("volume", "volume, or data=fusion for model=fusion"),
    "suppress": ("suppress", "layers"),
}
_RANKS = ("RANK", "SLURM_PROCID")
_LONGEST_NAME = 200  # bytes of a folder's name; file systems take 255
KEPT = (
    "checkpoints/*.ckpt",
    "films/*/film.json",
    "studies/*/study.json",
    "films.jsonl",
    "detections.json",
)  # what a run can go on from, whatever script made it


class ConfigError(ValueError):
    """Everything that is wrong with a config, in one message."""


class SweepError(RuntimeError):
    """Jobs of a sweep did not complete; which and why has been told."""


def entry(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of a composed config the main function of a script.

    Hydra composes ``conf/<config_name>.yaml`` with the command line. An error in what was typed is one message and
    exit code 2; any other exception keeps its traceback.
    """

    def decorate(job: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @functools.wraps(job)
        def told(cfg: DictConfig) -> Any:
            started = time.time()
            RunDirectory.tell_hydra()
            job_folder = _job_folder()
            if job_folder is not None:
                (job_folder / FAILED).unlink(missing_ok=True)
            _leave_loky()
            silence_libraries()
            from cxr.progress import working  # here, not above: a misspelt word need not wait for it

            try:
                with working(f"{config_name}.py is at work") if rank() == 0 else nullcontext():
                    return job(cfg)
            except Exception as error:
                if stopping.received():  # what the ending brought about; the other jobs of a sweep are not begun
                    raise KeyboardInterrupt from error
                if isinstance(error, OSError) and error.filename is None and job_folder is not None:
                    error.filename = str(job_folder)  # several libraries do not say which file they could not write
                if job_folder is not None:  # also where it failed before it held its folder
                    note_failure(job_folder, error, time.time() - started)
                if HydraConfig.get().mode is RunMode.MULTIRUN:
                    raise  # the other jobs go on
                if isinstance(error, ConfigError):
                    _exit(str(error))
                if why_not_written(error):
                    _exit(reason(error), code=1)
                raise

        def main() -> None:
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # else Hydra prints and exits before we can explain
            stopping.install()
            threading.excepthook = _thread_ended
            try:
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(told)()
            except BaseException as error:
                raise _end_of(error) from None

        return main

    return decorate


def _thread_ended(arguments: threading.ExceptHookArgs) -> None:
    """Say in a line that a library's thread could not write, as TensorBoard's on a full disk."""
    error = arguments.exc_value
    if error is not None and (why := why_not_written(error)):
        print(f"{getattr(arguments.thread, 'name', 'a thread')}: {why}", file=sys.stderr)
    elif not stopping.received():
        threading.__excepthook__(arguments)


def _end_of(error: BaseException) -> BaseException:
    """Return what to raise in place of ``error``, which has ended a script; what is to be told has been told then."""
    if stopping.received():
        if rank() == 0:
            stopping.say("stopped before the run began: nothing was made, and the same command begins anew")
        return stopping.end(error)
    if isinstance(error, SweepError):
        return SystemExit(1)
    if isinstance(error, ConfigError):
        _exit(str(error))
    if isinstance(error, HydraException | OmegaConfBaseException):
        _exit(explain(error))
    return error


class RunDirectory(HydraCallback):
    """Keeps Hydra from making the run's folder: our own code does so, when the run is accepted (``cxr.run_folder``).

    Hydra would make it, and write into it, before anybody has looked whether another run holds it or whose files these
    are. So ``hydra.run.dir``, whether typed or of conf/, is "." while Hydra prepares a run, and is put back as soon as
    it has. The jobs of a sweep have their folders made by Hydra, within the folder that the sweep holds.
    """

    _folder: str | None = None
    _error: Exception | None = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take ``hydra.run.dir`` out of the config that Hydra is about to use."""
        kind = type(self)
        try:  # Hydra would make a warning of an exception, and go on
            check_name(OmegaConf.select(config, "name", default=""))
            kind._folder, kind._error = str(config.hydra.run.dir), None
        except (ConfigError, OmegaConfBaseException, OSError, ValueError) as error:
            kind._folder, kind._error = None, error
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.run.dir = "."

    @classmethod
    def tell_hydra(cls) -> None:
        """Put back what was taken out. Raises the error that the folder's name has met with."""
        if cls._error is not None:
            if isinstance(cls._error, ConfigError):
                _exit(str(cls._error))
            raise cls._error
        folder, cls._folder = cls._folder, None
        if folder is None:  # a job of a sweep
            return
        cfg: Any = HydraConfig.instance().cfg  # a DictConfig, which Hydra declares as the class of its contents
        with read_write(cfg.hydra), open_dict(cfg.hydra):
            cfg.hydra.run.dir = folder
            cfg.hydra.runtime.output_dir = os.path.abspath(folder)  # noqa: PTH100  # as Hydra has it: links stay


def check_name(name: object) -> None:
    """Raise ``ConfigError`` unless ``name`` can be the name of a folder below outputs/."""
    text = str(name)
    if "/" in text or "\\" in text or not text.isprintable() or text in (".", ".."):
        raise ConfigError(f"name is {text!r}, expected the name of a folder: without slashes and control characters")
    if len(text.encode(errors="surrogateescape")) > _LONGEST_NAME:
        raise ConfigError(f"name is {len(text)} letters long ({text[:40]}…), expected at most {_LONGEST_NAME} bytes")


def reason(error: BaseException) -> str:
    """Return in one line, for a user, why a run ended with ``error``."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        return (
            f"out of memory: lower data.batch_size or data.size, or type model.checkpoint_backbone=true ({text[:200]})"
        )
    if isinstance(error, ConfigError | FloatingPointError):  # in words already
        return text
    if not_written := why_not_written(error):
        return f"{not_written}. The same command then goes on from what is kept"
    return f"{type(error).__name__}: {text}"


def _leave_loky() -> None:
    """Give the processes that a job starts a start method they know.

    joblib's workers hand theirs down, "loky", which nothing else has heard of: readers of films and loaders of batches
    would die at once (hydra#964).
    """
    if multiprocessing.get_start_method(allow_none=True) == "loky":
        multiprocessing.set_start_method("spawn", force=True)


def note_failure(folder: Path, error: Exception, seconds: float) -> None:
    """Write ``failed.json`` into the folder of a run that this process holds; nothing where there is no room for it."""
    if rank() > 0:
        return
    failure = {
        "status": "failed",
        "error": type(error).__name__,
        "reason": reason(error),
        "overrides": list(HydraConfig.get().overrides.task),
        "seconds": round(seconds, 1),
    }
    with contextlib.suppress(OSError):  # the error itself is told in any case
        write_json(folder / FAILED, failure)


def _job_folder() -> Path | None:
    """Return the folder of this job of a sweep, which the sweep holds; None for one that another process works in."""
    if HydraConfig.get().mode is not RunMode.MULTIRUN or rank() > 0:
        return None
    folder = Path(HydraConfig.get().runtime.output_dir)
    return None if locked(folder) else folder


def explain(error: Exception) -> str:
    """Say in a user's words why Hydra could not compose the config, with the nearest name that exists."""
    cause = error.__cause__ or error
    text = str(error)
    key = getattr(cause, "full_key", None)
    if "not in struct" in str(cause) and key:
        word = str(key).rpartition(".")[2]
        parent = getattr(cause, "parent_node", None)
        known = sorted(str(k) for k in parent if str(k)[0] != "_") if isinstance(parent, DictConfig) else []
        return f"{key}: there is no such setting. {_nearest(word, known)}"
    group = re.search(r"Could not find '(?P<group>[\w/]+)/(?P<option>[\w.-]+)'", text)
    plugin = re.search(r"'hydra/launcher/(?P<name>\w+)': Could not load 'hydra/launcher/(?P<plugin>\w+)'", text)
    if plugin and plugin["plugin"] in _PLUGINS:
        return f"hydra/launcher={plugin['name']} needs pip install 'cxr[{_PLUGINS[plugin['plugin']]}]'"
    if group:
        name, option = group.groups()
        options = re.search(r"Available options in '[\w/]+':\n(?P<names>(?:\t.*\n?)+)", text)
        known = options["names"].split() if options else []
        own = re.findall(r"provider=(?!hydra|main).*, path=file://(.*)", text)  # --config-dir, hydra.searchpath
        places = " or ".join((f"conf/{name}/", *(f"{folder}/{name}/" for folder in own)))
        return f"{name}={option}: there is no such file in {places}. {_nearest(option, known)}"
    if "locating target 'cxr.study.Study'" in text:
        return "a study needs pip install 'cxr[optuna]'"
    return text.split("\nfull_key")[0]


def check(cfg: DictConfig) -> None:
    """Raise one ``ConfigError`` that lists every problem of ``cfg`` found without reading data or importing torch.

    Checked are values still to be given (``???``), interpolations, whether each ``_target_`` exists and takes the
    arguments it is given, with the types its signature states, and paths.
    """
    if "task" in cfg and "_target_" not in cfg.data:  # other settings refer to the data's
        raise ConfigError("data names no data set to train on; type data=phantom, data=course or data=coco")
    problems = [*_missing(cfg)]
    for name in cfg:  # group by group: ``task`` repeats whole groups, whose problems are told where typed
        group = cfg._get_node(name)
        if isinstance(group, DictConfig) and name != "task":
            problems += [p for key, node in _nodes(group, str(name)) for p in _check_call(key, node)]
    problems += [*_check_rooms(cfg), *_check_values(cfg)]
    if problems:
        head = "the config has a problem" if len(problems) == 1 else f"the config has {len(problems)} problems"
        raise ConfigError("\n  - ".join([f"{head}; nothing was started:", *problems]))


def _missing(cfg: DictConfig) -> Iterator[str]:
    for key in sorted(k for k in OmegaConf.missing_keys(cfg) if not k.startswith("task.")):
        group, _, rest = key.partition(".")
        yield f"{key} has no value yet: type {key}=…" + (
            f" (the comment in conf/{group}/ says what it is)" if rest else ""
        )


def _nodes(node: Any, key: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every node that names a callable, with its key."""
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
        if "_target_" in node:
            yield key, node
        for name in node:
            yield from _nodes(node._get_node(name), f"{key}.{name!s}")
    elif isinstance(node, ListConfig) and not node._is_none() and not node._is_interpolation():
        for i in range(len(node)):
            yield from _nodes(node._get_node(i), f"{key}.{i}")


def _check_call(key: str, node: DictConfig) -> Iterator[str]:
    target = str(node["_target_"])
    try:
        parameters = signature(target)
    except LookupError as error:
        yield f"{key}._target_: {error}"
        return
    given = [str(k) for k in node if k not in ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")]
    if parameters is None:  # takes anything (**kwargs)
        return
    for name in given:
        if name not in parameters:
            yield f"{key}.{name}: {target} takes no such argument. {_nearest(name, sorted(parameters))}"
        elif _is_plain(node, name) and not parameters[name].accepts(value := node[name]):
            yield f"{key}.{name} is {value!r}, expected {parameters[name].annotation}"
    if not node.get("_partial_") and "_args_" not in node:
        for name, parameter in parameters.items():
            if parameter.required and name not in given:
                yield f"{key}.{name} is missing: {target} needs it"


def _is_plain(node: DictConfig, name: str) -> bool:
    """Whether a key holds a value of its own, neither missing nor taken from elsewhere (that is checked there)."""
    return not OmegaConf.is_missing(node, name) and not OmegaConf.is_interpolation(node, name)


def _check_rooms(cfg: DictConfig) -> Iterator[str]:
    """A task and its data belong together."""
    task, data = (str(OmegaConf.select(cfg, f"{group}._target_")) for group in ("task", "data"))
    for room, (own, choices) in _ROOMS.items():
        if task.startswith(f"cxr.{room}.") and data.startswith("cxr.") and not data.startswith(f"cxr.{own}."):
            yield f"data: {data} holds nothing for {task} to learn from; with this model type data={choices}"


def _check_values(cfg: DictConfig) -> Iterator[str]:
    """Files and folders that must exist now.

    The phantom may make its own folder, below the one we stand in.
    """
    root = OmegaConf.select(cfg, "data.root", throw_on_missing=False)
    draws = ".read_phantom" in str(OmegaConf.select(cfg, "data.read._target_"))
    if root is not None and not Path(root).exists() and not (draws and not Path(root).is_absolute()):
        yield f"data.root={root}: there is no such folder. " + (
            "The phantom draws its films there once you have made it; for films of your own type data=course or"
            " data=coco too"
            if draws
            else "Type the folder that holds the data set's table"
        )
    try:
        check_name(OmegaConf.select(cfg, "name", default=""))
    except ConfigError as error:
        yield str(error)
    images = OmegaConf.select(cfg, "images")
    if images is not None and not Path(images).exists():
        yield f"images={images}: there is no such file or folder"
    for key in ("model.weights", "model.film_weights", "model.volume_weights", "ckpt"):
        value = OmegaConf.select(cfg, key, throw_on_missing=False)
        if isinstance(value, str) and value != "DEFAULT" and not Path(value).exists():
            yield f"{key}={value}: there is no such file"
        elif key == "ckpt" and isinstance(value, str) and Path(value).is_dir() and not (Path(value) / CARD).exists():
            yield f"ckpt={value}: a folder, expected a checkpoint of train.py: type ckpt={_best(Path(value))}"


def _best(folder: Path) -> str:
    """Return the checkpoint that is meant by a folder: that of the run, where the folder is one's."""
    places = [folder / "best.ckpt", folder / "checkpoints" / "best.ckpt"]
    return str(next((place for place in places if place.is_file()), f"{folder}/…/checkpoints/best.ckpt"))


def _exit(message: str, code: int = 2) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(code)


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


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return ``cfg`` resolved into dicts, lists and scalars."""
    container = OmegaConf.to_container(cfg, resolve=True)
    if not isinstance(container, dict):
        raise TypeError("a config is a mapping")
    return {str(key): value for key, value in container.items()}


# Here, not in ``entry``: the processes that a launcher starts import this module and nothing else
OmegaConf.register_new_resolver("cxr.run_dir", run_dir, use_cache=True, replace=True)
OmegaConf.register_new_resolver("cxr.job_name", job_name, replace=True)
OmegaConf.register_new_resolver("cxr.command", command, replace=True)  # in the help of the scripts
