"""What is no film is refused in one error that names the file, the value found and what is expected."""

import struct
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pydicom import DataElement, dcmread
from pydicom.uid import JPEG2000Lossless

from cxr.read.dicom import ReadError, read_dicom, read_film, read_header


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"NumberOfFrames": 12}, "NumberOfFrames is 12, expected 1"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "is 'RGB' with 3 samples a pixel, expected MONO"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PhotometricInterpretation is 'PALETTE COLOR'"),
        ({"PixelData": None}, "has no Pixel Data"),
        ({"Rows": 0}, "Rows × Columns is 0 × 2, expected at least 1 × 1"),
        ({"Rows": 3}, "Pixel Data holds 8 bytes, expected 12 for 3 × 2 pixels of 16 bits"),
        ({"Rows": 65535, "Columns": 65535}, "Rows × Columns is 65535 × 65535, expected at most 40,000,000 pixels"),
        ({"Rows": 6000, "Columns": 6000}, "Pixel Data holds 8 bytes, expected 72,000,000"),
        ({"Rows": None}, "Rows is absent, expected one finite number"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "BitsAllocated is 32, expected 8 or 16"),
        ({"BitsStored": 17}, "BitsStored is 17, expected 1..16"),
        ({"BitsStored": 12, "HighBit": 3}, "HighBit is 3, expected 11"),
        ({"RescaleSlope": "0", "RescaleIntercept": "5"}, "RescaleSlope is 0"),
    ],
)
def test_what_is_no_grayscale_film_is_refused_with_value_and_limit(write_film, elements, message):
    path = write_film(**elements)
    with pytest.raises(ReadError) as caught:
        read_dicom(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_errors_of_pixel_data_name_the_transfer_syntax(write_film):
    with pytest.raises(ReadError, match=r"Explicit VR Little Endian \(1\.2\.840\.10008\.1\.2\.1\): Pixel Data holds"):
        read_dicom(write_film(Rows=3))


def test_compressed_pixels_without_transfer_syntax_are_refused(write_film):
    path = write_film(syntax=JPEG2000Lossless, codestream=b"\xff\x4f" * 40, bare=True)
    with pytest.raises(ReadError, match="pixel data are compressed, expected uncompressed"):
        read_dicom(path)


def test_float_pixel_data_are_refused_by_name(write_film):
    path = write_film(PixelData=None, FloatPixelData=b"\0" * 16)
    with pytest.raises(ReadError, match="has FloatPixelData, expected integer Pixel Data"):
        read_dicom(path)


def test_every_truncation_of_a_file_is_one_clear_error(write_film):
    path = write_film(np.arange(64).reshape(8, 8))
    whole = path.read_bytes()
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ReadError, match=r"film\.dcm: "):
            read_dicom(path)


def test_random_damage_gives_a_film_or_a_read_error(write_film):
    path = write_film(np.arange(64).reshape(8, 8), WindowCenter="5", WindowWidth="9")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(132, len(whole), 6)] = rng.integers(0, 256, 6)
        path.write_bytes(damaged.tobytes())
        try:
            read_dicom(path).display()
            outcomes.add("film")
        except ReadError:
            outcomes.add("error")
    assert outcomes == {"film", "error"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (
            b"\n<!DOCTYPE html><html><body>404</body></html>" * 20,
            "not a DICOM file, it begins like an HTML or XML page",
        ),
        (b"%PDF-1.7" + b"\0" * 500, "not a DICOM file, it begins like a PDF"),
        (b"ID,category\n1,normal\n", "not a DICOM file; expected DICM after 128 bytes"),
        (b"\0" * 128 + b"DICM", "has no Pixel Data|PhotometricInterpretation is ''"),
    ],
)
def test_what_is_no_dicom_file_is_refused(tmp_path, content, message):
    path = tmp_path / "page.dcm"
    path.write_bytes(content)
    with pytest.raises(ReadError, match=message):
        read_film(path)


def test_folder_and_missing_file_are_read_errors(tmp_path):
    for read in (read_film, read_dicom, read_header):
        with pytest.raises(ReadError, match=r"folder|Is a directory"):
            read(tmp_path)
        with pytest.raises(ReadError, match="No such file"):
            read(tmp_path / "absent.dcm")


def test_a_header_that_promises_4_gb_of_pixels_does_not_allocate_them(write_film):
    path = write_film()
    data = path.read_bytes()
    at = data.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
    path.write_bytes(data[:at] + struct.pack("<I", 0xFFFFFFF0) + data[at + 4 :])
    tracemalloc.start()
    assert_array_equal(read_dicom(path).pixels, [[0, 1], [2, 3]])
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "name", ["Rows", "WindowCenter", "PhotometricInterpretation", "VOILUTFunction", "RescaleSlope"]
)
def test_a_name_that_damage_put_into_another_element_is_not_told(write_film, name):
    path = write_film(
        WindowCenter="5", WindowWidth="9", VOILUTFunction="LINEAR", RescaleSlope="1", RescaleIntercept="0"
    )
    dataset = dcmread(path)
    dataset[name] = DataElement(name, "LO", "Secret^Name")
    dataset.save_as(path)
    with pytest.raises(ReadError, match=r"film\.dcm: ") as caught:
        read_dicom(path)
    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize("vr", ["UN", "US", "LO"])
def test_pixel_data_of_another_vr_are_refused(write_film, vr):
    path = write_film(syntax=JPEG2000Lossless, codestream=b"\xff\x4f" * 40)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\xe0\x7f\x10\x00OB", b"\xe0\x7f\x10\x00" + vr.encode()))
    with pytest.raises(ReadError, match=f"the VR of Pixel Data is {vr}, expected OB or OW|damaged|has no Pixel Data"):
        read_dicom(path)


def test_a_decimal_where_a_whole_number_belongs_is_told(write_film):
    path = write_film()
    dataset = dcmread(path)
    dataset["BitsStored"] = DataElement("BitsStored", "DS", "12.5")
    dataset.save_as(path)
    with pytest.raises(ReadError, match=r"BitsStored is 12\.5, expected a whole number"):
        read_dicom(path)
