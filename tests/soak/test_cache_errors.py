"""A cache whose disk fails: a film is decoded again or named, and never another picture than it is."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import call, start
from soak.kills import differences
from soak.sizes import chance_of, tell
from soak.whole import contents

pytestmark = pytest.mark.soak

EVALUATE = ("ckpt=run/checkpoints/best.ckpt", "samples=20")
ERRORS = """
import errno, pathlib, random
chance, opened = random.Random({seed}), pathlib.Path.open
def failing(path, mode="r", *more, **settings):
    if path.suffix == ".npy" and "r" in mode and chance.random() < {share}:
        raise OSError(errno.EIO, "Input/output error", str(path))
    return opened(path, mode, *more, **settings)
pathlib.Path.open = failing
"""


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def _flipped(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _zeros(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return (data[:at] + bytes(4096) + data[at + 4096 :])[: len(data)]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut off": _cut,
    "a bit flipped": _flipped,
    "a block of zeros": _zeros,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_films_whose_cached_files_are_damaged_are_decoded_again(place: Path, name: str) -> None:
    chance = chance_of(name)
    call("evaluate.py", place, *EVALUATE, f"hydra.run.dir=before_{name.replace(' ', '_')}")
    files = sorted((place / ".cache").rglob("*.npy"))
    for file in files:
        file.write_bytes(DAMAGES[name](file.read_bytes(), chance))
    call("evaluate.py", place, *EVALUATE, f"hydra.run.dir=after_{name.replace(' ', '_')}")
    before, after = (contents(place / f"{when}_{name.replace(' ', '_')}") for when in ("before", "after"))
    faults = list(differences(before, after))
    tell(f"cached files, {name}", files=len(files), faults=faults)
    assert files
    assert faults == []


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_a_disk_that_fails_now_and_then_costs_decodings_or_one_clear_error(place: Path, share: float) -> None:
    call("evaluate.py", place, *EVALUATE, f"hydra.run.dir=sound_{share}")
    refused = 0
    for seed in range(4):
        folder = f"failing_{share}_{seed}"
        job_words = (*EVALUATE, f"hydra.run.dir={folder}")
        job = start("evaluate.py", place, *job_words, before=ERRORS.format(seed=seed, share=share))
        if job.wait() == 0:
            assert not list(differences(contents(place / f"sound_{share}"), contents(place / folder)))
        else:
            refused += 1
            assert "cannot be read: Input/output error" in job.printed()
            assert "Traceback" not in job.printed()
    tell("a disk that fails", share=share, runs=4, refused=refused)
