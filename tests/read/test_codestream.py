"""What a codestream says of itself is checked before it is decoded, and none that is damaged gives a wrong film."""

import struct
import sys
import threading
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from pydicom import uid

from cxr.read import decode
from cxr.read.dicom import ReadError, read_dicom
from cxr.read.htj2k import decode_htj2k, reported_errors


@pytest.fixture
def film():
    """A 12-bit gradient with noise, [200, 180]."""
    noise = np.random.default_rng(0).integers(0, 60, (200, 180))
    return (np.linspace(0, 4036, 180)[None, :].astype(int) + noise).astype(np.uint16)


def j2k(pixels, **settings):
    return imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k", **settings)


def box(kind, content, length=None):
    return struct.pack(">I4s", 8 + len(content) if length is None else length, kind) + content


SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"


def decoy(side):
    """A SIZ segment of side × side pixels, as it may stand in any box."""
    return b"\xff\x4f\xff\x51\x00\x29\x00\x00" + struct.pack(">8I", side, side, 0, 0, side, side, 0, 0) + b"\0\1\7\1\1"


# --- HTJ2K: errors that imagecodecs cannot raise


@pytest.mark.parametrize("seed", range(5))
def test_htj2k_with_garbage_in_its_body_is_refused_and_nothing_is_printed(write_film, film, seed, capfd):
    codestream = bytearray(imagecodecs.htj2k_encode(film, reversible=True))
    middle = len(codestream) // 2
    codestream[middle : middle + 4000] = np.random.default_rng(seed).bytes(4000)
    path = write_film(film, syntax=uid.HTJ2KLossless, codestream=bytes(codestream), BitsStored=12)
    with pytest.raises(
        ReadError, match=r"film\.dcm: High-Throughput.*OpenJPH cannot decode the pixel data: ojph error"
    ):
        read_dicom(path)
    assert capfd.readouterr().err == ""


def test_htj2k_errors_belong_to_the_thread_that_decodes(film):
    sound = memoryview(imagecodecs.htj2k_encode(film, reversible=True))
    broken = memoryview(bytes(sound[:20000]) + b"\x55" * (len(sound) - 20002) + b"\xff\xd9")
    wrong: list[str] = []

    def decode_often(stream, expected_error):
        for _ in range(20):
            try:
                same = np.array_equal(decode_htj2k(stream), film)
                wrong.extend([] if same and not expected_error else ["a damaged film was returned"])
            except RuntimeError as error:
                wrong.extend([] if expected_error else [f"a sound film was refused: {error}"])

    before = sys.unraisablehook
    threads = [threading.Thread(target=decode_often, args=(s, s is broken)) for s in (sound, broken, sound, broken)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sys.unraisablehook is before


def test_what_other_threads_report_meanwhile_is_handed_on(monkeypatch):
    handed: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: handed.append(str(report.exc_value)))

    class Dying:
        def __del__(self):
            raise RuntimeError("of another thread")

    def die():
        Dying()

    with reported_errors() as errors:
        thread = threading.Thread(target=die)
        thread.start()
        thread.join()
    assert (errors, handed) == ([], ["of another thread"])


# --- JPEG


def test_jpeg_without_data_but_with_an_end_marker_is_refused(write_film):
    film = np.full((64, 64), 128, np.uint8)
    codestream = imagecodecs.jpeg8_encode(film)
    scan = codestream.index(b"\xff\xda")
    empty = codestream[: scan + 2 + codestream[scan + 3]] + b"\xff\xd9"
    path = write_film(film, syntax=uid.JPEGBaseline8Bit, codestream=empty)
    with pytest.raises(ReadError, match=r"holds 0 bytes of picture, expected at least 16 for 64 × 64 pixels"):
        read_dicom(path)


def jpeg_of(kind, film):
    """Return transfer syntax, pixels and codestream."""
    if kind == "baseline":
        film = (film >> 4).astype(np.uint8)
        return uid.JPEGBaseline8Bit, film, imagecodecs.jpeg8_encode(film, level=90)
    if kind == "extended":
        return uid.JPEGExtended12Bit, film, imagecodecs.jpeg8_encode(film, level=90, bitspersample=12)
    codestream = imagecodecs.jpeg8_encode(film, lossless=True, predictor=int(kind), bitspersample=16)
    return uid.JPEGLossless, film, codestream


@pytest.mark.parametrize("kind", ["baseline", "extended", *"1234567"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9, 0.99])
def test_jpeg_cut_off_and_given_an_end_marker_is_refused(write_film, film, kind, part):
    # libjpeg fills the rest, with grey or with what it predicts, and tells nobody
    syntax, pixels, codestream = jpeg_of(kind, film)
    cut = codestream[: int(part * len(codestream))].rstrip(b"\xff") + b"\xff\xd9"
    path = write_film(pixels, syntax=syntax, codestream=cut, BitsStored=8 if kind == "baseline" else 12)
    with pytest.raises(ReadError, match=r"ends before the last rows|its data are missing"):
        read_dicom(path)


@pytest.mark.parametrize("kind", ["baseline", "extended", *"1234567"])
def test_a_film_that_ends_in_what_a_decoder_would_fill_in_is_sound(write_film, film, kind):
    film[120:] = 2048  # mid-grey of 12 bits, and no difference from any prediction
    syntax, pixels, codestream = jpeg_of(kind, film)
    path = write_film(pixels, syntax=syntax, codestream=codestream, BitsStored=8 if kind == "baseline" else 12)
    assert_array_equal(read_dicom(path).pixels[-8:], pixels[-8:])


def test_progressive_jpeg_is_refused_by_name(write_film):
    film = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    Image.fromarray(film).save(stream := BytesIO(), format="JPEG", progressive=True)
    path = write_film(film, syntax=uid.JPEGBaseline8Bit, codestream=stream.getvalue())
    with pytest.raises(ReadError, match="of a progressive or arithmetic process, expected a sequential or a lossless"):
        read_dicom(path)


def test_a_codestream_of_more_bits_than_the_film_has_room_for_is_refused(write_film, film):
    path = write_film(np.zeros(film.shape, np.uint8), syntax=uid.JPEG2000Lossless, codestream=j2k(film))
    with pytest.raises(ReadError, match="the codestream has 16 bits a sample, expected at most 8"):
        read_dicom(path)


def test_an_8_bit_codestream_in_a_12_bit_film_is_read(write_film, film):
    small = (film >> 4).astype(np.uint8)
    codestream = imagecodecs.jpeg8_encode(small, level=100)
    path = write_film(film, syntax=uid.JPEGBaseline8Bit, codestream=codestream, BitsStored=12)
    assert np.abs(read_dicom(path).pixels.astype(int) - small).max() <= 3


# --- JPEG 2000


@pytest.mark.parametrize("side", [64, 9000])
def test_the_size_is_that_of_the_codestream_not_of_a_decoy_in_another_box(write_film, film, side):
    inner = j2k(film[:64, :64])
    boxes = SIGNATURE + box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + box(b"uuid", b"\0" * 16 + decoy(side))
    path = write_film(film[:64, :64], syntax=uid.JPEG2000Lossless, codestream=boxes + box(b"jp2c", inner))
    assert_array_equal(read_dicom(path).pixels, film[:64, :64])


def test_a_decoy_does_not_hide_that_the_codestream_has_another_size(write_film, film, monkeypatch):
    monkeypatch.setitem(decode._CODECS, uid.JPEG2000Lossless, ("refusing", lambda stream: pytest.fail("was decoded")))
    boxes = SIGNATURE + box(b"uuid", b"\0" * 16 + decoy(64)) + box(b"jp2c", j2k(film))
    path = write_film(film[:64, :64], syntax=uid.JPEG2000Lossless, codestream=boxes)
    with pytest.raises(ReadError, match=r"\(200, 180, 1\), expected \(64, 64, 1\)"):
        read_dicom(path)


def test_boxes_may_tell_their_length_in_8_bytes_or_reach_to_the_end(write_film, film):
    inner = j2k(film)
    long = struct.pack(">I4sQ", 1, b"jp2c", 16 + len(inner)) + inner
    for last in (long, box(b"jp2c", inner, length=0)):
        path = write_film(film, syntax=uid.JPEG2000Lossless, codestream=SIGNATURE + box(b"free", b"??") + last)
        assert_array_equal(read_dicom(path).pixels, film)


@pytest.mark.parametrize("boxes", [b"", box(b"jp2c", b"\xff\x4f", length=9999), box(b"jp2c", b"", length=3)])
def test_a_jp2_file_without_a_whole_codestream_is_refused(write_film, film, boxes):
    path = write_film(film, syntax=uid.JPEG2000Lossless, codestream=SIGNATURE + boxes)
    with pytest.raises(ReadError, match="no whole box jp2c"):
        read_dicom(path)


@pytest.mark.parametrize("encode", [j2k, lambda pixels: imagecodecs.htj2k_encode(pixels, reversible=True)])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_wavelet_codestream_cut_off_and_given_an_end_marker_is_refused(write_film, film, encode, part):
    codestream = encode(film)
    cut = codestream[: int(part * len(codestream))] + b"\xff\xd9"
    syntax = uid.JPEG2000Lossless if encode is j2k else uid.HTJ2KLossless
    with pytest.raises(ReadError, match=r"damaged or cut off|cannot decode"):
        read_dicom(write_film(film, syntax=syntax, codestream=cut, BitsStored=12))


def test_tiles_are_read_and_tiny_ones_are_not(write_film, film):
    small = (film >> 4).astype(np.uint8)
    Image.fromarray(small).save(tiled := BytesIO(), format="JPEG2000", tile_size=(64, 64), no_jp2=True)
    path = write_film(small, syntax=uid.JPEG2000Lossless, codestream=tiled.getvalue())
    assert_array_equal(read_dicom(path).pixels, small)
    tiny = bytearray(j2k(film))
    tiny[24:32] = struct.pack(">2I", 1, 1)  # XTsiz, YTsiz
    with pytest.raises(ReadError, match="has 36,000 tiles of 1 × 1"):
        read_dicom(write_film(film, syntax=uid.JPEG2000Lossless, codestream=bytes(tiny)))


@pytest.mark.parametrize(("at", "value"), [(32, 1), (36, 32), (24, 0), (28, 0), (36, 2**32 - 1)])
@pytest.mark.parametrize("reversible", [True, False])
def test_tiles_that_do_not_begin_with_the_picture_are_refused(write_film, film, at, value, reversible):
    # Found by tests/fuzz.py: OpenJPH hangs where the first tile begins behind the first pixel
    codestream = bytearray(imagecodecs.htj2k_encode(film, reversible=reversible))
    codestream[at : at + 4] = struct.pack(">I", value)  # XTOsiz, YTOsiz, XTsiz or YTsiz
    path = write_film(film, syntax=uid.HTJ2K, codestream=bytes(codestream), BitsStored=12)
    with pytest.raises(ReadError, match="that do not begin where its picture does"):
        read_dicom(path)


def test_subsampled_pixels_are_refused(write_film, film):
    codestream = bytearray(j2k(film))
    codestream[43] = 2
    with pytest.raises(ReadError, match="fewer samples than its picture has pixels"):
        read_dicom(write_film(film, syntax=uid.JPEG2000Lossless, codestream=bytes(codestream)))


def coding_style(codestream, **changes):
    """Return a codestream whose COD segment says something else: layers, block (its exponents - 2), precincts."""
    changed = bytearray(codestream)
    at = changed.index(b"\xff\x52")
    if "layers" in changes:
        changed[at + 6 : at + 8] = struct.pack(">H", changes["layers"])
    if "block" in changes:
        changed[at + 10 : at + 12] = changes["block"]
    if "precincts" in changes:
        levels = changed[at + 9]
        changed[at + 4] |= 1
        changed[at + 2 : at + 4] = struct.pack(">H", 12 + levels + 1)
        changed[at + 14 : at + 14] = bytes([changes["precincts"]]) * (levels + 1)
    return bytes(changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 65535}, "has 65535 layers"),
        ({"block": b"\0\0"}, "blocks of 16 px"),
        ({"precincts": 0x00}, r"has 4\d,\d{3} precincts for 200 × 180 pixels"),
    ],
)
def test_a_coding_style_that_costs_more_than_a_film_is_refused(write_film, film, changes, message):
    codestream = coding_style(j2k(film), **changes)
    with pytest.raises(ReadError, match=message):
        read_dicom(write_film(film, syntax=uid.JPEG2000Lossless, codestream=codestream))


@pytest.mark.parametrize("guard", [1, 3, 7])
def test_coefficients_of_more_bits_than_a_decoder_has_are_refused(write_film, film, guard):
    # Found by tests/fuzz.py: OpenJPH ends the process
    codestream = bytearray(imagecodecs.htj2k_encode(film, reversible=False))
    at = codestream.index(b"\xff\x5c")
    codestream[at + 4] = guard << 5 | 2
    codestream[at + 7] = (32 - guard) << 3  # 31 bits, of the second band
    with pytest.raises(ReadError, match="has coefficients of 31 bits, expected at most 30"):
        read_dicom(write_film(film, syntax=uid.HTJ2K, codestream=bytes(codestream)))


def test_hardly_any_bytes_for_megapixels_are_no_film(write_film):
    blank = np.zeros((6000, 6000), np.uint8)  # OpenJPEG would take 5 bytes a pixel for it
    path = write_film(blank, syntax=uid.JPEG2000Lossless, codestream=j2k(blank))
    with pytest.raises(ReadError, match=r"bytes for 6000 × 6000 pixels, fewer than any picture of a body"):
        read_dicom(path)


def test_a_small_blank_film_is_a_film(write_film):
    blank = np.zeros((1000, 1000), np.uint8)
    path = write_film(blank, syntax=uid.JPEG2000Lossless, codestream=j2k(blank))
    assert read_dicom(path).pixels.max() == 0
