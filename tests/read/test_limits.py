"""What a film may cost: pixels, bytes of its file, of its header and of what it inflates to."""

import os
import struct
import time
import tracemalloc
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from cxr.read import limits
from cxr.read.dicom import ReadError, read_dicom, read_film, read_header
from cxr.read.workers import outcomes


@contextmanager
def within(nbytes):
    """Fail where Python and NumPy take more than ``nbytes`` at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < nbytes
    finally:
        tracemalloc.stop()


# --- pixels


def test_40_million_pixels_are_the_limit_and_the_error_says_what_to_type(write_film, monkeypatch):
    monkeypatch.delenv("CXR_MAX_PIXELS", raising=False)
    assert limits.max_pixels() == 40_000_000
    path = write_film(Rows=8000, Columns=5001)
    with pytest.raises(
        ReadError, match=r"8000 × 5001, expected at most 40,000,000 pixels .* type CXR_MAX_PIXELS=40008000"
    ):
        read_dicom(path)


def test_the_limit_is_an_environment_variable(write_film, monkeypatch):
    path = write_film(np.zeros((3, 4), np.uint16))
    monkeypatch.setenv("CXR_MAX_PIXELS", "12")
    assert read_dicom(path).pixels.shape == (3, 4)
    monkeypatch.setenv("CXR_MAX_PIXELS", "11")
    with pytest.raises(ReadError, match="3 × 4, expected at most 11 pixels"):
        read_dicom(path)


def test_reader_processes_inherit_the_limit(write_film, monkeypatch):
    paths = [write_film(name=f"{n}.dcm") for n in range(12)]  # enough for a pool
    monkeypatch.setenv("CXR_MAX_PIXELS", "3")
    failures = [outcome for _, outcome in outcomes(read_dicom, paths, 2, progress=False)]
    assert all("expected at most 3 pixels" in str(failure) for failure in failures)


@pytest.mark.parametrize("setting", ["0", "-5", "4e7", "many", "1.5", "nan", "٣"])
def test_a_limit_that_is_no_number_above_0_is_an_error(write_film, monkeypatch, setting):
    monkeypatch.setenv("CXR_MAX_PIXELS", setting)
    with pytest.raises(ValueError, match=f"CXR_MAX_PIXELS is '{setting}', expected a whole number of pixels above 0"):
        limits.max_pixels()
    with pytest.raises(ReadError, match="CXR_MAX_PIXELS is"):
        read_dicom(write_film())


def test_a_file_larger_than_any_film_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_MAX_PIXELS", "1000")
    path = tmp_path / "huge.dcm"
    with path.open("wb") as file:
        file.truncate(30_000_000)
    with within(1_000_000), pytest.raises(ReadError, match="has 30,000,000 bytes, expected at most 16,781,216"):
        read_film(path)


# --- memory of sound films: the file's bytes and the pixels, nothing else


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("bits", [12, 16])
def test_an_uncompressed_film_costs_twice_its_size(write_film, syntax, bits):
    film = np.random.default_rng(0).integers(0, 4096, (1500, 2000)).astype(np.uint16)
    path = write_film(film, syntax=syntax, BitsStored=bits)
    read_dicom(path)
    with within(2.1 * film.nbytes):
        assert_array_equal(read_dicom(path).pixels[::500], film[::500])


# --- deflated data sets


def deflated(path, behind=b"", meta=b""):
    """Rewrite a deflated film: ``behind`` follows its data set inside, ``meta`` is put into its file meta."""
    data = path.read_bytes()
    start = 144 + struct.unpack("<I", data[140:144])[0]
    inflated = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    body = deflate.compress(inflated) + b"".join(deflate.compress(piece) for piece in behind) + deflate.flush()
    path.write_bytes(data[:140] + struct.pack("<I", start - 144 + len(meta)) + meta + data[144:start] + body)
    return path


PRIVATE_META = b"\2\0\0\1OB\0\0" + struct.pack("<I", 3000) + b"1.2.840.10008.1.2.1 " * 150
ZEROS = [bytes(10**6)] * 200


def test_the_transfer_syntax_is_found_wherever_it_stands_in_the_file_meta(write_film):
    film = np.arange(12).reshape(3, 4)
    path = deflated(write_film(film, syntax=DeflatedExplicitVRLittleEndian), meta=PRIVATE_META)
    assert_array_equal(read_dicom(path).pixels, film)
    assert read_header(path).rows == 3


@pytest.mark.parametrize("meta", [b"", PRIVATE_META])
def test_what_follows_the_pixels_is_never_inflated(write_film, meta):
    path = deflated(write_film(syntax=DeflatedExplicitVRLittleEndian), behind=ZEROS, meta=meta)
    with within(2_000_000):
        assert_array_equal(read_dicom(path).pixels, [[0, 1], [2, 3]])
        assert read_header(path).rows == 2


def test_a_deflate_bomb_in_front_of_the_pixels_is_refused(write_film):
    path = write_film(syntax=DeflatedExplicitVRLittleEndian)
    data = path.read_bytes()
    start = 144 + struct.unpack("<I", data[140:144])[0]
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    body = deflate.compress(b"\x08\0\x05\0UT\0\0" + struct.pack("<I", 2 * 10**8))
    path.write_bytes(data[:start] + body + b"".join(deflate.compress(piece) for piece in ZEROS) + deflate.flush())
    for read in (read_dicom, read_header):
        with within(60_000_000), pytest.raises(ReadError, match="the elements before Pixel Data inflate to more than"):
            read(path)


def test_the_header_of_a_huge_deflated_file_is_read_without_the_rest(write_film):
    path = write_film(syntax=DeflatedExplicitVRLittleEndian)
    os.truncate(path, 3 * 10**9)  # with a hole at its end
    with within(100_000_000):
        assert read_header(path).rows == 2


def test_damaged_and_cut_deflated_data_are_named(write_film):
    path = write_film(np.zeros((40, 50), np.uint16), syntax=DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(ReadError, match=r"film\.dcm: "):
        read_dicom(path)
    start = 144 + struct.unpack("<I", whole[140:144])[0]
    path.write_bytes(whole[:start] + b"\xff" * 40 + whole[start:])
    with pytest.raises(ReadError, match="the deflated data set is damaged"):
        read_dicom(path)


# --- headers


def with_elements(path, elements):
    """Put raw explicit elements in front of Rows."""
    data = path.read_bytes()
    at = data.index(b"\x28\0\x10\0US")
    path.write_bytes(data[:at] + elements + data[at:])
    return path


SEQUENCE = b"\x28\0\x10\x30SQ\0\0" + b"\xff" * 4
ITEM = b"\xfe\xff\x00\xe0" + b"\xff" * 4


@pytest.mark.parametrize("depth", [50, 500, 5000])
def test_sequences_within_sequences_are_one_read_error(write_film, depth):
    path = with_elements(write_film(), (SEQUENCE + ITEM) * depth)
    for read in (read_dicom, read_header):
        with pytest.raises(ReadError, match=r"film\.dcm: "):
            read(path)


def test_a_million_elements_in_a_sequence_are_not_built(write_film):
    private = b"\x09\0\x01\x10SQ\0\0" + b"\xff" * 4 + ITEM
    elements = b"".join(struct.pack("<HH2sH", 0x11 + 2 * (n >> 16), n & 0xFFFF, b"LO", 0) for n in range(10**6))
    path = with_elements(write_film(), private + elements)
    started = time.monotonic()
    for read in (read_dicom, read_header):
        with within(60_000_000), pytest.raises(ReadError, match="elements before Pixel Data take more than 16,777,216"):
            read(path)
    assert time.monotonic() - started < 10


def test_a_value_of_a_million_numbers_is_refused(write_film):
    numbers = b"1\\" * 500_000
    path = write_film()
    data = path.read_bytes()
    data = data.replace(
        b"\x28\0\x02\0US", b"\x28\0\x50\x10UT\0\0" + struct.pack("<I", len(numbers)) + numbers + b"\x28\0\x02\0US"
    )
    path.write_bytes(data)
    with pytest.raises(ReadError, match="WindowCenter has 1,000,000 bytes, expected at most 16,384"):
        read_dicom(path)


def test_large_elements_that_nobody_asks_for_cost_nothing(write_film):
    private = b"\x09\0\x01\x10OB\0\0" + struct.pack("<I", 40_000_000)
    path = with_elements(write_film(), private + bytes(40_000_000))
    with within(1_000_000):
        assert read_header(path).rows == 2
    assert read_dicom(path).pixels.shape == (2, 2)
