"""Stored values → values in the unit of the film → what a workstation shows: LUTs, windows, polarity."""

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.sequence import Sequence

from cxr.read.dicom import ReadError, read_dicom

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


def test_modality_lut_takes_the_place_of_the_rescale(write_film, lut):
    path = write_film([[4, 5], [6, 9]], ModalityLUTSequence=Sequence([lut(5, [100, 200, 400])]))
    assert_array_equal(read_dicom(path).values(), [[100, 100], [200, 400]])


def test_modality_lut_of_65536_entries_says_0_and_a_signed_first_value_may_be_coded_unsigned(write_film, lut):
    entries = list(range(65536))
    path = write_film(
        np.array([[-32768, -1], [0, 32767]], np.int16),
        ModalityLUTSequence=Sequence([lut(32768, entries, data_vr="OW")]),  # 32768 as US is -32768 as SS
    )
    assert_array_equal(read_dicom(path).values(), [[0, 32767], [32768, 65535]])


def test_lut_with_more_than_32767_entries_and_signed_descriptor(write_film, lut):
    entries = [7] * 40_000
    table = lut(-4, entries, count=40_000, descriptor_vr="SS", data_vr="OW")
    path = write_film(np.array([[-5, 0], [1, 2]], np.int16), ModalityLUTSequence=Sequence([table]))
    assert len(read_dicom(path).modality_lut.entries) == 40_000


def test_8_bit_lut_entries_may_come_two_to_a_word(write_film, lut):
    table = lut(0, [0x2010, 0x4030], bits=8, count=4, data_vr="OW")
    path = write_film([[0, 1], [2, 3]], VOILUTSequence=Sequence([table]))
    assert_allclose(read_dicom(path).display(), np.array([[0x10, 0x20], [0x30, 0x40]]) / 255, rtol=1e-6)


def test_lut_shorter_than_its_descriptor_is_an_error(write_film, lut):
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


def test_voi_luts_come_before_the_windows(write_film, lut):
    table = lut(1, [0, 1023, 4095], bits=12)
    path = write_film(VOILUTSequence=Sequence([table]), WindowCenter="1.5", WindowWidth="4")
    film = read_dicom(path)
    assert_allclose(film.display(0), [[0, 0], [1023 / 4095, 1]], rtol=1e-6)
    assert_allclose(film.display(1), [[1 / 6, 0.5], [5 / 6, 1]], rtol=1e-6)


def test_voi_lut_is_entered_with_rescaled_values_below_zero(write_film, lut):
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


@pytest.mark.parametrize(
    "window",
    [
        ("1e300", "1e300"),
        ("-1e300", "5"),
        ("1e38", "1e38"),
        ("0", "1e-300"),
        ("0", "1e-40"),
        ("0", "1e300"),
    ],
)
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_beyond_what_float32_holds_is_refused(write_film, window, function):
    # Seen: a center of 1e300 is infinite in float32, and inf - inf no number; a width of 1e-300 is 0
    path = write_film(WindowCenter=window[0], WindowWidth=window[1], VOILUTFunction=function)
    with pytest.raises(ReadError, match=r"film\.dcm: window .* needs a center within ±1e\+18 and a width of 1e-18"):
        read_dicom(path)


@pytest.mark.parametrize(
    "window", [("1e18", "1e18"), ("-1e18", "1e-18"), ("0", "1e-18"), ("1e-300", "1"), ("3", "1e18")]
)
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("slope", ["1", "-1e-18", "1e13"])
def test_within_these_bounds_a_picture_is_finite(write_film, window, function, slope):
    path = write_film(
        [[0, 1], [40000, 65535]],
        WindowCenter=window[0],
        WindowWidth=window[1],
        VOILUTFunction=function,
        RescaleSlope=slope,
        RescaleIntercept="0",
    )
    shown = read_dicom(path).display()
    assert shown.min() >= 0  # not so where one is no number
    assert shown.max() <= 1


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [("1e300", "0"), ("1e16", "0"), ("1e-300", "0"), ("1", "1e300"), ("1", "1e9"), ("1e-9", "1")],
)
def test_a_rescale_that_float32_cannot_hold_is_refused(write_film, slope, intercept):
    # 1e9 + 1 is 1e9 in float32: the film would be one grey
    path = write_film(RescaleSlope=slope, RescaleIntercept=intercept)
    with pytest.raises(ReadError, match=r"film\.dcm: RescaleSlope is .*expected values within ±1e\+18 that float32"):
        read_dicom(path)


def test_a_lut_entered_with_values_beyond_integers_gives_its_ends(write_film, lut):
    table = lut(0, [7, 4095], bits=12)
    path = write_film([[0, 1], [2, 3]], RescaleSlope="1e13", VOILUTSequence=Sequence([table]), RescaleIntercept="-1e13")
    assert_allclose(read_dicom(path).display(), [[7 / 4095, 7 / 4095], [1, 1]], rtol=1e-6)


# --- real files


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
