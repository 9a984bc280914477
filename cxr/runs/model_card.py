"""The model card of a run or of an ensemble: ``python -m cxr card CKPT`` (``cxr card``).

CKPT is a checkpoint in its run's folder, that folder, or the folder of a sweep. ``card.json`` and ``card.html`` are
written into the folder. train.py, evaluate.py and explain.py call ``refresh_card`` at their end, so a card is there
without being asked for.
"""

import argparse
import errno
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxr.config.errors import ConfigError
from cxr.config.run_files import COMMAND, RESULT
from cxr.files import DamagedFileError, read_mapping, write_json
from cxr.report.model_card import JSON, PAGE, TRAINING, model_card, revision_of, training_figures
from cxr.report.model_card_page import model_card_page
from cxr.report.words import LANGUAGES
from cxr.runs.card_sources import commands_for, evaluations, explanations, sources_of
from cxr.runs.frozen_card import card_id, frozen_part
from cxr.runs.measured_notes import home_of, write_note
from cxr.runs.named_detector import BEST, NamedDetector, named_detector
from cxr.runs.result import tell, warn

_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_card(
    named: NamedDetector, folder: Path, language: str = "en", result: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write ``card.json`` and ``card.html`` of a detector into ``folder``, which holds what was measured of it.

    Args:
        named: the detector.
        folder: where the card is to lie. What was measured of the detector is read in its home (``home_of``).
        language: of the page.
        result: what ``result.json`` of the run is going to be, where it is not there yet.

    Returns the card. Its date is that of the first card with the same content.
    """
    frozen, commands = frozen_part(named), commands_for(named)
    home = home_of(named) or folder
    result = _read(home / RESULT) if result is None else result
    evaluated, explained = evaluations(home, named), explanations(home, named)
    of_this_run = len(named.members) == 1 and named.folder is None
    measured = {
        "training": training_figures(TRAINING, result.get("metrics", {})) if of_this_run else [],
        "evaluations": evaluated.entries,
        "explanations": explained.entries,
    }
    sources = {**sources_of(named, home), **evaluated.sources, **explained.sources}
    card = model_card(frozen, sources, measured, commands)
    before = _read(folder / JSON)
    made = before.get("made") if before.get("revision") == card["revision"] else None
    card["made"] = made or time.strftime("%Y-%m-%d")
    write_json(folder / JSON, card, allow_nan=False)
    model_card_page(folder / PAGE, card, language)
    return card


def refresh_card(named: NamedDetector, language: str = "en", result: Mapping[str, Any] | None = None) -> None:
    """Write the card of a detector into its home, where it has one; a folder that may not be written is left alone."""
    home = home_of(named)
    if home is None:
        return
    try:
        write_card(named, home, language, result)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
        warn(f"the model card in {home} is not renewed: {error.strerror}")


def renew_card(
    named: NamedDetector, script: str, run: Path, content: Mapping[str, Any], language: str, freezes: bool = False
) -> None:
    """Leave what the run of ``script`` in the folder ``run`` has measured with the detector, and write its card anew.

    Nothing is left of a detector without a home. The arguments are those of ``write_note``.
    """
    home = home_of(named)
    if home is None:
        return
    try:
        write_note(home, named, script, run, content, freezes)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
        warn(f"the model card in {home} is not renewed: {error.strerror}")
        return
    refresh_card(named, language)


def card_revision(named: NamedDetector) -> str:
    """Return the revision of the card that lies in a detector's home; "" where there is none, or it is another's."""
    home = home_of(named)
    card = {} if home is None else _read(home / JSON)
    whole = card.get("id") == card_id(named) and card.get("revision") == revision_of(card)
    return str(card["revision"]) if whole else ""


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_mapping(path)
    except (OSError, DamagedFileError):
        return {}


def _checkpoint_of(path: Path) -> Path:
    """Return the best checkpoint of a run whose folder is given; any other path as it is."""
    return path / BEST if (path / COMMAND).is_file() and (path / BEST).is_file() else path


def main(prog: str = "python -m cxr card") -> None:
    """Read the command line and write the card; exit with 2 where that is refused."""
    parser = argparse.ArgumentParser(prog=prog, description="Write the model card of a trained detector.")
    parser.add_argument("ckpt", type=Path, help="a checkpoint, its run's folder, or the folder of a sweep")
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="of the page")
    parser.add_argument("--out", type=Path, help="folder of the card, where it is not to lie with its run")
    given = parser.parse_args()
    try:
        named = named_detector(str(_checkpoint_of(given.ckpt)))
        folder = given.out or home_of(named)
        if folder is None:
            raise ConfigError(f"{given.ckpt} lies in no run's folder; type --out FOLDER for its card")
        folder.mkdir(parents=True, exist_ok=True)
        card = write_card(named, folder, given.language)
    except (ConfigError, DamagedFileError) as error:
        parser.exit(2, f"{error}\n")
    except OSError as error:
        parser.exit(1, f"{error.filename}: {error.strerror}\n")
    tell(f"model card {card['id']}, revision {card['revision']}: {folder / PAGE}")


if __name__ == "__main__":
    main()
