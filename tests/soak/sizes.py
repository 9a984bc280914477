"""How much a soak does, from the environment: without anything set as much as docs/reliability.md tells of.

``CXR_SOAK_KILLS`` moments of each command, ``CXR_SOAK_FILMS`` damaged films, ``CXR_SOAK_ROOMS`` amounts of free room on
the disk, ``CXR_SOAK_SECONDS`` at most for each of these, ``CXR_SOAK_SEED`` of all that is drawn by chance, and
``CXR_SOAK_OUT``, a file to which a line of JSON is added for each thing that was tried.
"""

import json
import os
import random
from pathlib import Path


def _number(name: str, otherwise: int) -> int:
    return int(os.environ.get(f"CXR_SOAK_{name}", str(otherwise)))


KILLS = _number("KILLS", 50)
FILMS = _number("FILMS", 10_000)
ROOMS = _number("ROOMS", 40)
SECONDS = _number("SECONDS", 3600)
SEED = _number("SEED", 0)


def chance_of(what: str) -> random.Random:
    """Return what draws the moments of ``what``, the same for the same seed."""
    return random.Random(f"{SEED} {what}")  # noqa: S311


def tell(what: str, **figures: object) -> None:
    """Print what was tried and found, and add it to ``CXR_SOAK_OUT``."""
    line = json.dumps({"what": what, "seed": SEED, **figures})
    print(line)
    if place := os.environ.get("CXR_SOAK_OUT"):
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
