"""COCO json files, as exported and as found in the wild."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.data.sources.coco import read_coco
from cxr.findings import FindingVocabulary, UnknownLabelError
from cxr.read.dicom import pseudonym


def write(folder: Path, **changes: Any) -> Path:
    """Three images, of which one is normal and two are of one patient; five annotations, two of which do not count."""
    coco = {
        "images": [
            {"id": 1, "file_name": "images/a.png", "width": 120, "height": 100, "patient": "P1"},
            {"id": 2, "file_name": "images/b.png", "width": 60, "height": 80, "patient": "P1"},
            {"id": 7, "file_name": "images/c.png", "width": 60, "height": 80},
        ],
        "categories": [{"id": 4, "name": "Scoliosis"}, {"id": 9, "name": "心脈肥大"}, {"id": 0, "name": "No finding"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 4, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 9, "bbox": [90, 80, 30, 20]},
            {"id": 3, "image_id": 7, "category_id": 9, "bbox": [0, 0, 60, 80]},
            {"id": 4, "image_id": 7, "category_id": 9, "bbox": [1, 1, 9, 9], "iscrowd": 1},
            {"id": 5, "image_id": 2, "category_id": 0, "bbox": []},
        ],
    }
    (folder / "images").mkdir()
    for name in "abc":
        (folder / "images" / f"{name}.png").touch()
    path = folder / "annotations.coco.json"
    path.write_text(json.dumps(coco | changes, ensure_ascii=False), encoding="utf-8")
    return path


def test_boxes_become_xyxy_under_canonical_names(tmp_path: Path, findings: FindingVocabulary) -> None:
    write(tmp_path)
    a, b, c = read_coco(tmp_path, findings)
    assert a.path == tmp_path / "images/a.png"
    assert a.findings == ("scoliosis", "cardiac_hypertrophy")
    np.testing.assert_array_equal(a.boxes, [[10, 20, 40, 60], [90, 80, 120, 100]])
    assert b.normal
    assert b.boxes.shape == (0, 4)
    assert c.findings == ("cardiac_hypertrophy",)
    assert a.patient == b.patient != c.patient
    assert "P1" not in (a.patient, a.study)


def test_the_root_may_be_the_json_itself(tmp_path: Path, findings: FindingVocabulary) -> None:
    assert len(read_coco(write(tmp_path), findings)) == 3


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"categories": [{"id": 4, "name": "pneumothorax"}]}, UnknownLabelError, "'pneumothorax' in row 1"),
        ({"categories": [{"id": 4, "name": "scoliosis"}]}, ValueError, "category_id 9, expected one of 4"),
        ({"annotations": [{"id": 1, "image_id": 5, "category_id": 4, "bbox": [0, 0, 1, 1]}]}, ValueError, "image_id 5"),
        ({"images": [{"id": 1, "file_name": "x.png", "width": 1, "height": 1}], "annotations": []},
         FileNotFoundError, "1 of 1 images are missing, first .*x.png"),
        ({"images": [{"id": 1, "file_name": "x.png"}, {"id": 2}]}, ValueError,
         r"annotations\.coco\.json: 2 problems\n  images, number 1 has no width, height\n  images, number 2 "),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 4, "bbox": [0, 0, 1, 1]}, {"id": 2}]}, ValueError,
         "1 problems\n  annotations, number 2 has no image_id, category_id, bbox"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 4, "bbox": [0, 0, 1]}]}, ValueError,
         r"number 1 has the bbox \[0, 0, 1\], expected \[x, y, width, height\]"),
        ({"categories": ["scoliosis"]}, ValueError, "categories, number 1 is 'scoliosis', expected an object"),
        ({"images": {}}, ValueError, "images is {}, expected a list"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    tmp_path: Path, findings: FindingVocabulary, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_coco(write(tmp_path, **changes), findings)


def test_what_is_no_coco_json_is_refused(tmp_path: Path, findings: FindingVocabulary) -> None:
    with pytest.raises(FileNotFoundError, match=r"annotations\.coco\.json"):
        read_coco(tmp_path, findings)
    (tmp_path / "annotations.coco.json").write_text("[1]")
    with pytest.raises(ValueError, match="has no images, annotations, categories"):
        read_coco(tmp_path, findings)
    (tmp_path / "annotations.coco.json").write_text("{")
    with pytest.raises(ValueError, match="not a json file"):
        read_coco(tmp_path, findings)


def test_without_a_stated_patient_the_dicom_header_tells(
    tmp_path: Path, findings: FindingVocabulary, write_film: Callable[..., Path]
) -> None:
    ids = {"a": "H1", "b": "H1", "c": "", "d": "H1", "e": "H2"}
    for name, patient in ids.items():
        write_film(
            tmp_path / f"{name}.dcm", np.zeros((8, 8), np.uint16), patient, study="1.2.3" if name in "ce" else ""
        )
    images = [{"id": name, "file_name": f"{name}.dcm", "width": 8, "height": 8} for name in ids]
    images[3]["patient"] = "stated"
    images[0]["patient"] = None
    write(tmp_path, images=images, annotations=[])
    a, b, c, d, e = (film.patient for film in read_coco(tmp_path, findings))
    assert a == b == pseudonym("H1")
    assert c == pseudonym("c")
    assert d == pseudonym("stated")
    assert e == pseudonym("H2")


def test_a_placeholder_in_the_headers_is_no_patient(
    tmp_path: Path, findings: FindingVocabulary, write_film: Callable[..., Path]
) -> None:
    for i in range(12):
        write_film(tmp_path / f"{i}.dcm", np.zeros((8, 8), np.uint16), "ANONYMOUS" if i else "H1")
    images = [{"id": i, "file_name": f"{i}.dcm", "width": 8, "height": 8} for i in range(12)]
    write(tmp_path, images=images, annotations=[])
    assert len({film.patient for film in read_coco(tmp_path, findings)}) == 12
