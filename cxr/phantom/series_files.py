"""Writes a drawn series as DICOM files like those of a scanner: CT and MR Image Storage, one slice in each file."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from cxr.files import part_of
from cxr.phantom.thorax import DrawnSeries

_INTERCEPT = -1024  # a stored 0 is below air, as on most CT scanners
_TOP = 4095  # largest value of 12 bits


def write_series(folder: Path | str, drawn: DrawnSeries, patient_id: str, study_id: str, seed: int = 0) -> None:
    """Write each axial slice to a file in ``folder``, with 12 bits: CT with a rescale to HU, MR without one.

    ``seed`` shuffles file names and InstanceNumber, so that neither gives the order of the slices. UIDs are computed
    from ``study_id`` and the folder's name. No file ever holds half a slice.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(seed).permutation(len(drawn.values)) + 1
    source = f"{study_id} {folder.name}"
    for index, (values, number) in enumerate(zip(drawn.values, numbers.tolist(), strict=True)):
        path = folder / f"IM{number:04d}.dcm"
        ds = _slice(drawn, values, index, number, source)
        ds.PatientID = ds.PatientName = patient_id
        ds.StudyInstanceUID = _uid(study_id, "study")
        with part_of(path) as part:
            ds.save_as(part, enforce_file_format=True)
            part.replace(path)


def _slice(drawn: DrawnSeries, values: NDArray[np.float32], index: int, number: int, source: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage if drawn.modality == "CT" else MRImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(source, f"slice {index}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.SeriesInstanceUID, ds.FrameOfReferenceUID = _uid(source, "series"), _uid(source, "frame")
    ds.Modality, ds.BodyPartExamined, ds.PatientPosition = drawn.modality, "CHEST", "HFS"
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    ds.InstanceNumber = number
    _place(ds, drawn, index)
    _pixels(ds, drawn, values)
    return ds


def _place(ds: FileDataset, drawn: DrawnSeries, index: int) -> None:
    """Put the volume's middle at the origin of the patient's axes (PS3.3 C.7.6.2.1.1)."""
    corner = [(0.5 - n / 2) * mm for n, mm in zip(drawn.values.shape, drawn.spacing_mm, strict=True)]
    dz, dy, dx = drawn.spacing_mm
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [f"{at:.4f}" for at in (corner[2], corner[1], corner[0] + index * dz)]
    ds.PixelSpacing, ds.SliceThickness = [f"{dy:.4f}", f"{dx:.4f}"], f"{dz:.4f}"


def _pixels(ds: FileDataset, drawn: DrawnSeries, values: NDArray[np.float32]) -> None:
    ds.Rows, ds.Columns = values.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    intercept = 0
    if drawn.modality == "CT":
        intercept = _INTERCEPT
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(intercept), "1", "HU"
        ds.WindowCenter, ds.WindowWidth = "-600", "1500"
    ds.PixelData = np.clip(np.rint(values - intercept), 0, _TOP).astype("<u2").tobytes()


def _uid(source: str, what: str) -> UID:
    return generate_uid(entropy_srcs=[source, what])
