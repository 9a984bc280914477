"""What all objects of a film have in common: the series they are in, what made them, and the frame of their boxes.

No UID is drawn by chance. Each follows from the film, the algorithm and what the object is, so that an object that is
made or sent again is the same one to an archive, while a newer model or other settings make other series.
"""

import uuid
from importlib.metadata import version
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cxr.report.algorithm import Algorithm

MAKER = "cxr"
NOTICE = "Research software, not a diagnosis"
_UIDS = uuid.UUID("b7ffd37c-6b5d-5d0f-9a0e-0c6e0bd6a0f1")  # never to change: with another one all objects are new
_SERIES = {"sr": 9901, "pr": 9902, "sc": 9903, "pm": 9904}  # numbers far from those a modality gives


def derived_uid(*words: str) -> hd.UID:
    """Return the UID that follows from these words, below 2.25 (PS3.5 B.2): the same ones give the same UID."""
    return hd.UID.from_uuid(str(uuid.uuid5(_UIDS, "\0".join(words))))


def origin(source: Dataset, algorithm: Algorithm, kind: str, maps: str = "") -> dict[str, Any]:
    """Return what every object about the film ``source`` says of the series it is in and of what made it.

    All objects of a kind, of one study and one algorithm, are in one series. ``maps`` says which maps are in this one.
    """
    made = (algorithm.identity(), kind, maps and f"{maps} {algorithm.maps}")
    return {
        "series_instance_uid": derived_uid("series", str(source.StudyInstanceUID), *made),
        "series_number": _SERIES[kind],
        "sop_instance_uid": derived_uid("object", str(source.SOPInstanceUID), *made),
        "instance_number": _number(source),
        "series_description": f"{MAKER} detections ({NOTICE.lower()})",
        "manufacturer": MAKER,
        "manufacturer_model_name": "detector",
        "software_versions": [algorithm.version, f"checkpoint {algorithm.digest}", f"highdicom {version('highdicom')}"],
        "device_serial_number": algorithm.digest,
        "specific_character_set": "ISO_IR 192",
    }


def polyline(source: Dataset, box: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the corners of ``box`` (xyxy), the first one again at the end: [5, 2] of (column, row) in the film."""
    x0, y0, x1, y1 = np.clip(box, 0, np.tile([source.Columns, source.Rows], 2)).astype(np.float64).round(2)
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])


def _number(source: Dataset) -> int:
    """Return the film's own number in its series, so that the films of a study keep their order; 1 without one."""
    try:
        number = int(source.get("InstanceNumber") or 1)
    except (TypeError, ValueError):
        return 1
    return number if 0 < number < 2**31 else 1
