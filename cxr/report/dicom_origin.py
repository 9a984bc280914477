"""What all objects of a film have in common: the series they are in, what made them, and the frame of their boxes."""

from importlib.metadata import version
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cxr.report.algorithm import Algorithm

MAKER = "cxr"
NOTICE = "Research software, not a diagnosis"
_SERIES = {"sr": 9901, "pr": 9902, "sc": 9903, "pm": 9904}  # numbers far from those a modality gives


def origin(algorithm: Algorithm, kind: str) -> dict[str, Any]:
    """Return what every object says of the series it is in and of what made it."""
    return {
        "series_instance_uid": hd.UID(),
        "series_number": _SERIES[kind],
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
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
