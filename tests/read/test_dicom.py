"""What a DICOM file says and what is read from it."""

import logging
import struct
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from cxr.read.dicom import ReadError, find_dicoms, pseudonym, read_dicom, read_film, read_header


def lut(first, entries, bits=16, count=None, descriptor_vr="US", data_vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", descriptor_vr, [len(entries) % 65536 if count is None else count, first, bits])
    item.add_new("LUTData", data_vr, entries if data_vr == "US" else np.asarray(entries, "<u2").tobytes())
    return item


# --- modality LUT and rescale


def test_values_are_the_rescaled_stored_values(write_film):
    path = write_film([[0, 10], [1000, 4095]], BitsStored=12, RescaleSlope="0.684", RescaleIntercept="200")
    assert_allclose(read_dicom(path).values(), [[200, 206.84], [884, 3000.98]], rtol=1e-6)


def test_signed_pixels_stay_signed(write_film):
    path = write_film(np.array([[-1024, -1], [0, 3071]], np.int16), RescaleSlope="1", RescaleIntercept="-24")
    assert_array_equal(read_dicom(path).values(), [[-1048, -25], [-24, 3047]])


def test_garbage_in_unused_high_bits_is_dropped(write_film):
    path = write_film([[0xF00A, 0x0FFF], [0xA000, 0x1801]], BitsStored=12)
    assert_array_equal(read_dicom(path).pixels, [[0x00A, 0xFFF], [0x000, 0x801]])


def test_sign_is_extended_from_the_stored_bits_not_the_allocated_ones(write_film):
    # 12 bits stored: 0x801 is -2047, whatever the four bits above it hold
    path = write_film([[0x0801, 0xF801], [0x07FF, 0x57FF]], BitsStored=12, PixelRepresentation=1)
    pixels = read_dicom(path).pixels
    assert pixels.dtype == np.int16
    assert_array_equal(pixels, [[-2047, -2047], [2047, 2047]])


def test_values_stored_in_the_high_bits_are_shifted_down(write_film):
    path = write_film([[0xABC0, 0xABCF], [0x0010, 0xFFF0]], BitsStored=12, HighBit=15)
    assert_array_equal(read_dicom(path).pixels, [[0xABC, 0xABC], [0x001, 0xFFF]])


def test_modality_lut_takes_the_place_of_the_rescale(write_film):
    path = write_film([[4, 5], [6, 9]], ModalityLUTSequence=Sequence([lut(5, [100, 200, 400])]))
    assert_array_equal(read_dicom(path).values(), [[100, 100], [200, 400]])


def test_modality_lut_of_65536_entries_says_0_and_a_signed_first_value_may_be_coded_unsigned(write_film):
    entries = list(range(65536))
    path = write_film(
        np.array([[-32768, -1], [0, 32767]], np.int16),
        ModalityLUTSequence=Sequence([lut(32768, entries, data_vr="OW")]),  # 32768 as US is -32768 as SS
    )
    assert_array_equal(read_dicom(path).values(), [[0, 32767], [32768, 65535]])


def test_lut_with_more_than_32767_entries_and_signed_descriptor(write_film):
    entries = [7] * 40_000
    table = lut(-4, entries, count=40_000, descriptor_vr="SS", data_vr="OW")
    path = write_film(np.array([[-5, 0], [1, 2]], np.int16), ModalityLUTSequence=Sequence([table]))
    assert len(read_dicom(path).modality_lut.entries) == 40_000


def test_8_bit_lut_entries_may_come_two_to_a_word(write_film):
    table = lut(0, [0x2010, 0x4030], bits=8, count=4, data_vr="OW")
    path = write_film([[0, 1], [2, 3]], VOILUTSequence=Sequence([table]))
    assert_allclose(read_dicom(path).display(), np.array([[0x10, 0x20], [0x30, 0x40]]) / 255, rtol=1e-6)


def test_lut_shorter_than_its_descriptor_is_an_error(write_film):
    path = write_film(VOILUTSequence=Sequence([lut(0, [1, 2, 3], count=9)]))
    with pytest.raises(ReadError, match=r"film\.dcm: VOILUTSequence is damaged: LUTData holds 6.* promises 9"):
        read_dicom(path)


# --- VOI: values from PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2, worked out by hand


def test_linear_window_of_the_standards_own_example(write_film):
    # C.11.2.1.2.1, c = 2048, w = 4096: x <= 0 gives the minimum, x > 4095 the maximum, 2047.5 the middle
    path = write_film([[0, 4095], [2047, 2048]], BitsStored=12, WindowCenter="2048", WindowWidth="4096")
    assert_allclose(read_dicom(path).display(), [[0, 1], [2047 / 4095, 2048 / 4095]], rtol=1e-6)


def test_linear_window_of_width_1_is_a_threshold(write_film):
    # c = 0.5 + 2, w = 1: x <= 2 is the minimum, x > 2 the maximum
    path = write_film([[0, 2], [3, 4]], WindowCenter="2.5", WindowWidth="1")
    assert_array_equal(read_dicom(path).display(), [[0, 0], [1, 1]])


def test_linear_exact_does_not_take_the_half_off(write_film):
    path = write_film([[0, 1], [2, 4]], WindowCenter="2", WindowWidth="4", VOILUTFunction="LINEAR_EXACT")
    assert_array_equal(read_dicom(path).display(), [[0, 0.25], [0.5, 1]])


def test_decimal_window(write_film):
    path = write_film([[0, 1], [2, 3]], WindowCenter="1.5", WindowWidth="2.5", VOILUTFunction="LINEAR_EXACT")
    assert_allclose(read_dicom(path).display(), [[0, 0.3], [0.7, 1]], rtol=1e-6)


def test_sigmoid_is_not_linear(write_film):
    path = write_film([[0, 100], [200, 65535]], WindowCenter="100", WindowWidth="200", VOILUTFunction="SIGMOID")
    e2 = np.exp(2.0)  # 1 / (1 + exp(-4 (x - c) / w)) one half width off the center
    assert_allclose(read_dicom(path).display(), [[1 / (1 + e2), 0.5], [e2 / (1 + e2), 1]], rtol=1e-6)


def test_monochrome1_is_inverted_after_the_window(write_film):
    # Window 0..1000 of 0..4095: inverting first would leave 500 outside the window
    windowed = {"BitsStored": 12, "WindowCenter": "500", "WindowWidth": "1000", "VOILUTFunction": "LINEAR_EXACT"}
    path = write_film([[0, 500], [1000, 4095]], PhotometricInterpretation="MONOCHROME1", **windowed)
    assert_array_equal(read_dicom(path).display(), [[1, 0.5], [0, 0]])


def test_each_window_can_be_asked_for(write_film):
    path = write_film(
        [[0, 10], [20, 40]], WindowCenter=["10", "20"], WindowWidth=["20", "40"], VOILUTFunction="LINEAR_EXACT"
    )
    film = read_dicom(path)
    assert_array_equal(film.display(0), [[0, 0.5], [1, 1]])
    assert_array_equal(film.display(1), [[0, 0.25], [0.5, 1]])
    with pytest.raises(ReadError, match="window 2 does not exist, the file has 0 VOI LUTs and 2 windows"):
        film.display(2)


def test_voi_luts_come_before_the_windows(write_film):
    table = lut(1, [0, 1023, 4095], bits=12)
    path = write_film(VOILUTSequence=Sequence([table]), WindowCenter="1.5", WindowWidth="4")
    film = read_dicom(path)
    assert_allclose(film.display(0), [[0, 0], [1023 / 4095, 1]], rtol=1e-6)
    assert_allclose(film.display(1), [[1 / 6, 0.5], [5 / 6, 1]], rtol=1e-6)


def test_voi_lut_is_entered_with_rescaled_values_below_zero(write_film):
    # First value mapped, -10, is written as US 65526 because the pixels are unsigned
    table = lut(65526, [0, 65535])
    path = write_film([[0, 1], [2, 3]], RescaleSlope="1", RescaleIntercept="-10", VOILUTSequence=Sequence([table]))
    assert_array_equal(read_dicom(path).display(), [[0, 1], [1, 1]])


def test_a_window_of_width_0_is_no_window(write_film):
    path = write_film([[10, 20], [20, 30]], WindowCenter="0", WindowWidth="0")
    assert_array_equal(read_dicom(path).display(), [[0, 0.5], [0.5, 1]])


def test_without_window_the_values_span_the_picture(write_film):
    path = write_film([[100, 150], [150, 200]], BitsStored=12)
    assert_array_equal(read_dicom(path).display(), [[0, 0.5], [0.5, 1]])


def test_a_constant_film_without_window_is_finite(write_film):
    assert_array_equal(read_dicom(write_film([[5, 5], [5, 5]])).display(), np.zeros((2, 2)))


def test_unknown_voi_function_is_an_error(write_film):
    path = write_film(WindowCenter="1", WindowWidth="2", VOILUTFunction="GAMMA")
    with pytest.raises(ReadError, match=r"film\.dcm: VOILUTFunction is 'GAMMA', expected one of LINEAR, LINEAR_EXACT"):
        read_dicom(path)


# --- encodings


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_uncompressed_syntaxes_give_the_same_film(write_film, syntax, dtype):
    pixels = np.array([[0, 1, 2], [100, 126, 127], [7, 8, 9]], dtype)
    table = lut(0, [0, 1000, 4095], bits=12)
    film = read_dicom(write_film(pixels, syntax=syntax, VOILUTSequence=Sequence([table])))
    assert film.pixels.dtype == np.dtype(dtype)
    assert_array_equal(film.pixels, pixels)
    assert_array_equal(film.voi_luts[0].entries, [0, 1000, 4095])


def test_big_endian_8_bit_pixels_in_words_are_swapped_back(write_film):
    path = write_film(np.array([[2, 1], [4, 3]], np.uint8), syntax=ExplicitVRBigEndian)
    data = path.read_bytes()
    assert data.count(b"\x7f\xe0\x00\x10OB") == 1
    path.write_bytes(data.replace(b"\x7f\xe0\x00\x10OB", b"\x7f\xe0\x00\x10OW"))
    assert_array_equal(read_dicom(path).pixels, [[1, 2], [3, 4]])


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_bare_data_set_without_preamble_meta_or_extension(write_film, syntax):
    path = write_film(name="film", syntax=syntax, bare=True)
    assert_array_equal(read_dicom(path).pixels, [[0, 1], [2, 3]])
    assert find_dicoms(path.parent) == [path]
    assert read_header(path).rows == 2


def test_meta_without_preamble(write_film):
    path = write_film()
    path.write_bytes(path.read_bytes()[132:])
    assert_array_equal(read_dicom(path).pixels, [[0, 1], [2, 3]])


def test_a_tiff_header_in_the_preamble_leaves_it_a_dicom_film(write_film):
    path = write_film()  # PS3.10 7.1 allows such files; whole-slide scanners and some archives write them
    path.write_bytes(b"II*\0" + path.read_bytes()[4:])
    assert read_film(path).modality == "CR"
    assert read_header(path).modality == "CR"


# --- what is refused, and how


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"NumberOfFrames": 12}, "NumberOfFrames is 12, expected 1"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "is 'RGB' with 3 samples a pixel, expected MONO"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PhotometricInterpretation is 'PALETTE COLOR'"),
        ({"PixelData": None}, "has no Pixel Data"),
        ({"Rows": 0}, "Rows × Columns is 0 × 2, expected at least 1 × 1"),
        ({"Rows": 3}, "Pixel Data holds 8 bytes, expected 12 for 3 × 2 pixels of 16 bits"),
        ({"Rows": 65535, "Columns": 65535}, "Rows × Columns is 65535 × 65535, expected at most 134,217,728 pixels"),
        ({"Rows": 10000, "Columns": 10000}, "Pixel Data holds 8 bytes, expected 200,000,000"),
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


def test_a_deflate_bomb_is_refused_before_it_is_inflated(write_film, monkeypatch):
    path = write_film(np.zeros((1500, 2000), np.uint16), syntax=DeflatedExplicitVRLittleEndian)
    monkeypatch.setattr("cxr.read.tags.MAX_BYTES", 5_000_000)
    assert path.stat().st_size < 100_000  # and 6 MB inflated
    with pytest.raises(ReadError, match="inflates beyond 5,000,000 bytes"):
        read_dicom(path)


def test_a_header_that_promises_4_gb_of_pixels_does_not_allocate_them(write_film):
    path = write_film()
    data = path.read_bytes()
    at = data.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
    path.write_bytes(data[:at] + struct.pack("<I", 0xFFFFFFF0) + data[at + 4 :])
    tracemalloc.start()
    assert_array_equal(read_dicom(path).pixels, [[0, 1], [2, 3]])
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


# --- identifiers and privacy


def test_pseudonyms_are_stable_short_and_keyed(monkeypatch):
    monkeypatch.delenv("CXR_PSEUDONYM_KEY", raising=False)
    plain = pseudonym("TDR04_20180315_075734")
    assert plain == pseudonym("TDR04_20180315_075734")
    assert plain != pseudonym("TDR04_20180315_075735")
    assert len(plain) == 11
    assert plain[0] == "p"
    monkeypatch.setenv("CXR_PSEUDONYM_KEY", "a hospital's secret, longer than sixty-four characters " * 3)
    assert pseudonym("TDR04_20180315_075734") != plain


def test_films_of_one_patient_share_the_patient_and_not_the_study(write_film):
    one, two = (read_dicom(write_film(name=f"{n}.dcm", StudyInstanceUID=f"1.2.{n}")) for n in (1, 2))
    assert one.patient == two.patient == pseudonym("7")
    assert one.study != two.study


def test_missing_identifiers_fall_back_from_study_to_film_to_content(write_film):
    no_study = read_dicom(write_film(StudyInstanceUID=None, PatientID=""))
    assert no_study.study == no_study.patient == pseudonym("1.2.3.4")
    anonymous = {"StudyInstanceUID": None, "SOPInstanceUID": None, "PatientID": None}
    a = write_film([[0, 1], [2, 3]], "a.dcm", **anonymous)
    b = write_film([[0, 1], [2, 4]], "b.dcm", **anonymous)
    assert read_dicom(a).study == read_header(a).study != read_dicom(b).study


def test_header_agrees_with_the_film(write_film):
    path = write_film(np.zeros((3, 5), np.uint16), BodyPartExamined="CHEST", ViewPosition="PA")
    header, film = read_header(path), read_dicom(path)
    assert (header.rows, header.columns) == film.pixels.shape == (3, 5)
    for field in ("study", "patient", "modality", "body_part", "view_position"):
        assert getattr(header, field) == getattr(film, field)
    assert (film.body_part, film.view_position) == ("CHEST", "PA")


def test_header_needs_no_pixels(write_film):
    path = write_film(np.zeros((300, 300), np.uint16))
    path.write_bytes(path.read_bytes()[:-1000])
    assert read_header(path).rows == 300


def test_nothing_read_names_the_patient(write_film, caplog):
    path = write_film(PatientID="A123456789")
    with caplog.at_level(logging.DEBUG):
        shown = repr(read_dicom(path)) + repr(read_header(path))
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(ReadError) as caught:
            read_dicom(path)
    for secret in ("Secret", "A123456789", "19400305", "1.2.3"):
        assert secret not in shown.replace(str(path), "")
        assert secret not in caplog.text.replace("1.2.840.10008", "")
        assert secret not in str(caught.value).replace(str(path), "")


def test_pydicoms_complaints_stay_inside_and_its_settings_as_they_were(write_film, caplog):
    path = write_film()
    data = path.read_bytes()
    assert data.count(b"1.2.3\0") == 1
    path.write_bytes(data.replace(b"1.2.3\0", b"1.02x\0"))  # a study UID that breaks its VR
    mode = pydicom.config.settings.reading_validation_mode
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        read_dicom(path)
    assert pydicom.config.settings.reading_validation_mode == mode
    assert "1.02x" not in caplog.text


# --- spacing


@pytest.mark.parametrize(
    ("elements", "spacing"),
    [
        ({"PixelSpacing": ["0.2", "0.1"], "ImagerPixelSpacing": ["0.3", "0.3"]}, (0.2, 0.1)),
        ({"ImagerPixelSpacing": ["0.143", "0.143"]}, (0.143, 0.143)),
        ({"PixelSpacing": ["0", "0"], "ImagerPixelSpacing": ["0.3", "0.3"]}, (0.3, 0.3)),
        ({"PixelSpacing": ["0", "0"]}, None),
        ({}, None),
    ],
)
def test_spacing_is_row_then_column_and_never_zero(write_film, elements, spacing):
    assert read_dicom(write_film(**elements)).spacing_mm == spacing


# --- finding files


def test_find_dicoms_goes_by_content_in_sorted_order(write_film, tmp_path):
    (tmp_path / "b" / "深").mkdir(parents=True)
    films = [write_film(name=name) for name in ("b/深/10 (2)d.dcm", "b/none", "a.DCM")]
    (tmp_path / "page.dcm").write_text("<html></html>" * 20)
    (tmp_path / "short.dcm").write_bytes(b"DICM")
    assert find_dicoms(tmp_path) == sorted(films)


# --- real files


def test_real_files_read_or_say_why(real_dicoms: Path):
    outcomes = {}
    for path in sorted(p for p in real_dicoms.rglob("*") if p.is_file() and p.suffix != ".csv"):
        try:
            film = read_film(path)
            display = film.display()
            assert display.dtype == np.float32
            assert 0 <= display.min() < display.max() <= 1
            outcomes[path.name] = (film.pixels.shape, int(film.pixels.min()), int(film.pixels.max()))
        except ReadError as error:
            outcomes[path.name] = str(error).removeprefix(f"{path}: ").split(";")[0]
    rg1, rg3 = (1955, 1841), (1760, 1760)
    assert outcomes == {  # manifest.csv; JPLY's reference is its lossless twin JPLL, see test_decode
        "CR-MONO1-10-chest_nometa": ((440, 440), 0, 979),
        "RG1_UNCI.dcm": (rg1, 803, 26512),
        "RG1_J2KI.dcm": (rg1, 803, 26512),
        "RG1_J2KR.dcm": (rg1, 874, 26479),
        "RG1_JLSN.dcm": (rg1, 871, 26481),
        "nih_dx_implicit.dcm": ((1024, 1024), 0, 252),
        "siim_cr_jpegbaseline.dcm": ((1024, 1024), 0, 254),
        "siim_cr_mono1_tag_only.dcm": ((1024, 1024), 0, 254),
        "RG3_JLSL.dcm": (rg3, 0, 1023),
        "RG3_JPLL.dcm": (rg3, 0, 1023),
        "RG3_JPLY.dcm": (rg3, 0, 1023),
        "RG3_RLE.dcm": (rg3, 0, 1023),
        "MG_GH133_multiwindow_voilut_sigmoid.dcm": ((3062, 2394), 0, 3471),
        "vlut_04.dcm": ((512, 512), 0, 255),
        "mlut_18.dcm": ((512, 512), -2048, 2047),
        "CR_16x16_mono1_rescale.dcm": ((16, 16), 1994, 2802),
        "html_page_named.dcm": "not a DICOM file, it begins like an HTML or XML page",
    }


def test_real_film_tagged_monochrome1_is_the_negative_of_the_same_pixels(real_dicoms):
    as_stored = read_dicom(real_dicoms / "chest" / "siim_cr_jpegbaseline.dcm").display()
    tagged = read_dicom(real_dicoms / "chest" / "siim_cr_mono1_tag_only.dcm").display()
    assert_allclose(tagged, 1 - as_stored, atol=1e-6)


def test_real_luts_agree_with_pydicom(real_dicoms):
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    for name in ("luts_not_radiographs/mlut_18.dcm", "edge/CR_16x16_mono1_rescale.dcm"):
        dataset = pydicom.dcmread(real_dicoms / name)
        assert_allclose(read_dicom(real_dicoms / name).values(), apply_modality_lut(dataset.pixel_array, dataset))
    mammogram = real_dicoms / "radiograph_other" / "MG_GH133_multiwindow_voilut_sigmoid.dcm"
    dataset, film = pydicom.dcmread(mammogram), read_dicom(mammogram)
    for index in range(3):
        table = apply_voi_lut(dataset.pixel_array, dataset, index, prefer_lut=True)
        assert_allclose(film.display(index), table / 4095, atol=1e-6)
        window = apply_voi_lut(dataset.pixel_array, dataset, index, prefer_lut=False)
        assert_allclose(film.display(3 + index), window / 4095, atol=1e-6)
