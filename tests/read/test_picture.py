"""Films kept as PNG, JPEG and TIFF."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from cxr.read.dicom import ReadError, pseudonym, read_film, read_header


@pytest.fixture
def gray():
    return np.add.outer(np.arange(20), np.arange(30)).astype(np.uint8)


@pytest.mark.parametrize("name", ["film.png", "film.tif", "film.dcm"])  # known by content: PNG is the default
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_pictures_keep_their_values_and_depth(tmp_path, gray, name, dtype):
    pixels = gray.astype(dtype) * (257 if dtype == np.uint16 else 1)
    Image.fromarray(pixels).save(tmp_path / name, format="TIFF" if name.endswith("tif") else "PNG")
    film = read_film(tmp_path / name)
    assert film.photometric_interpretation == "MONOCHROME2"
    assert film.bits_stored == 8 * np.dtype(dtype).itemsize
    assert film.pixels.dtype == dtype
    assert_array_equal(film.pixels, pixels)


def test_gray_jpeg_saved_in_colour_is_the_gray_film(tmp_path, gray):
    path = tmp_path / "film.jpg"
    Image.fromarray(np.stack([gray] * 3, axis=-1)).save(path, quality=100)
    assert np.abs(read_film(path).pixels.astype(int) - gray).max() <= 1


def test_transparency_and_palettes_are_dropped(tmp_path, gray):
    path = tmp_path / "film.png"
    Image.fromarray(gray).convert("LA").save(path)
    assert_array_equal(read_film(path).pixels, gray)
    Image.fromarray(gray).convert("P").save(path)
    assert_array_equal(read_film(path).pixels, gray)


def test_header_of_a_picture(tmp_path, gray):
    path = tmp_path / "film.png"
    Image.fromarray(gray).save(path)
    header, film = read_header(path), read_film(path)
    assert (header.rows, header.columns) == (20, 30)
    assert header.study == header.patient == film.study == film.patient != pseudonym("")


def test_copies_of_a_picture_are_one_study(tmp_path, gray):
    for name in ("a.png", "b.png"):
        Image.fromarray(gray).save(tmp_path / name)
    assert read_film(tmp_path / "a.png").study == read_film(tmp_path / "b.png").study


@pytest.mark.parametrize("name", ["film.png", "film.jpg", "film.tif"])
def test_damaged_pictures_are_read_errors(tmp_path, gray, name):
    path = tmp_path / name
    Image.fromarray(np.tile(gray, (20, 20))).save(path)
    whole = path.read_bytes()
    for length in (10, 40, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(ReadError, match=f"{name}: "):
            read_film(path)


def test_pictures_of_many_pages_floats_and_absurd_sizes_are_refused(tmp_path, gray, monkeypatch):
    path = tmp_path / "film.tif"
    Image.fromarray(gray).save(path, save_all=True, append_images=[Image.fromarray(gray)])
    with pytest.raises(ReadError, match="holds 2 pictures, expected 1"):
        read_film(path)
    Image.fromarray(gray.astype(np.float32)).save(path)
    with pytest.raises(ReadError, match="mode 'F', expected 8 or 16 bit integers"):
        read_film(path)
    Image.fromarray(gray).save(path)
    monkeypatch.setenv("CXR_MAX_PIXELS", "599")
    for read in (read_film, read_header):
        with pytest.raises(ReadError, match="is 20 × 30, expected at most 599 pixels"):
            read(path)
