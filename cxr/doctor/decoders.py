"""Tries the decoder of each transfer syntax on a small film."""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder

from cxr.doctor.check import Check
from cxr.read.decode import SUPPORTED, decoders_in_use
from cxr.read.dicom import parse_film

_Pixels = NDArray[np.uint16]
_STEP = 3  # largest error of a value that a lossy codec may make


def decoders() -> Iterator[Check]:
    """Check of each supported transfer syntax which decoder it has, and whether the film's values come back."""
    film = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint16) * 8  # values 0..240 fit in 8 bits
    for syntax in SUPPORTED:
        try:
            seen = parse_film(Path(syntax.keyword), _file(film, syntax)).pixels
        except Exception as error:  # a codec that is built without its library may raise anything
            reason = f"{type(error).__name__}: {error}"
            yield Check(syntax.keyword, reason, "wrong", "pip install --force-reinstall imagecodecs")
            continue
        name = decoders_in_use()[syntax]
        worst = int(np.abs(seen.astype(int) - film).max())
        if worst > _STEP:
            yield Check(syntax.keyword, f"{name} is off by {worst}", "wrong", "do not read such films on this machine")
        else:
            yield Check(syntax.keyword, name)


def _file(film: _Pixels, syntax: uid.UID) -> bytes:
    """Return the bytes of a DICOM file with ``film``."""
    bits = 8 if syntax == uid.JPEGBaseline8Bit else 16
    dataset = Dataset()
    dataset.Rows, dataset.Columns = film.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored = bits, min(bits, 12)
    dataset.HighBit = dataset.BitsStored - 1
    compressed = syntax in _ENCODERS
    value = encapsulate([_ENCODERS[syntax](film)]) if compressed else _words(film, syntax)
    dataset.add_new("PixelData", "OB" if compressed else "OW", value)
    dataset["PixelData"].is_undefined_length = compressed
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, uid.DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    dataset.file_meta = meta
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def _words(film: _Pixels, syntax: uid.UID) -> bytes:
    return film.astype("<u2" if syntax.is_little_endian else ">u2").tobytes()


def _jpeg(**options: Any) -> Callable[[_Pixels], bytes]:
    return lambda film: bytes(imagecodecs.jpeg8_encode(film, **options))


def _wavelet(film: _Pixels) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(film, level=0, reversible=True, codecformat="j2k"))


def _htj2k(film: _Pixels) -> bytes:
    return bytes(imagecodecs.htj2k_encode(film, reversible=True))


def _rle(film: _Pixels) -> bytes:
    return bytes(
        get_encoder(uid.RLELossless).encode(
            film, encoding_plugin="pydicom", rows=16, columns=16, samples_per_pixel=1, number_of_frames=1,
            bits_allocated=16, bits_stored=12, pixel_representation=0, photometric_interpretation="MONOCHROME2",
        )
    )  # fmt: skip


_ENCODERS: dict[uid.UID, Callable[[_Pixels], bytes]] = {
    uid.JPEGBaseline8Bit: lambda film: bytes(imagecodecs.jpeg8_encode(film.astype(np.uint8), level=100)),
    uid.JPEGExtended12Bit: _jpeg(level=100, bitspersample=12),
    uid.JPEGLossless: _jpeg(lossless=True, predictor=4, bitspersample=16),
    uid.JPEGLosslessSV1: _jpeg(lossless=True, predictor=1, bitspersample=16),
    uid.JPEGLSLossless: lambda film: bytes(imagecodecs.jpegls_encode(film)),
    uid.JPEGLSNearLossless: lambda film: bytes(imagecodecs.jpegls_encode(film, level=_STEP)),
    uid.JPEG2000: _wavelet,
    uid.JPEG2000Lossless: _wavelet,
    uid.HTJ2K: _htj2k,
    uid.HTJ2KLossless: _htj2k,
    uid.HTJ2KLosslessRPCL: _htj2k,
    uid.RLELossless: _rle,
}
