"""Error messages for the user, about the command or about a run."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from omegaconf import DictConfig

from cxr.config.command_line import nearest
from cxr.files import why_not_written

_PLUGINS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}  # → extra


class ConfigError(ValueError):
    """The error of a config. Its message lists everything that is wrong."""


class NotNowError(ConfigError):
    """The error where nothing that was typed is wrong, but something else is away: the same command goes on later.

    So the exit code is 1 and not 2, and what started the command, such as a queue of jobs, may start it again.
    """


class SweepError(RuntimeError):
    """The error when jobs of a sweep did not complete. Which ones and why has been printed before."""


def reason(error: BaseException) -> str:
    """Return one line for the user with the reason why a run ended with ``error``."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        return (
            f"out of memory: lower data.batch_size or data.size, or type model.checkpoint_backbone=true ({text[:200]})"
        )
    if isinstance(error, ConfigError | FloatingPointError):  # their text is written for users
        return text
    if is_of_a_film(error):  # a DataLoader's worker puts its traceback in front of the text
        return text.rpartition("ReadError: ")[2]
    if not_written := why_not_written(error):
        return f"{not_written}. The same command then goes on from what is kept"
    return f"{type(error).__name__}: {text}"


def is_of_a_film(error: BaseException) -> bool:
    """Return whether ``error`` is that of a film which cannot be read, and so says itself all that a user needs."""
    from cxr.read.radiograph import ReadError  # imported here, so that the message for a misspelt word comes sooner

    return isinstance(error, ReadError)


@contextmanager
def film_errors() -> Iterator[None]:
    """Raise errors about films and their tables, whose text is written for their owner, as ``ConfigError``."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise ConfigError(reason(error) if why_not_written(error) else str(error)) from error


def explain(error: Exception) -> str:
    """Return in a user's words why Hydra could not compose the config, with the nearest name that exists."""
    cause = error.__cause__ or error
    text = str(error)
    key = getattr(cause, "full_key", None)
    if "not in struct" in str(cause) and key:
        word = str(key).rpartition(".")[2]
        parent = getattr(cause, "parent_node", None)
        known = sorted(str(k) for k in parent if str(k)[0] != "_") if isinstance(parent, DictConfig) else []
        if word == key and "model" in known:  # of train.py, whose groups without a node may be meant
            known = sorted({*known, "experiment", "sweep"})
        return f"{key}: there is no such setting. {nearest(word, known)}"
    if group := re.search(r"Could not override '(?P<group>[\w/]+)'\. No match", text):
        name = group["group"]
        if "/" in name:
            return f"{name}=…: the {name.partition('/')[0]} that is chosen has no such part to choose"
        return f"{name}=…: this command does not take this group of choices. --help lists what it takes"
    group = re.search(r"Could not find '(?P<group>[\w/]+)/(?P<option>[\w.-]+)'", text)
    plugin = re.search(r"'hydra/launcher/(?P<name>\w+)': Could not load 'hydra/launcher/(?P<plugin>\w+)'", text)
    if plugin and plugin["plugin"] in _PLUGINS:
        return f"hydra/launcher={plugin['name']} needs pip install 'cxr[{_PLUGINS[plugin['plugin']]}]'"
    if group:
        name, option = group.groups()
        options = re.search(r"Available options in '[\w/]+':\n(?P<names>(?:\t.*\n?)+)", text)
        known = options["names"].split() if options else []
        folders = re.findall(r"provider=(?!hydra|main).*, path=file://(.*)", text)  # --config-dir, hydra.searchpath
        places = " or ".join((f"conf/{name}/", *(f"{folder}/{name}/" for folder in folders)))
        return f"{name}={option}: there is no such file in {places}. {nearest(option, known)}"
    if "locating target 'cxr.runs.search.Study'" in text:
        return "a study needs pip install 'cxr[optuna]'"
    return text.split("\nfull_key")[0]


def exit_for(error: ConfigError) -> NoReturn:
    """Print what is wrong with a config and end the process."""
    exit_with(str(error), code=1 if isinstance(error, NotNowError) else 2)


def exit_with(message: str, code: int = 2) -> NoReturn:
    """Print a message for the user and end the process; 2 says that what was typed is wrong."""
    print(message, file=sys.stderr)
    raise SystemExit(code)
