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


def nearest(word: str, known: Sequence[str]) -> str:
    """Return a hint for a user who typed ``word``: the nearest of the ``known`` words, and all of them."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(known)}." if known else hint


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
