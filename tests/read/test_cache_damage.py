"""What a film's cached copy may suffer: it is made again or named, and never read as another film."""

import errno
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cached_films import RAMP, make, stored_file
from cxr.read.dicom import ReadError

DAMAGES = {
    "cut": lambda data: data[: len(data) // 2],
    "cut by a byte": lambda data: data[:-1],
    "empty": lambda data: b"",
    "a pixel": lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:],
    "metadata": lambda data: data.replace(b'"width": 48', b'"width": 49'),
    "the header": lambda data: data[:20] + b"garbage" + data[27:],
    "longer": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.usefixtures("settled")
def test_a_damaged_cache_file_is_rebuilt_never_read(tmp_path, write_film, decodings, damage):
    path, films = write_film(RAMP), make(tmp_path)
    good = np.array(films.get(path).pixels)
    file = stored_file(tmp_path)
    data = file.read_bytes()
    assert damage(data) != data
    time.sleep(0.02)  # a tick of the clock, so that the damage has a time of its own
    file.write_bytes(damage(data))
    assert_array_equal(films.get(path).pixels, good)
    assert file.read_bytes() == data
    assert len(decodings) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b'{"entry": {}}', b"\xff\xfe"])
@pytest.mark.usefixtures("settled")
def test_a_damaged_index_costs_a_hash_and_nothing_else(tmp_path, write_film, decodings, damage):
    path, films = write_film(RAMP), make(tmp_path)
    good = np.array(films.get(path).pixels)
    (index,) = (tmp_path / "cache").rglob("*.json")
    index.write_bytes(damage)
    assert_array_equal(films.get(path).pixels, good)
    assert json.loads(index.read_bytes())
    assert len(decodings) == 1


def test_a_missing_cache_file_is_rebuilt(tmp_path, write_film):
    path, films = write_film(RAMP), make(tmp_path)
    films.get(path)
    stored_file(tmp_path).unlink()
    assert films.get(path).pixels.shape == (32, 24)


LOSSES = {
    "cut off": lambda file: os.truncate(file, 500),
    "empty": lambda file: os.truncate(file, 0),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
def test_a_cache_file_that_is_lost_between_two_looks_at_it_is_made_again(tmp_path, write_film, lose):
    path, films = write_film(RAMP), make(tmp_path)
    good = np.array(films.get(path).pixels)
    film = films.get(path)  # mapped into the memory, a file that is cut off now would end the process
    lose(stored_file(tmp_path))
    assert_array_equal(film.pixels, good)


class FailingDisk:
    """A disk that no longer gives back the files of a cache, as often as it is told to fail."""

    def __init__(self, monkeypatch, failures):
        opened, self.left = Path.open, failures

        def open_file(path, mode="r", *args, **settings):
            if path.suffix == ".npy" and mode == "rb" and self.left > 0:
                self.left -= 1
                raise OSError(errno.EIO, "Input/output error", str(path))
            return opened(path, mode, *args, **settings)

        monkeypatch.setattr(Path, "open", open_file)


@pytest.mark.usefixtures("settled")
def test_a_disk_that_does_not_give_a_cached_film_back_costs_a_decoding_or_names_the_film(
    tmp_path, write_film, decodings, monkeypatch
):
    path, films = write_film(RAMP), make(tmp_path)
    good = np.array(films.get(path).pixels)
    FailingDisk(monkeypatch, failures=2)  # the pixels, and the file whole to see whether it is damaged
    assert_array_equal(films.get(path).pixels, good)
    assert len(decodings) == 2
    FailingDisk(monkeypatch, failures=9)
    with pytest.raises(ReadError, match=f"{path}: its decoded copy .* cannot be read: Input/output error"):
        films.get(path).pixels  # noqa: B018


def test_a_film_that_is_changed_in_use_is_named_and_never_another_ones_pixels(tmp_path, write_film):
    path, films = write_film(RAMP), make(tmp_path)
    film = films.get(path)
    stored_file(tmp_path).unlink()
    write_film(RAMP[::-1].copy())
    with pytest.raises(ReadError, match="was changed while it was in use"):
        film.pixels  # noqa: B018


def test_a_failed_write_leaves_nothing_behind(tmp_path, write_film, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path).get(write_film(RAMP))
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []
