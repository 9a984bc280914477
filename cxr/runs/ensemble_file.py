"""``ensemble.json`` in the folder of a sweep: what its out-of-fold films chose for its checkpoints as one detector.

Plain data. It belongs to the very checkpoints that it names by their digests, and to one list of views each.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cxr.config.errors import ConfigError
from cxr.detect.views import View
from cxr.files import DamagedFileError, read_mapping, write_json
from cxr.findings import FindingVocabulary
from cxr.measure.box_scores import ScoreCurve
from cxr.measure.operating_point import OperatingPoint
from cxr.measure.promises import Promises

FILE = "ensemble.json"
FORMAT = 1
_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Frozen:
    """What is chosen once, on films that the detectors did not see.

    Args:
        point: of screening.
        thresholds: finding → the calibrated score from which up its boxes are shown; a finding that nobody marked is
            missing.
        curves: finding → what makes a probability of a box's score; none where no box is right, or all are.
        promises: of thresholds of the calibrated scores; None in files of before.
    """

    point: OperatingPoint
    thresholds: Mapping[str, float]
    curves: Mapping[str, ScoreCurve]
    promises: Promises | None = None


def read_frozen(
    folder: Path, members: Mapping[str, str], views: Sequence[View], findings: FindingVocabulary
) -> Frozen | None:
    """Return what was frozen in a sweep's folder for these views; None where nothing was.

    Args:
        folder: of the sweep.
        members: path of each checkpoint within the folder → digest of its file.
        views: of each film.
        findings: that the file may name.

    Raises ``ConfigError`` where the file is damaged, or was chosen for other checkpoints.
    """
    path = folder / FILE
    if not path.exists():
        return None
    again = f"type evaluate.py ckpt={folder} split=out_of_fold to choose anew"
    try:
        content = read_mapping(path, "format", "members", "chosen", most_bytes=_MOST_BYTES)
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, expected {FORMAT}")
        before = dict(content["members"])
        entry = next((one for one in content["chosen"] if one["views"] == _plain(views)), None)
        frozen = None if entry is None else _frozen(entry, findings)
    except (DamagedFileError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged: {error}; {again}") from error
    if changed := sorted(name for name in {*before, *members} if before.get(name) != members.get(name)):
        raise ConfigError(f"{path} was chosen for other checkpoints, the first is {changed[0]}; {again}")
    return frozen


def write_frozen(folder: Path, members: Mapping[str, str], views: Sequence[View], frozen: Frozen) -> Path:
    """Write what was chosen for these views, beside what the file holds of these checkpoints for other views."""
    path, kept = folder / FILE, []
    try:
        before = read_mapping(path, "members", "chosen")
        if before["members"] == dict(members) and before.get("format") == FORMAT:
            kept = [one for one in before["chosen"] if one["views"] != _plain(views)]
    except (OSError, DamagedFileError, TypeError, KeyError):  # absent, or it is to be replaced
        kept = []
    entry = {
        "views": _plain(views),
        "operating_point": frozen.point.as_dict(),
        "thresholds": dict(frozen.thresholds),
        "calibration": {name: asdict(curve) for name, curve in frozen.curves.items()},
        "promises": frozen.promises and frozen.promises.as_dict(),
    }
    write_json(path, {"format": FORMAT, "members": dict(members), "chosen": [*kept, entry]})
    return path


def _frozen(entry: Mapping[str, Any], findings: FindingVocabulary) -> Frozen:
    thresholds, curves = dict(entry["thresholds"]), dict(entry["calibration"])
    if unknown := sorted({*thresholds, *curves} - set(findings.names)):
        raise ValueError(f"it names the finding {unknown[0]!r}, expected {', '.join(findings.names)}")
    for name, score in thresholds.items():
        if not isinstance(score, float | int) or isinstance(score, bool) or not 0 <= score <= 1:
            raise ValueError(f"thresholds.{name} is {score!r}, expected 0 to 1")
    for name, curve in curves.items():
        if not all(isinstance(value, float | int) and math.isfinite(value) for value in curve.values()):
            raise ValueError(f"calibration.{name} is {curve!r}, expected two numbers")
    point = OperatingPoint.from_dict(entry["operating_point"])
    promises = entry.get("promises")
    kept = None if promises is None else Promises.from_dict(promises, findings.names)
    return Frozen(point, thresholds, {name: ScoreCurve(**curve) for name, curve in curves.items()}, kept)


def _plain(views: Sequence[View]) -> list[dict[str, float]]:
    return [asdict(view) for view in views]
