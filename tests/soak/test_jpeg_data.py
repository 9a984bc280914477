"""Bits that flip in the data of JPEG films: how many of the films are refused, and how many are read as others."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cxr.read.dicom import ReadError, parse_film
from fuzz_films import made_films
from soak.sizes import FILMS, SEED, tell

pytestmark = pytest.mark.soak

_KINDS = ("JPEGBaseline8Bit", "JPEGExtended12Bit", "JPEGLossless", "JPEGLosslessSV1")
_STEPS = 2  # by which a pixel may differ and be called the same
_FEW = 64  # pixels: those of a block


def outcome(path: Path, damaged: bytes, sound: np.ndarray) -> str:
    """Say what becomes of a damaged film."""
    try:
        pixels = parse_film(path, damaged).pixels
    except ReadError:
        return "refused"
    others = int((np.abs(pixels.astype(int) - sound) > _STEPS).sum())
    return "the same" if others == 0 else "up to a block is another" if others <= _FEW else "more is another"


def test_most_jpeg_films_with_damaged_data_are_refused(tmp_path: Path) -> None:
    films = [path for path in made_films(tmp_path) if path.stem.split("_")[-1] in _KINDS]
    assert len(films) == 6
    for flips in (1, 8):
        counts = Counter[str]()
        for path in films:
            content = path.read_bytes()
            sound = parse_film(path, content).pixels.astype(int)
            start, end = (
                content.index(b"\xff\xda", content.rindex(b"\xe0\x7f\x10\x00")) + 10,
                content.rindex(b"\xff\xd9"),
            )
            for number in range(FILMS // 20):
                rng, damaged = np.random.default_rng([SEED, number]), bytearray(content)
                for at in rng.integers(start, end, flips):
                    damaged[at] ^= 1 << rng.integers(8)
                counts[outcome(path, bytes(damaged), sound)] += 1
        tell(f"JPEG films with {flips} flipped bits", **counts)
        assert counts["refused"] > counts.total() * (0.1 if flips == 1 else 0.5)
