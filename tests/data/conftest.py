"""Films, marks and small data sets in the course layout, made on the spot."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import albumentations
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from cxr.data.augment import Augment
from cxr.data.film import Film
from cxr.findings import Finding, FindingVocabulary

Box = tuple[int, int, int, int]
SIZES = [(120, 100), (80, 160), (60, 50)]


@pytest.fixture
def findings() -> FindingVocabulary:
    return FindingVocabulary(
        [Finding("cardiac_hypertrophy", "心臟肥大", ("心脈肥大",)), Finding("scoliosis", "脊椎側彎")]
    )


def write_dicom(path: Path, pixels: NDArray[np.uint16], patient: str = "", study: str = "") -> Path:
    """Write a 12-bit MONOCHROME1 LOG computed radiograph, as the hospital's are."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID = study or generate_uid()
    ds.Modality = "CR"
    ds.PatientID = ds.PatientName = patient
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME1"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = "2048", "4096"
    ds.PixelIntensityRelationship, ds.PresentationLUTShape = "LOG", "INVERSE"
    ds.PixelData = pixels.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def noise(width: int, height: int, seed: int = 0) -> NDArray[np.uint16]:
    """Return [height, width] 12-bit pixels, other ones for each seed."""
    return np.random.default_rng(seed).integers(0, 4096, (height, width)).astype(np.uint16)


def write_mark(path: Path, width: int, height: int, boxes: Sequence[Box]) -> Path:
    """Paint white rectangles on black and save them as lossy JPEG, whatever the folder is called."""
    mark = np.zeros((height, width), np.uint8)
    for x0, y0, x1, y1 in boxes:
        mark[y0:y1, x0:x1] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", mark, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())
    return path


@dataclass
class CourseWriter:
    """Writes a data set in the course layout row by row: ``row`` for each (film, finding), then ``save``."""

    root: Path
    width: int = 120
    height: int = 100
    rows: list[dict[str, object]] = field(default_factory=list)
    tests: list[dict[str, object]] = field(default_factory=list)
    truth: list[dict[str, object]] = field(default_factory=list)

    def row(
        self,
        film_id: str,
        category: str,
        boxes: Sequence[Box] = (),
        *,
        name: str = "",
        folder: str = "",
        slash: str = "",
        patient: str | None = None,
        seed: int | None = None,
    ) -> Path:
        folder, name = folder or category, name or f"{len(self.rows)}.dcm"
        pixels = noise(self.width, self.height, len(self.rows) if seed is None else seed)
        path = write_dicom(
            self.root / "train" / folder / "image" / name, pixels, film_id if patient is None else patient
        )
        if boxes:
            write_mark(self.root / "train" / folder / "mark" / f"{name}.jpg", self.width, self.height, boxes)
        self.rows.append(
            {"ID": film_id, "category": category, "Width": self.width, "Height": self.height, "Filename": name}
            | {"ImagePath": f"{slash}{category}/image/{name}", "MarkPath": f"{slash}{category}/mark/{name}.jpg"}
        )
        return path

    def test(self, film_id: str, truth: Sequence[tuple[str, float, float, float, float]] = ()) -> Path:
        """Add a test film; truth is (category, xmin, xmax, ymin, ymax) as fractions."""
        name = f"{len(self.tests) + 1:03d}.dcm"
        path = write_dicom(self.root / "test" / "image" / name, noise(self.width, self.height, 999), film_id)
        size = {"Width": self.width, "Height": self.height}
        self.tests.append({"ID": film_id, **size, "Filename": name, "ImagePath": f"/image/{name}"})
        keys = ("category", "xmin", "xmax", "ymin", "ymax")
        self.truth += [{"ID": film_id, **dict(zip(keys, row, strict=True))} for row in truth]
        return path

    def save(self, encoding: str = "utf-8") -> Path:
        for name, rows in (("train.csv", self.rows), ("test.csv", self.tests), ("test_truth.csv", self.truth)):
            if rows:
                text = io.StringIO(newline="")
                writer = csv.DictWriter(text, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
                (self.root / name).write_bytes(text.getvalue().encode(encoding))
        return self.root


@pytest.fixture
def course(tmp_path: Path) -> CourseWriter:
    root = tmp_path / "course"
    root.mkdir()
    return CourseWriter(root)


@pytest.fixture
def write_film() -> Callable[..., Path]:
    return write_dicom


@pytest.fixture
def mark_picture() -> Callable[..., Path]:
    return write_mark


@pytest.fixture
def films(tmp_path: Path, write_film: Callable[..., Path]) -> list[Film]:
    """A wide film with a box on its border, a tall normal one, and one smaller than the network frame."""

    def film(i: int, boxes: list[list[float]], *names: str) -> Film:
        width, height = SIZES[i]
        path = write_film(tmp_path / "films" / f"{i}.dcm", noise(width, height, i))
        return Film(path, str(i), f"s{i}", f"p{i}", np.array(boxes, np.float32).reshape(-1, 4), names, width, height)

    return [
        film(0, [[0, 0, 60, 100], [30, 20, 50, 40]], "scoliosis", "cardiac_hypertrophy"),
        film(1, []),
        film(2, [[11, 7, 43, 29]], "scoliosis"),
    ]


@pytest.fixture
def rotated() -> Augment:
    """An augmentation that turns every film by up to five degrees."""
    return Augment([albumentations.Rotate((-5, 5), rotate_method="ellipse", border_mode=cv2.BORDER_CONSTANT, p=1)])
