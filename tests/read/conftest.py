"""DICOM films made by the tests, and the folder of real ones."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_dataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

from cxr.read import cache as cache_module

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def real_dicoms() -> Path:
    """The folder of real DICOM encodings; its place is CXR_SHARED, or beside the checkout."""
    folder = Path(os.environ.get("CXR_SHARED", REPOSITORY.parent / "shared")) / "data" / "dicom"
    if not folder.is_dir():
        pytest.skip(f"no real DICOM files at {folder}: set CXR_SHARED to the folder that holds data/dicom")
    return folder


@pytest.fixture
def write_film(tmp_path: Path) -> Callable[..., Path]:
    """Write a single-frame film and return its path.

    Pixel values go in as they are, whatever BitsStored says. ``codestream`` takes their place in the file.
    An element given as None is left out.
    """

    def write(
        pixels: Any = ((0, 1), (2, 3)),
        name: str = "film.dcm",
        syntax: UID = ExplicitVRLittleEndian,
        codestream: bytes | None = None,
        bare: bool = False,
        **elements: Any,
    ) -> Path:
        pixels = np.asarray(pixels)
        pixels = pixels.astype(np.uint16) if pixels.dtype == np.int64 else pixels
        big_endian = syntax == ExplicitVRBigEndian
        stored = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<")).tobytes()
        film = Dataset()
        defaults = {
            "SOPClassUID": ComputedRadiographyImageStorage,
            "SOPInstanceUID": "1.2.3.4",
            "StudyInstanceUID": "1.2.3",
            "PatientID": "7",
            "PatientName": "Secret^Name",
            "PatientBirthDate": "19400305",
            "Modality": "CR",
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 8 * pixels.itemsize,
            "BitsStored": 8 * pixels.itemsize,
            "HighBit": elements.get("BitsStored", 8 * pixels.itemsize) - 1,
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
            "PixelData": stored + b"\0" * (len(stored) % 2) if codestream is None else encapsulate([codestream]),
        }
        for keyword, value in {**defaults, **elements}.items():
            if value is not None:
                setattr(film, keyword, value)
        if "PixelData" in film:
            film["PixelData"].VR = "OB" if syntax.is_encapsulated or pixels.itemsize == 1 else "OW"
            film["PixelData"].is_undefined_length = syntax.is_encapsulated
        path = tmp_path / name
        if bare:
            stream = DicomBytesIO()
            stream.is_implicit_VR, stream.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
            write_dataset(stream, film)
            path.write_bytes(stream.getvalue())
        else:
            film.file_meta = FileMetaDataset()
            film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID
            film.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
            film.file_meta.TransferSyntaxUID = syntax
            dcmwrite(path, film, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def lut() -> Callable[..., Dataset]:
    """Make the item of a LUT sequence; ``count`` and the VRs say something else of it than its entries do."""

    def make(
        first: int,
        entries: list[int],
        bits: int = 16,
        count: int | None = None,
        descriptor_vr: str = "US",
        data_vr: str = "US",
    ) -> Dataset:
        item = Dataset()
        item.add_new("LUTDescriptor", descriptor_vr, [len(entries) % 65536 if count is None else count, first, bits])
        item.add_new("LUTData", data_vr, entries if data_vr == "US" else np.asarray(entries, "<u2").tobytes())
        return item

    return make


@pytest.fixture
def settled(monkeypatch):
    """Trust the index for files however young, as if the test had waited."""
    monkeypatch.setattr(cache_module, "_SETTLED_NS", -1)


@pytest.fixture
def decodings(monkeypatch):
    """The paths that were decoded."""
    seen = []
    decode = cache_module.parse_film
    monkeypatch.setattr(cache_module, "parse_film", lambda path, data: seen.append(path) or decode(path, data))
    return seen
