"""The words that a user types: rewritten where Hydra would misread them, with hints for words that do not exist."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path


def as_hydra_reads(argv: Sequence[str]) -> list[str]:
    """Return the words of a command, rewritten so that Hydra reads them as the user means them.

    Checkpoints as ``with_checkpoints_listed``. ``findings=[a,b]`` becomes ``{only: [a, b]}``, because Hydra would read
    the list as files of conf/findings/.
    """
    return [re.sub(r"^findings=\[(.*)\]$", _only, word) for word in with_checkpoints_listed(argv)]


def with_checkpoints_listed(argv: Sequence[str]) -> list[str]:
    """Return the words of a command with ``ckpt=a.ckpt,b.ckpt`` as a list, because Hydra takes the comma for a sweep.

    A path itself may have commas, as the folders of a sweep's jobs do. So it is cut only after ``.ckpt``, or after a
    folder where something stands on both sides, and not at all if the whole word is a file. A word that is quoted,
    already a list, or meant as a sweep (``-m``) stays as it is.
    """
    sweep = {"-m", "--multirun"} & set(argv)
    return [f"ckpt={_listed(word[5:])}" if word.startswith("ckpt=") and not sweep else word for word in argv]


def with_paths_quoted(argv: Sequence[str]) -> list[str]:
    """Return the words of a command with ``key=value`` quoted where Hydra's grammar has no letter for the value.

    That is a path with Chinese letters, brackets or an apostrophe, say. With ``-m`` each of several values is quoted by
    itself. A value that is quoted, a list or a mapping stays as it is. Raises ``ValueError`` for a path with "…", which
    stands in our pages for what only the user knows.
    """
    if elided := [word for word in argv if "…" in word]:
        raise ValueError(
            f"{elided[0]}: … stands for a part of the path that only you know, such as the time of a run:"
            " ls -d outputs/*/* lists them"
        )
    sweep = {"-m", "--multirun"} & set(argv)
    return [_with_value_quoted(word, bool(sweep)) for word in argv]


def nearest(word: str, known: Sequence[str]) -> str:
    """Return a hint for a user who typed ``word``: the nearest of the ``known`` words, and all of them."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(known)}." if known else hint


def _with_value_quoted(word: str, sweep: bool) -> str:
    key, equals, value = word.partition("=")
    if not equals or not re.fullmatch(r"[\w@./+~]+", key) or not value or value[0] in "'\"[{$":
        return word
    if not re.search(r"[^\x20-\x7e]|[()'\"#&;!<>`]", value) or re.match(r"\w+\(.*\)$", value):  # choice(…), range(…)
        return word
    parts = value.split(",") if sweep else [value]
    return f"{key}=" + ",".join("'" + part.replace("'", r"\'") + "'" for part in parts)


def _only(names: re.Match[str]) -> str:
    quoted = ("'" + name.strip().strip("'\"") + "'" for name in names[1].split(",") if name.strip())
    return f"findings={{only:[{','.join(quoted)}]}}"


def _listed(value: str) -> str:
    if "," not in value or value[0] in "['\"":
        return value
    paths = [value] if Path(value).is_file() else re.split(r"(?<=\.ckpt),\s*", value)
    paths = [part for path in paths for part in _cut_after_folder(path)]
    quoted = ["'" + path.replace("'", r"\'") + "'" for path in paths]
    return quoted[0] if len(quoted) == 1 else f"[{','.join(quoted)}]"


def _cut_after_folder(path: str) -> list[str]:
    """Return a folder and what stands behind its comma, where both are there; else the path as it is."""
    for comma in re.finditer(r",\s*", path):
        if Path(path[: comma.start()]).is_dir() and Path(path[comma.end() :]).exists():
            return [path[: comma.start()], path[comma.end() :]]
    return [path]
