"""Which files are films, in whatever encoding, and what is told of them but the pixels: pseudonyms, spacing."""

import logging
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_array_equal
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from cxr.read.dicom import ReadError, find_dicoms, pseudonym, read_dicom, read_film, read_header

# --- encodings


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_uncompressed_syntaxes_give_the_same_film(write_film, syntax, dtype, lut):
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


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_view_that_stands_as_a_code_alone_is_read(write_film, syntax):
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "V1", "99TEST", "lateral"
    path = write_film(syntax=syntax, ViewCodeSequence=[code])
    assert read_dicom(path).view_position == read_header(path).view_position == "lateral"
    assert read_header(write_film(syntax=syntax, ViewCodeSequence=[code], ViewPosition="PA")).view_position == "PA"
    assert read_header(write_film(syntax=syntax, ViewCodeSequence=[])).view_position == ""


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
