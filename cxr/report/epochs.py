"""The table of a run's epochs, ``metrics.csv``. Nothing here imports torch."""

import csv
from pathlib import Path


def read_epochs(path: Path) -> list[dict[str, float]]:
    """Return the rows of a run's ``metrics.csv``, [] where there is none yet; a figure an epoch lacks is left out."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
