"""Films for tests/fuzz.py to damage: made here in every transfer syntax, and the real encodings in CXR_SHARED."""

import os
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite

SECRETS = ("Secret^Name", "SECRETID7", "19400305", "Hidden Hospital")
"""Whom the made films are of; no error may tell it."""


def made_films(folder: Path) -> list[Path]:
    """Write a film in every transfer syntax that is read, 8 and 12 bits, and return their paths."""
    rng = np.random.default_rng(0)
    deep = (
        np.add.outer(np.linspace(0, 1500, 150), np.linspace(0, 2400, 130)) + rng.integers(0, 90, (150, 130))
    ).astype(np.uint16)
    paths = []
    for pixels, bits in ((deep, 12), ((deep >> 4).astype(np.uint8), 8)):
        for syntax, codestream in _codestreams(pixels, bits):
            path = folder / f"{bits}_{len(paths)}_{syntax.keyword}.dcm"
            _write(path, pixels, bits, syntax, codestream)
            paths.append(path)
        for kind in ("png", "tif") if bits == 12 else ("png", "tif", "jpg"):
            paths.append(folder / f"{bits}_{len(paths)}.{kind}")
            Image.fromarray(pixels).save(paths[-1])
    return paths


def _codestreams(pixels: np.ndarray, bits: int) -> Iterator[tuple[uid.UID, bytes | None]]:
    yield uid.ImplicitVRLittleEndian, None
    yield uid.ExplicitVRLittleEndian, None
    yield uid.ExplicitVRBigEndian, None
    yield uid.DeflatedExplicitVRLittleEndian, None
    planes = pixels.view(np.uint8).reshape(*pixels.shape, pixels.itemsize)
    segments = [imagecodecs.packbits_encode(np.ascontiguousarray(planes[..., n])) for n in range(pixels.itemsize)][::-1]
    starts = np.zeros(16, "<u4")
    starts[0], starts[1 : 1 + len(segments)] = len(segments), 64 + np.cumsum([0, *map(len, segments[:-1])])
    yield uid.RLELossless, starts.tobytes() + b"".join(segments)
    lossy = uid.JPEGBaseline8Bit if bits == 8 else uid.JPEGExtended12Bit
    yield lossy, imagecodecs.jpeg8_encode(pixels, level=90, bitspersample=bits)
    for predictor, syntax in ((1, uid.JPEGLosslessSV1), (6, uid.JPEGLossless)):
        depth = 8 * pixels.itemsize
        yield syntax, imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=depth)
    yield uid.JPEGLSLossless, imagecodecs.jpegls_encode(pixels)
    yield uid.JPEGLSNearLossless, imagecodecs.jpegls_encode(pixels, level=2)
    for container, syntax in (("j2k", uid.JPEG2000Lossless), ("jp2", uid.JPEG2000Lossless), ("j2k", uid.JPEG2000)):
        reversible = syntax == uid.JPEG2000Lossless
        level = 0 if reversible else 60
        yield syntax, imagecodecs.jpeg2k_encode(pixels, level=level, reversible=reversible, codecformat=container)
    for syntax in (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL):
        yield syntax, imagecodecs.htj2k_encode(pixels, reversible=True)
    yield uid.HTJ2K, imagecodecs.htj2k_encode(pixels, reversible=False)


def _write(path: Path, pixels: np.ndarray, bits: int, syntax: uid.UID, codestream: bytes | None) -> None:
    film = Dataset()
    film.SOPClassUID, film.SOPInstanceUID = uid.ComputedRadiographyImageStorage, "1.2.3.4"
    film.StudyInstanceUID = "1.2.3"
    film.PatientName, film.PatientID, film.PatientBirthDate, film.InstitutionName = SECRETS
    film.Modality, film.BodyPartExamined, film.ViewPosition = "CR", "CHEST", "PA"
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME1" if bits == 12 else "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit = 8 * pixels.itemsize, bits, bits - 1
    film.PixelRepresentation, film.PixelSpacing = 0, [0.2, 0.2]
    film.RescaleSlope, film.RescaleIntercept = 1, 0
    if bits == 12:
        film.WindowCenter, film.WindowWidth = [2048, 1500], [4096, 900]
    else:
        table = Dataset()
        table.add_new("LUTDescriptor", "US", [256, 0, 12])
        table.add_new("LUTData", "OW", (np.arange(256, dtype="<u2") * 16).tobytes())
        film.VOILUTSequence = [table]
    big = syntax == uid.ExplicitVRBigEndian
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
    film.PixelData = stored if codestream is None else encapsulate([codestream + b"\0" * (len(codestream) % 2)])
    film["PixelData"].VR = "OB" if codestream is not None or bits == 8 else "OW"
    film["PixelData"].is_undefined_length = codestream is not None
    film.file_meta = FileMetaDataset()
    film.file_meta.MediaStorageSOPClassUID, film.file_meta.MediaStorageSOPInstanceUID = film.SOPClassUID, "1.2.3.4"
    film.file_meta.TransferSyntaxUID = syntax
    dcmwrite(path, film, enforce_file_format=True)


def shared_films() -> list[Path]:
    """Return the real encodings, none where there is no ``CXR_SHARED``."""
    shared = Path(os.environ.get("CXR_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "dicom"
    return sorted(path for path in shared.rglob("*") if path.is_file() and path.suffix != ".csv")


def packaged_films() -> list[Path]:
    """Return the test files that pydicom brings along: odd headers, other encodings, and what is no film at all."""
    return sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm"))
