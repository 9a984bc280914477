"""What evaluate.py and explain.py leave in the run of a checkpoint, or in a sweep's folder, for its model card.

A note is a json file in ``measured/`` that has all figures of one run with the command that made them. So the card of a
model can be made anew at any time from its own folder, wherever the evaluation itself lay.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr import installation
from cxr.config.run_files import COMMAND
from cxr.files import DamagedFileError, read_mapping, write_json
from cxr.report.evaluate_tables import plain_values
from cxr.report.without_paths import command_without_paths
from cxr.runs.named_detector import BEST, NamedDetector
from cxr.runs.provenance import git, versions
from cxr.runs.result import typed

FOLDER = "measured"
FORMAT = 1
EVALUATION, EXPLANATION = "evaluate", "explain"
_NOT_MEASURING = ("ckpt", "language", "hydra.run.dir", "run_dir", "worst")  # settings that change no figure


def home_of(named: NamedDetector) -> Path | None:
    """Return the folder that a detector's card lies in: its run's, or its sweep's.

    None for a checkpoint that lies alone, for a list of them, for a part of a sweep and for other views than the plain
    one: each of these is another detector than the one that the folder stands for.
    """
    if not all(view.plain for view in named.views) or len(named.views) > 1 or named.left_out:
        return None
    if named.folder is not None:
        return named.folder
    path = named.members[0].path
    run = path.absolute().parent.parent
    whole = len(named.members) == 1 and path.absolute() == run / BEST and (run / COMMAND).is_file()
    return run if whole else None


def write_note(
    home: Path, named: NamedDetector, script: str, run: Path, content: Mapping[str, Any], freezes: bool = False
) -> Path:
    """Write what the run of ``script`` in the folder ``run`` has measured of a detector; return the note's path.

    The same command on the same films replaces its note. ``freezes`` says that the run has itself chosen what is frozen
    with the detector, so that its figures belong to whatever that is.
    """
    words = typed(run)
    settings = sorted(word for word in words if word.partition("=")[0] not in _NOT_MEASURING)
    key = hashlib.blake2b(f"{settings} {content.get('data')}".encode(), digest_size=4).hexdigest()
    path = home / FOLDER / f"{script}-{key}.json"
    path.parent.mkdir(exist_ok=True)
    note = {
        "format": FORMAT,
        "script": script,
        "members": list(named.digests),
        "digest": None if freezes else named.digest,
        "command": command_without_paths([*call_of(script), *words], home),
        "versions": versions(),
        "git": git(),
        **content,
    }
    write_json(path, plain_values(note), allow_nan=False)
    return path


def read_notes(home: Path, named: NamedDetector, script: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names and contents of a script's notes about this very detector; what is damaged is left out."""
    for path in sorted((home / FOLDER).glob(f"{script}-*.json")):
        try:
            note = read_mapping(path, "format", "script", "members", "digest", "command")
        except (DamagedFileError, OSError):
            continue
        of_these = note["format"] == FORMAT and note["members"] == list(named.digests)
        if of_these and note["digest"] in (None, named.digest):
            yield path.stem, note


def call_of(script: str) -> Sequence[str]:
    """Return the words that call a script here: the same ones whichever way this process was called."""
    return ("cxr", script) if installation.CLONE is None else ("python", f"{script}.py")
