"""Writes tiny copies of public data sets, file by file as they are published, odd rows included."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 120, 100

VINDR = """image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max
a1,No finding,14,R11,,,,
a1,No finding,14,R7,,,,
a1,No finding,14,R10,,,,
b2,Cardiomegaly,3,R9,20.5,40,80,90
b2,Cardiomegaly,3,R8,22.5,40,82,90
b2,Cardiomegaly,3,R8,22.5,40,82,90
b2,Nodule/Mass,8,R8,10,10,30,20
b2,No finding,14,R10,,,,
c3,Other lesion,9,R9,,,,
c3,No finding,14,R8,,,,
c3,No finding,14,R10,,,,
d4,ILD,5,R9,0,0,1,1
"""

NIH_BOXES = """Image Index,Finding Label,Bbox [x,y,w,h],,,
00000001_000.png,Cardiomegaly,10.5,20.25,50,40,,,
00000001_001.png,Infiltrate,5,6,20,10,,,
00000001_001.png,Infiltrate,5,6,20,10,,,
00000002_000.png,Effusion,30,30,10,20
00000002_000.png,Mass,,,,
"""

NIH_ENTRIES = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
    + "".join(
        f"{name},{labels},0,{patient},058Y,M,PA,2682,2749,0.143,0.143,\n"
        for name, labels, patient in (
            ("00000001_000.png", "Cardiomegaly", 1),
            ("00000001_001.png", "Infiltration|Effusion|Emphysema", 1),
            ("00000002_000.png", "Effusion|Mass", 2),
            ("00000003_000.png", "No Finding", 3),
            ("00000004_000.png", "No Finding", 4),
            ("00000005_000.png", "Hernia", 5),
            ("00000006_000.png", "Mass|Nodule", 6),
        )
    )
)

RSNA_LABELS = """patientId,x,y,width,height,Target
u1,,,,,0
u2,10.0,20.0,30.0,40.0,1
u2,60.0,20.0,30.0,40.0,1
u3,,,,,0
"""

RSNA_CLASSES = """patientId,class
u1,Normal
u2,Lung Opacity
u2,Lung Opacity
u3,No Lung Opacity / Not Normal
"""

CHESTXDET = {
    "train": [
        {"file_name": "36199.png", "syms": [], "boxes": [], "polygons": []},
        {
            "file_name": "36302.png",
            "syms": ["Effusion", "Effusion", "Pleural Thickening"],
            "boxes": [[79, 66, 93, 76], [10, 20, 40, 60], [0, 0, 9, 9]],
            "polygons": [[[79, 66], [93, 76], [80, 70]], [], []],
        },
    ],
    "test": [
        {"file_name": "00000250_007.png", "syms": ["Cardiomegaly"], "boxes": [[10, 50, 90, 90]], "polygons": [[]]}
    ],
}


def noise(seed: int) -> NDArray[np.uint16]:
    """Return [HEIGHT, WIDTH] 12-bit pixels, other ones for each seed."""
    return np.random.default_rng(seed).integers(0, 4096, (HEIGHT, WIDTH)).astype(np.uint16)


def write_png(path: Path, seed: int = 0) -> Path:
    """Write an 8-bit film of 120 × 100 px, another for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise(seed) >> 4).astype(np.uint8)).save(path)
    return path


def write_text(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write a text with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


@dataclass(frozen=True)
class Published:
    """Writes each data set into a folder and returns the folder."""

    write_dicom: Callable[..., Path]

    def vindr(self, root: Path, table: str = VINDR) -> Path:
        """VinDr-CXR as on Kaggle: .dicom, .dcm, a file without extension, one film that is not there."""
        write_text(root / "train.csv", table, "utf-8-sig")
        for seed, name in enumerate(("a1.dicom", "b2.dcm", "c3")):
            self.write_dicom(root / "train" / name, noise(seed))
        return root

    def nih(self, root: Path, boxes: str = NIH_BOXES, entries: str = NIH_ENTRIES) -> Path:
        """ChestX-ray14 in two of its archives' folders."""
        write_text(root / "BBox_List_2017.csv", boxes)
        write_text(root / "Data_Entry_2017.csv", entries)
        write_text(root / "test_list.txt", "00000002_000.png\n00000004_000.png\n")
        for seed, line in enumerate(entries.splitlines()[1:], start=10):
            name = line.split(",")[0]
            write_png(root / ("images_001" if seed % 2 else "images_002") / "images" / name, seed)
        return root

    def rsna(self, root: Path, labels: str = RSNA_LABELS, classes: str = RSNA_CLASSES) -> Path:
        """The RSNA challenge, its PatientID that of the file's name."""
        write_text(root / "stage_2_train_labels.csv", labels)
        write_text(root / "stage_2_detailed_class_info.csv", classes)
        names = dict.fromkeys(line.split(",")[0] for line in labels.splitlines()[1:])
        for seed, name in enumerate(names, start=20):
            self.write_dicom(root / "stage_2_train_images" / f"{name}.dcm", noise(seed), patient=name)
        return root

    def chestxdet(self, root: Path, name: str = "ChestX_Det_{}.json") -> Path:
        """ChestX-Det, or with "{}.json" in the files of ChestX-Det10."""
        for split, films in CHESTXDET.items():
            write_text(root / name.format(split), json.dumps(films))
            for film in films:
                write_png(root / f"{split}_data" / film["file_name"], seed=30 + len(film["syms"]))
        return root

    def yolo(self, root: Path, settings: str = "") -> Path:
        """Three images for training, of which one has an empty txt and one none, and one held back."""
        default = (
            "path: .\ntrain: images/train\nval: images/val\ntest: images/test\nnames:\n  0: Cardiomegaly\n  1: Nodule\n"
        )
        write_text(root / "data.yaml", settings or default)
        for seed, name in enumerate(("train/a.png", "train/b.png", "val/c.png", "test/d.png"), start=40):
            write_png(root / "images" / name, seed)
        write_text(root / "labels/train/a.txt", "1 0.5 0.5 0.25 0.5\n0 0.25 0.5 0.5 0.1\n\n1 0.5 0.5 0.25 0.5\n")
        write_text(root / "labels/train/b.txt", "")
        write_text(root / "labels/test/d.txt", "0 0.5 0.5 1 1")
        return root


@pytest.fixture
def published(write_film: Callable[..., Path]) -> Published:
    return Published(write_film)
