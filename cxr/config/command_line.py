"""The words that a user types: rewritten where Hydra would misread them, with hints for words that do not exist."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path


def as_hydra_reads(argv: Sequence[str]) -> list[str]:
    """Return the words of a command, rewritten so that Hydra reads them as the user means them.

    ``ckpt=a.ckpt,b.ckpt`` becomes a list of two, because Hydra would read the comma as a sweep. A path itself may have
    commas, as the folders of a sweep do. So it is cut only after ``.ckpt``, and not at all if the whole word is a file.
    A word that is quoted, already a list, or meant as a sweep (``-m``) stays as it is.

    ``findings=[a,b]`` becomes ``{only: [a, b]}``, because Hydra would read the list as files of conf/findings/.
    """
    sweep = {"-m", "--multirun"} & set(argv)
    words = [f"ckpt={_listed(word[5:])}" if word.startswith("ckpt=") and not sweep else word for word in argv]
    return [re.sub(r"^findings=\[(.*)\]$", _only, word) for word in words]


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
    quoted = ["'" + path.replace("'", r"\'") + "'" for path in paths]
    return quoted[0] if len(quoted) == 1 else f"[{','.join(quoted)}]"
