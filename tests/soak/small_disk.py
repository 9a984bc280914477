"""Lets the disk run full at each page that a command writes: a program for a mount namespace of its own.

    unshare -rm sh -c 'mount -t tmpfs -o size=400m soak DISK && exec python tests/soak/small_disk.py DISK LEARNED NAME'

DISK is an empty folder, LEARNED one with a training in ``run`` and its films in ``data``. The command NAME runs on a
disk with so many pages left, and again when there is room. The first call must end with one clear error, the second as
if the disk had never been full. The amounts of room are spread over all that the command writes. A line of JSON is
printed.
"""

import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from scripts import start
from soak.kills import Verb, differences
from soak.sizes import ROOMS, SECONDS, chance_of
from soak.verbs import VERBS, list_few_films
from soak.whole import contents

RUN = "written"
_PAGE = 4096
_FULL = ("the disk is full", "No space left on device")


@dataclass
class Outcome:
    """What became of a command on disks with little room.

    Args:
        pages: that the command writes where it has room.
        tried: amounts of room.
        refused: how many of them ended with a clear error.
        faults: all else.
    """

    pages: int
    tried: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)


def tried(verb: Verb, disk: Path, learned: Path, rooms: int, seconds: float, name: str) -> Outcome:
    """Run ``verb`` with up to ``rooms`` amounts of room, all there are where these are fewer."""
    place, words = disk / "place", (*verb.words, verb.named.format(RUN))
    _prepare(place, learned)
    before = free(disk)
    alone = start(verb.script, place, *words)
    if alone.wait(600) != 0:
        raise RuntimeError(f"{name} fails where it has room: {alone.printed()}")
    expected, outcome = contents(place / RUN), Outcome((before - free(disk)) // _PAGE)
    chance, until = chance_of(f"disk {name}"), time.monotonic() + seconds
    rooms = min(rooms, outcome.pages + 1)
    ends = [number * (outcome.pages + 1) // rooms for number in range(rooms + 1)]
    chosen = [chance.randrange(start, end) for start, end in itertools.pairwise(ends)]
    for room in chance.sample(chosen, rooms):  # in any order, so that a soak that ends early has tried some of each
        if time.monotonic() > until or len(outcome.faults) > 4:
            break
        _prepare(place, learned)
        outcome.tried += 1
        outcome.faults += [f"{room} pages: {fault}" for fault in _at(room, verb, words, disk, expected, outcome)]
    return outcome


def _at(
    room: int, verb: Verb, words: Sequence[str], disk: Path, expected: dict[str, str], outcome: Outcome
) -> list[str]:
    place, ballast = disk / "place", disk / "ballast"
    with ballast.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free(disk) - room * _PAGE))
    job = start(verb.script, place, *words)
    code, printed, faults = job.wait(600), job.printed(), []
    ballast.unlink()
    if code != 0 and ("Traceback" in printed or not any(word in printed for word in _FULL)):
        faults.append(f"ends with {code} and no clear error: {printed[-2000:]}")
    outcome.refused += code != 0 and not faults
    again = start(verb.script, place, *words)
    if again.wait(600) != 0:
        return [*faults, f"does not go on when there is room: {again.printed()[-2000:]}"]
    return [*faults, *differences(expected, contents(place / RUN))]


def _prepare(place: Path, learned: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(learned / "data", place / "data")
    shutil.copytree(learned / "run", place / "run", ignore=shutil.ignore_patterns("tensorboard", "last*", "previous*"))
    list_few_films(place)


def free(disk: Path) -> int:
    """Return the bytes that are free."""
    return shutil.disk_usage(disk).free


if __name__ == "__main__":
    disk, learned, command = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    print(json.dumps(asdict(tried(VERBS[command], disk, learned, ROOMS, SECONDS, command))))
