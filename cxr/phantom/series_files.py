"""Writes a drawn series as DICOM files like those of a scanner: CT and MR Image Storage, one slice in each file."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import UID, CTImageStorage, MRImageStorage

from cxr.files import write_whole
from cxr.phantom.course_layout import chest_image, uid
from cxr.phantom.thorax import DrawnSeries
from cxr.read.dicom_bytes import dicom_bytes

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
        ds = _slice(drawn, values, patient_id, uid(source, f"slice {index}"))
        ds.StudyInstanceUID, ds.InstanceNumber = uid(study_id, "study"), number
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID = uid(source, "series"), uid(source, "frame")
        _place(ds, drawn, index)
        write_whole(path, dicom_bytes(ds), flush=False)


def _slice(drawn: DrawnSeries, values: NDArray[np.float32], patient: str, instance: UID) -> FileDataset:
    ct = drawn.modality == "CT"
    intercept = _INTERCEPT if ct else 0
    stored = np.clip(np.rint(values - intercept), 0, _TOP)
    ds = chest_image(CTImageStorage if ct else MRImageStorage, instance, patient, stored)
    ds.Modality, ds.PatientPosition, ds.PhotometricInterpretation = drawn.modality, "HFS", "MONOCHROME2"
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    if ct:
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(intercept), "1", "HU"
        ds.WindowCenter, ds.WindowWidth = "-600", "1500"
    return ds


def _place(ds: FileDataset, drawn: DrawnSeries, index: int) -> None:
    """Put the volume's middle at the origin of the patient's axes (PS3.3 C.7.6.2.1.1)."""
    corner = [(0.5 - n / 2) * mm for n, mm in zip(drawn.values.shape, drawn.spacing_mm, strict=True)]
    dz, dy, dx = drawn.spacing_mm
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [f"{at:.4f}" for at in (corner[2], corner[1], corner[0] + index * dz)]
    ds.PixelSpacing, ds.SliceThickness = [f"{dy:.4f}", f"{dx:.4f}"], f"{dz:.4f}"
