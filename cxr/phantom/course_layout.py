"""Writes films, marks and tables in the layout of the hospital's course, which ``read_course`` reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from cxr.files import part_of
from cxr.read.dicom_bytes import dicom_bytes

TABLES: dict[str, tuple[str, ...]] = {
    "train.csv": ("ID", "category", "Width", "Height", "Filename", "ImagePath", "MarkPath"),
    "test.csv": ("ID", "Width", "Height", "Filename", "ImagePath"),
    "test_truth.csv": ("ID", "category", "xmin", "xmax", "ymin", "ymax"),
}


def write_film(
    paths: Sequence[Path],
    pixels: NDArray[np.uint16],
    patient: str,
    source: str,
    stated: Mapping[str, str] | None = None,
) -> None:
    """Write one film to all ``paths``: 12-bit MONOCHROME1 LOG, ``pixels`` [H, W] are stored values 0..4095.

    The UIDs are computed from ``source``. ``stated`` has more elements of the header, by name. No path ever holds half
    a film. The course has a copy of a film for each of its findings. Here these are hard links, which look the same to
    any reader and save nearly half of disk and time; they are copies where the file system has no links.
    """
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    with part_of(paths[0]) as whole:
        whole.write_bytes(dicom_bytes(_dicom(pixels, patient, source, stated or {})))
        for path in paths[1:]:
            with part_of(path) as part:
                try:
                    part.hardlink_to(whole)
                except OSError:
                    part.write_bytes(whole.read_bytes())
                part.replace(path)
        whole.replace(paths[0])


def write_mark(path: Path, width: int, height: int, box: NDArray[np.float32]) -> None:
    """Write a mark as lossy JPEG: one filled white rectangle on black; ``box`` is xyxy in pixels."""
    x0, y0, x1, y1 = np.rint(box).astype(int)
    mark = np.zeros((height, width), np.uint8)
    mark[y0:y1, x0:x1] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", mark, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())


def _dicom(pixels: NDArray[np.uint16], patient: str, source: str, stated: Mapping[str, str]) -> FileDataset:
    ds = chest_image(ComputedRadiographyImageStorage, uid(source, "instance"), patient, pixels)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(source, "study"), uid(source, "series")
    ds.Modality, ds.ViewPosition, ds.PhotometricInterpretation = "CR", "PA", "MONOCHROME1"
    ds.WindowCenter, ds.WindowWidth = "2048", "4096"
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign, ds.PresentationLUTShape = "LOG", 1, "INVERSE"
    for name, value in stated.items():
        setattr(ds, name, value)
    return ds


def chest_image(sop_class: UID, instance: UID, patient: str, pixels: NDArray[Any]) -> FileDataset:
    """Return a DICOM file of ``pixels`` [H, W], stored values 0..4095 of 12 bits, with what all drawn images share."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.BodyPartExamined = sop_class, instance, "CHEST"
    ds.PatientID = ds.PatientName = patient
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 1, 16, 12, 11, 0
    ds.PixelData = pixels.astype("<u2").tobytes()
    return ds


def uid(source: str, what: str) -> UID:
    """Return the UID of one thing that is drawn from ``source``, always the same."""
    return generate_uid(entropy_srcs=[source, what])
