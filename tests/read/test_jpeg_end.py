"""The data of a JPEG film end with its last sample: where they end before it or go on behind it, samples are wrong."""

from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from pydicom import uid

from cxr.read.codestream import open_jpeg
from cxr.read.dicom import ReadError, read_dicom

KINDS = ("baseline", "extended", "lossless 1", "lossless 4", "lossless 7")


def encoded(kind, film):
    """Return the transfer syntax and the codestream of a 12-bit film, of its highest 8 bits where it is baseline."""
    if kind == "baseline":
        return uid.JPEGBaseline8Bit, imagecodecs.jpeg8_encode((film >> 4).astype(np.uint8), level=90)
    if kind == "extended":
        return uid.JPEGExtended12Bit, imagecodecs.jpeg8_encode(film, level=90, bitspersample=12)
    predictor = int(kind.split()[1])
    codestream = imagecodecs.jpeg8_encode(film, lossless=True, predictor=predictor, bitspersample=12)
    return uid.JPEGLosslessSV1 if predictor == 1 else uid.JPEGLossless, codestream


@pytest.fixture
def film():
    """A 12-bit gradient with noise, [80, 90]."""
    noise = np.random.default_rng(0).integers(0, 60, (80, 90))
    return (np.linspace(0, 4036, 90)[None, :].astype(int) + noise).astype(np.uint16)


@pytest.fixture
def read(write_film):
    """Read a codestream as a film of this size, of which its header tells, too."""

    def read(syntax, codestream, rows=80, columns=90):
        at = open_jpeg(memoryview(codestream)).rows_at
        told = codestream[:at] + rows.to_bytes(2, "big") + columns.to_bytes(2, "big") + codestream[at + 4 :]
        bits = 8 if syntax == uid.JPEGBaseline8Bit else 12
        pixels = np.zeros((rows, columns), np.uint8 if bits == 8 else np.uint16)
        return read_dicom(write_film(pixels, syntax=syntax, codestream=told, BitsStored=bits)).pixels

    return read


@pytest.mark.parametrize("kind", KINDS)
def test_data_for_one_row_too_many_or_too_few_are_damage(read, film, kind):
    side = 1 if "lossless" in kind else 8  # a lossy film is coded in blocks of 8 × 8
    syntax, codestream = encoded(kind, film)
    assert read(syntax, codestream).shape == (80, 90)
    with pytest.raises(ReadError, match="the codestream ends before the last rows, which the decoder filled"):
        read(syntax, codestream, 80 + side)
    with pytest.raises(ReadError, match="the codestream holds more data than its picture takes: it is damaged"):
        read(syntax, codestream, 80 - side)


@pytest.mark.parametrize("kind", ["lossless 1", "lossless 4", "lossless 7"])
def test_data_for_a_single_sample_too_many_or_too_few_are_damage(read, film, kind):
    syntax, codestream = encoded(kind, film)  # of 80 × 90 = 7,200 samples
    with pytest.raises(ReadError, match="ends before the last rows"):
        read(syntax, codestream, 379, 19)  # 7,201
    with pytest.raises(ReadError, match="holds more data than its picture takes"):
        read(syntax, codestream, 313, 23)  # 7,199


def test_data_for_a_few_blocks_too_many_are_damage(read, film):
    syntax, codestream = encoded("baseline", film)  # of 10 × 12 blocks
    with pytest.raises(ReadError, match="holds more data than its picture takes"):
        read(syntax, codestream, 72, 104)  # 9 × 13


def test_data_for_one_row_too_many_are_damage_with_whatever_8_bit_predictor(write_film, film):
    for predictor in range(1, 8):
        pixels = (film >> 4).astype(np.uint8)
        codestream = imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=8)
        at = open_jpeg(memoryview(codestream)).rows_at
        shorter = codestream[:at] + b"\0\x4f" + codestream[at + 2 :]
        path = write_film(pixels[:-1], syntax=uid.JPEGLossless, codestream=shorter)
        with pytest.raises(ReadError, match="holds more data than its picture takes"):
            read_dicom(path)


@pytest.mark.parametrize("kind", KINDS)
def test_most_films_that_have_lost_100_bytes_within_their_data_are_refused(read, film, kind):
    syntax, codestream = encoded(kind, film)
    start, refused = len(codestream) - open_jpeg(memoryview(codestream)).scans, 0
    for at in range(start + 50, start + 550, 25):
        try:
            read(syntax, codestream[:at] + codestream[at + 100 :])
        except ReadError:
            refused += 1
    assert refused > 14  # of 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", [b"", b"\0", b"\xff", b"\xff\0"], ids=["none", "zeros", "fill", "ones"])
def test_a_byte_of_padding_in_front_of_the_end_marker_is_no_damage(read, film, kind, padding):
    syntax, codestream = encoded(kind, film)
    assert_array_equal(read(syntax, codestream[:-2] + padding + b"\xff\xd9"), read(syntax, codestream))


@pytest.mark.parametrize("restarts", [{"restart_marker_rows": 1}, {"restart_marker_blocks": 5}])
def test_a_codestream_with_restarts_is_read(read, film, restarts):
    pixels = (film >> 4).astype(np.uint8)
    Image.fromarray(pixels).save(stream := BytesIO(), format="JPEG", quality=95, **restarts)
    assert b"\xff\xdd\0\4" in stream.getvalue()  # a restart interval is told
    assert np.abs(read(uid.JPEGBaseline8Bit, stream.getvalue()).astype(int) - pixels).max() < 12


def test_8_bit_noise_is_read_whatever_the_predictor(write_film):
    # What libjpeg makes up behind the last row goes beyond 8 bits here, of which the decoder keeps only the lower ones
    pixels = np.random.default_rng(1).integers(0, 256, (9, 40)).astype(np.uint8)
    for predictor in range(1, 8):
        codestream = imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=8)
        assert_array_equal(
            read_dicom(write_film(pixels, syntax=uid.JPEGLossless, codestream=codestream)).pixels, pixels
        )


def test_a_lossless_codestream_with_restarts_is_read(read, film):
    # After a restart a row is predicted as the first one is: so copies of a row that is coded alone make a film
    row = encoded("lossless 4", film[:1])[1]
    header = open_jpeg(memoryview(row))
    at, start = header.rows_at - 5, len(row) - header.scans
    data = b"".join(row[start:-2] + bytes([0xFF, 0xD0 + n % 8]) for n in range(80))[:-2]
    interval = b"\xff\xdd\0\4" + (90).to_bytes(2, "big")  # in samples
    codestream = row[:at] + interval + row[at:start] + data + b"\xff\xd9"
    assert_array_equal(read(uid.JPEGLossless, codestream), np.repeat(film[:1], 80, axis=0))


@pytest.mark.parametrize("value", [0, 2048, 4095])
@pytest.mark.parametrize("size", [(1, 1), (1, 90), (9, 3), (8, 16)])
def test_a_film_of_a_single_value_is_read_whatever_its_size(write_film, value, size):
    pixels = np.full(size, value, np.uint16)  # 2048 is what libjpeg fills in
    for predictor in range(1, 8):
        codestream = imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=12)
        path = write_film(pixels, syntax=uid.JPEGLossless, codestream=codestream, BitsStored=12)
        assert_array_equal(read_dicom(path).pixels, pixels)
