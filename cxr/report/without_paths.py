"""What stands in reports in place of a path: folders and files are often named after patients."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr.read.radiograph import pseudonym

_MAY_NAME_A_PATIENT = (  # the last word of a setting that holds a path
    *("images", "root", "unmarked", "cache", "dir", "run_dir"),
    *("key", "train_images", "val_images", "test_images"),
)


def folder_pseudonym(path: Path | str) -> str:
    """Return the pseudonym of a path's base name: the same folder has the same one wherever it stands."""
    return pseudonym(Path(path).absolute().name)


def without_path(error: BaseException | str, path: Path | str, instead: str) -> str:
    """Return the text of an error with ``instead`` in place of ``path``, and of its name where that stands alone."""
    path, text = Path(path), str(error)
    for name in (str(path), str(path.absolute()), path.name):
        if name:
            text = text.replace(name, instead)
    return text


def text_without_paths(text: str) -> str:
    """Return a sentence with a pseudonym in place of each absolute path; what lies below this folder stays relative."""
    text = text.replace(f"{Path.cwd()}{os.sep}", "")
    return _PATH_IN_TEXT.sub(lambda match: folder_pseudonym(match[0]), text)


def overrides_without_paths(overrides: Sequence[str]) -> list[str]:
    """Return what was typed, ``key=value`` each; folders of films and absolute paths are pseudonyms."""
    return [_without_path(override) for override in overrides]


def _without_path(override: str) -> str:
    key, equals, value = override.partition("=")
    if equals and value and key.rpartition(".")[2] in _MAY_NAME_A_PATIENT:
        return f"{key}={folder_pseudonym(value.strip(chr(39) + chr(34)))}"
    return _without_absolute(override)


def _without_absolute(word: str) -> str:
    return _ABSOLUTE.sub(lambda match: folder_pseudonym(match[0]), word)


def settings_without_paths(node: Any) -> Any:
    """Return a config, plain data, with a pseudonym in place of each folder of films and each absolute path."""
    if isinstance(node, Mapping):
        return {
            key: folder_pseudonym(value)
            if key in _MAY_NAME_A_PATIENT and isinstance(value, str) and value
            else settings_without_paths(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [settings_without_paths(value) for value in node]
    return folder_pseudonym(node) if isinstance(node, str) and _ABSOLUTE.match(node) else node


def command_without_paths(words: Sequence[str], home: Path | None = None) -> str:
    """Return what was typed as one line in which no folder of films and no absolute path stands.

    The folder ``home`` is called ``RUN``; any other such path is a pseudonym. Where the run was to lie is left out.
    """
    places = [] if home is None else sorted({str(home), str(home.absolute()), os.path.relpath(home)}, key=len)
    plain = []
    for word in words:
        if word.startswith(_OWN_FOLDER):
            continue
        for place in reversed([place for place in places if place not in (".", "/")]):
            word = re.sub(rf"(?<![\w./-]){re.escape(place)}(?=[/,\]'\"]|$)", "RUN", word)
        plain.append(_without_absolute(word) if "RUN" in word else _without_path(word))
    return shlex.join(plain)


_OWN_FOLDER = ("hydra.run.dir=", "run_dir=")
_PATH_IN_TEXT = re.compile(r"(?<![\w.:\-/])(?:~|[A-Za-z]:)?[/\\](?:(?!: )[^,;'\"\]])+")
_ABSOLUTE = re.compile(r"(?<![\w.:\-/])(?:~|[A-Za-z]:)?[/\\][^,\]'\"]+")
