"""What Hydra's grammar would misread, written as it reads it."""

import re
from collections.abc import Sequence
from pathlib import Path


def checkpoints_as_list(argv: Sequence[str]) -> list[str]:
    """Return the words of a command with ``ckpt=a.ckpt,b.ckpt`` as a list of two: Hydra takes a comma for a sweep.

    A path may hold commas itself, as the folders of a sweep do: the words are cut after ``.ckpt`` only, and not at all
    where the whole names a file. What is quoted, a list already, or meant as a sweep (``-m``) stays as it is.
    """
    if {"-m", "--multirun"} & set(argv):
        return list(argv)
    return [f"ckpt={_listed(word[5:])}" if word.startswith("ckpt=") else word for word in argv]


def _listed(value: str) -> str:
    if "," not in value or value[0] in "['\"":
        return value
    paths = [value] if Path(value).is_file() else re.split(r"(?<=\.ckpt),\s*", value)
    quoted = ["'" + path.replace("'", r"\'") + "'" for path in paths]
    return quoted[0] if len(quoted) == 1 else f"[{','.join(quoted)}]"
