"""Every transfer syntax gives the stored pixels back, and no damaged one gives something else silently."""

import logging

import imagecodecs
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.pixels.encoders import RLELosslessEncoder

from cxr.read import decode
from cxr.read.dicom import ReadError, read_dicom


def rle(pixels):
    return RLELosslessEncoder.encode(
        np.ascontiguousarray(pixels),
        encoding_plugin="pydicom",
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        samples_per_pixel=1,
        number_of_frames=1,
        bits_allocated=8 * pixels.itemsize,
        bits_stored=8 * pixels.itemsize,
        pixel_representation=int(pixels.dtype.kind == "i"),
        photometric_interpretation="MONOCHROME2",
    )


def predictor(number):
    def encode(pixels):
        return imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=number, bitspersample=8 * pixels.itemsize)

    return encode


def j2k(pixels):
    return imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k")


def jp2(pixels):
    return imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="jp2")


def htj2k(pixels):
    return imagecodecs.htj2k_encode(pixels, reversible=True)


LOSSLESS = [
    pytest.param(uid.RLELossless, rle, id="RLE"),
    pytest.param(uid.JPEGLosslessSV1, predictor(1), id="JPEG lossless SV1"),
    pytest.param(uid.JPEGLossless, predictor(4), id="JPEG lossless, another predictor"),
    pytest.param(uid.JPEGLSLossless, imagecodecs.jpegls_encode, id="JPEG-LS"),
    pytest.param(uid.JPEG2000Lossless, j2k, id="JPEG 2000"),
    pytest.param(uid.JPEG2000Lossless, jp2, id="JPEG 2000 in a JP2 file"),
    pytest.param(uid.JPEG2000, j2k, id="JPEG 2000, reversible under the lossy UID"),
    pytest.param(uid.HTJ2KLossless, htj2k, id="HTJ2K"),
    pytest.param(uid.HTJ2KLosslessRPCL, htj2k, id="HTJ2K RPCL"),
    pytest.param(uid.HTJ2K, htj2k, id="HTJ2K, reversible under the lossy UID"),
]


@pytest.fixture
def film():
    """A 12-bit gradient with noise, [60, 47]: odd sides, all 4,096 values' range."""
    noise = np.random.default_rng(0).integers(0, 60, (60, 47))
    return (np.linspace(0, 4036, 47)[None, :].astype(int) + noise).astype(np.uint16)


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
def test_lossless_syntaxes_give_the_pixels_back(write_film, film, syntax, encode):
    path = write_film(film, syntax=syntax, codestream=encode(film), BitsStored=12)
    assert_array_equal(read_dicom(path).pixels, film)


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
def test_lossless_syntaxes_give_8_bit_pixels_back(write_film, film, syntax, encode):
    film = (film >> 4).astype(np.uint8)
    pixels = read_dicom(write_film(film, syntax=syntax, codestream=encode(film))).pixels
    assert pixels.dtype == np.uint8
    assert_array_equal(pixels, film)


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
def test_signed_pixels_coded_as_unsigned_words_get_their_sign_back(write_film, film, syntax, encode):
    signed = film.astype(np.int16) - 2048
    path = write_film(signed, syntax=syntax, codestream=encode(signed.view(np.uint16)), BitsStored=16)
    pixels = read_dicom(path).pixels
    assert pixels.dtype == np.int16
    assert_array_equal(pixels, signed)


@pytest.mark.parametrize("encode", [j2k, htj2k])
def test_wavelet_codestreams_with_a_sign_of_their_own(write_film, film, encode):
    signed = film.astype(np.int16) - 2048
    syntax = uid.JPEG2000Lossless if encode is j2k else uid.HTJ2KLossless
    path = write_film(signed, syntax=syntax, codestream=encode(signed), BitsStored=12)
    assert_array_equal(read_dicom(path).pixels, signed)


def test_lossy_values_beyond_the_stored_bits_are_clipped_not_wrapped(write_film):
    # A 12-bit codestream that overshoots a 10-bit film: dropping bits would make 1025 a 1
    overshoot = np.full((16, 16), 1025, np.uint16)
    codestream = imagecodecs.jpeg8_encode(overshoot, level=100, bitspersample=12)
    path = write_film(overshoot, syntax=uid.JPEGExtended12Bit, codestream=codestream, BitsStored=10)
    assert_array_equal(read_dicom(path).pixels, np.full((16, 16), 1023))


def test_12_bit_jpeg_extended_is_near_the_original(write_film, film):
    smooth = np.sort(film, axis=1)
    codestream = imagecodecs.jpeg8_encode(smooth, level=98, bitspersample=12)
    path = write_film(smooth, syntax=uid.JPEGExtended12Bit, codestream=codestream, BitsStored=12)
    assert np.abs(read_dicom(path).pixels.astype(int) - smooth).max() < 40  # of 4,095


def test_near_lossless_jpeg_ls_stays_within_its_bound(write_film, film):
    codestream = imagecodecs.jpegls_encode(film, level=2)
    path = write_film(film, syntax=uid.JPEGLSNearLossless, codestream=codestream, BitsStored=12)
    assert np.abs(read_dicom(path).pixels.astype(int) - film).max() <= 2


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
@pytest.mark.parametrize("part", [0.02, 0.5, 0.97])
def test_a_cut_codestream_is_an_error_that_names_the_syntax(write_film, film, syntax, encode, part):
    codestream = encode(film)
    path = write_film(film, syntax=syntax, codestream=codestream[: int(part * len(codestream))], BitsStored=12)
    with pytest.raises(ReadError) as caught:
        read_dicom(path)
    assert str(caught.value).startswith(f"{path}: {syntax.name} ({syntax}): ")


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
def test_a_codestream_of_another_size_is_refused_before_decoding(write_film, film, syntax, encode, monkeypatch):
    def refuse(*arguments):
        pytest.fail("decoded before its size was checked")

    if syntax in decode._CODECS:
        monkeypatch.setitem(decode._CODECS, syntax, ("refusing", refuse))
    path = write_film(film, syntax=syntax, codestream=encode(film), BitsStored=12, Rows=6000, Columns=4700)
    with pytest.raises(ReadError, match=r"\(60, 47, 1\), expected \(6000, 4700, 1\)|cannot hold the expected"):
        read_dicom(path)


def test_a_colour_codestream_in_a_grayscale_film_is_refused(write_film):
    codestream = imagecodecs.jpeg8_encode(np.zeros((16, 16, 3), np.uint8))
    path = write_film(np.zeros((16, 16), np.uint8), syntax=uid.JPEGBaseline8Bit, codestream=codestream)
    with pytest.raises(ReadError, match=r"samples \(16, 16, 3\), expected \(16, 16, 1\)"):
        read_dicom(path)


@pytest.mark.parametrize("padding", [b"\0", b"\xff", b"\0\0\0"])
def test_padding_behind_the_end_marker_is_no_damage(write_film, film, padding):
    path = write_film(film, syntax=uid.JPEGLSLossless, codestream=imagecodecs.jpegls_encode(film) + padding)
    assert_array_equal(read_dicom(path).pixels, film)


def test_fragments_of_one_frame_are_joined(write_film, film):
    codestream = imagecodecs.jpegls_encode(film)
    path = write_film(film, syntax=uid.JPEGLSLossless, codestream=codestream, BitsStored=12)
    dataset = dcmread(path)
    dataset.PixelData = encapsulate([codestream], fragments_per_frame=5, has_bot=False)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert_array_equal(read_dicom(path).pixels, film)


def test_a_syntax_without_decoder_lists_those_that_are_read(write_film):
    path = write_film(syntax=uid.MPEG2MPML, codestream=b"\0" * 64)
    with pytest.raises(
        ReadError, match=r"MPEG2 Main Profile .*: no decoder .* expected one of .*RLE Lossless, JPEG Ba"
    ):
        read_dicom(path)


def test_the_decoder_is_announced_once_a_syntax(write_film, film, caplog):
    decode._in_use.clear()
    path = write_film(film, syntax=uid.JPEG2000Lossless, codestream=j2k(film), BitsStored=12)
    with caplog.at_level(logging.INFO, logger="cxr.read.decode"):
        read_dicom(path)
        read_dicom(path)
    assert caplog.messages == [
        "JPEG 2000 Image Compression (Lossless Only) (1.2.840.10008.1.2.4.90) is decoded by OpenJPEG"
    ]


# --- real films


RG1_TRANSCODED = [
    pytest.param(uid.RLELossless, rle, id="RLE"),
    pytest.param(uid.HTJ2KLossless, htj2k, id="HTJ2K"),
    pytest.param(uid.JPEGLosslessSV1, predictor(1), id="JPEG lossless"),
    pytest.param(uid.DeflatedExplicitVRLittleEndian, None, id="deflated"),
    pytest.param(uid.ExplicitVRBigEndian, None, id="big endian"),
    pytest.param(uid.ImplicitVRLittleEndian, None, id="implicit"),
]


@pytest.mark.parametrize(("syntax", "encode"), RG1_TRANSCODED)
def test_transcodes_of_a_real_film_give_the_same_picture(real_dicoms, write_film, syntax, encode):
    original = read_dicom(real_dicoms / "chest" / "RG1_UNCI.dcm")
    path = write_film(
        original.pixels,
        syntax=syntax,
        codestream=encode(original.pixels) if encode else None,
        BitsStored=15,
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter="15000",
        WindowWidth="30000",
    )
    film = read_dicom(path)
    assert_array_equal(film.pixels, original.pixels)
    assert_array_equal(film.display(), original.display())


def test_real_codestreams_agree_with_an_independent_decoder(real_dicoms):
    twins = {
        "chest/RG1_J2KR.dcm": "pylibjpeg",
        "chest/RG1_JLSN.dcm": "pyjpegls",
        "radiograph_other/RG3_JLSL.dcm": "pyjpegls",
        "radiograph_other/RG3_JPLL.dcm": "pylibjpeg",
        "radiograph_other/RG3_RLE.dcm": "pydicom",
        "chest/siim_cr_jpegbaseline.dcm": "pillow",
    }
    for name, plugin in twins.items():
        dataset = dcmread(real_dicoms / name)
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
        expected, _ = decoder.as_array(dataset, decoding_plugin=plugin)
        assert_array_equal(read_dicom(real_dicoms / name).pixels, expected, err_msg=name)


def test_real_12_bit_jpeg_is_near_its_lossless_twin(real_dicoms):
    folder = real_dicoms / "radiograph_other"
    lossy, lossless = (read_dicom(folder / f"RG3_{n}.dcm").pixels.astype(int) for n in ("JPLY", "JPLL"))
    difference = np.abs(lossy - lossless)
    assert difference.mean() < 2  # of 1,023
    assert difference.max() < 60
