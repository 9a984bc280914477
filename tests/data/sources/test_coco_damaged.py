"""A COCO json with any one thing wrong: an error that counts and names the entries, never a traceback or silence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr.data.sources.coco import read_coco
from cxr.data.sources.tables import TableError
from cxr.findings import FindingVocabulary

NAN, INF = float("nan"), float("inf")


def whole() -> dict[str, Any]:
    """Two films of 120 × 100, one with two boxes; the third annotation says that there is nothing."""
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 120, "height": 100},
            {"id": 2, "file_name": "b.png", "width": 120, "height": 100},
        ],
        "categories": [{"id": 4, "name": "scoliosis"}, {"id": 0, "name": "No finding"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 4, "bbox": [10, 20, 30, 40]},
            {"id": 2, "image_id": 1, "category_id": 4, "bbox": [50.5, 20, 69.5, 80]},
            {"id": 3, "image_id": 2, "category_id": 0, "bbox": []},
        ],
    }


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(coco: Any) -> Path:
        for name in "ab":
            Image.fromarray(np.zeros((100, 120), np.uint8)).save(tmp_path / f"{name}.png")
        # 1e400 is how a json writes what Python then reads as infinite
        (tmp_path / "annotations.coco.json").write_text(json.dumps(coco).replace("Infinity", "1e400"))
        return tmp_path

    return write


def test_the_whole_one_is_read(save: Callable[..., Path], findings: FindingVocabulary) -> None:
    a, b = read_coco(save(whole()), findings)
    assert a.boxes.tolist() == [[10, 20, 40, 60], [50.5, 20, 120, 100]]
    assert b.normal


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([NAN, 20, 30, 40], "not finite"), ([10, 20, INF, 40], "not finite"), ([10, -INF, 30, 40], "not finite"),
        ([10, 20, 0, 40], "width and height above 0"), ([10, 20, -30, 40], "width and height above 0"),
        ([10, 20, 30, 10**400], "not finite"), ([10, 20, 1e30, 1e30], "is not on its film"),
        ([200, 200, 30, 40], "is not on its film"), ([100, 20, 30, 40], "is not on its film"),
        ([-30, 20, 30, 40], "is not on its film"), ([10, 20, 1e-50, 40], "is not on its film"),
        ([], "has no box"), (None, "has no box"), ([1, 2, 3], "has the bbox"), ([1, 2, 3, "4"], "has the bbox"),
        ([1, 2, 3, True], "has the bbox"), ([[1], 2, 3, 4], "has the bbox"), ("1,2,3,4", "has the bbox"),
        ({"x": 1}, "has the bbox"), ([None] * 4, "has the bbox"), (7, "has the bbox"),
    ],
)  # fmt: skip
def test_a_box_that_can_be_none_is_an_error_and_no_normal_film(
    save: Callable[..., Path], findings: FindingVocabulary, box: Any, message: str
) -> None:
    coco = whole()
    coco["annotations"][1]["bbox"] = box
    with pytest.raises(TableError, match=rf"coco\.json: 1 problems\n  annotations, number 2.*{message}") as error:
        read_coco(save(coco), findings)
    assert len(str(error.value)) < 500


def test_all_boxes_that_can_be_none_are_counted(save: Callable[..., Path], findings: FindingVocabulary) -> None:
    coco = whole()
    coco["annotations"] = [
        {"image_id": 1, "category_id": 4, "bbox": [10, 20, 30, 40 if i % 2 else 0]} for i in range(100)
    ]
    coco["annotations"].append({"image_id": 1, "category_id": 4, "bbox": [900, 0, 1, 1]})
    with pytest.raises(TableError, match=r"51 problems\n  annotations, number 1 of scoliosis.*\n(.*\n)+  and 31 more"):
        read_coco(save(coco), findings)


def test_a_box_that_overhangs_by_a_hair_is_cut_and_one_that_stands_twice_counts_once(
    save: Callable[..., Path], findings: FindingVocabulary
) -> None:
    coco = whole()
    coco["annotations"][0]["bbox"] = [-0.4, 20, 121, 80.9]
    coco["annotations"][1]["bbox"] = [-0.4, 20, 121, 80.9]
    assert read_coco(save(coco), findings)[0].boxes.tolist() == [[0, 20, 120, 100]]


def test_the_size_of_the_file_counts(save: Callable[..., Path], findings: FindingVocabulary) -> None:
    coco = whole()
    coco["images"][0] |= {"width": 1200, "height": 1000}
    with pytest.raises(TableError, match=r"image a\.png is 120 × 100 pixels, and 1200 × 1000 in the json"):
        read_coco(save(coco), findings)
    coco = whole()
    coco["images"][1] |= {"width": 1200, "height": 1000}
    film = read_coco(save(coco), findings)[1]  # it has no boxes that could be of another picture
    assert (film.width, film.height) == (120, 100)


VALUES: list[Any] = [None, True, [], {}, [1], "", NAN, INF, 1.5]


@pytest.mark.parametrize(
    ("where", "field", "values"),
    [
        ("images", "id", VALUES),
        ("images", "file_name", [None, True, [], {}, 7, "", "a\0.png", "x" * 300, "\ud800"]),
        ("images", "width", [*VALUES, 0, -5, "120", 10**400, 70000]),
        ("images", "height", [*VALUES[:-1], 0, -5, 10**400]),
        ("images", "patient", [True, [], {}, [1], "", NAN, INF]),
        ("images", "study", [True, [], {}, NAN]),
        ("categories", "id", VALUES),
        ("categories", "name", [None, True, [], {}, 7]),
        ("annotations", "image_id", [*VALUES, 99, "1"]),
        ("annotations", "category_id", [*VALUES, 99, "4"]),
        ("annotations", "iscrowd", [[], {}, "0", "1", NAN, 2, -1]),
    ],
)
def test_a_field_with_a_value_it_cannot_have_is_named(
    save: Callable[..., Path], findings: FindingVocabulary, where: str, field: str, values: list[Any]
) -> None:
    for value in values:
        coco = whole()
        coco[where][0][field] = value
        with pytest.raises(TableError, match=rf"coco\.json: \d problems\n  {where}.*{field}") as error:
            read_coco(save(coco), findings)
        assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda coco: coco["images"].append(coco["images"][0]), "images: the id '1' stands there 2 times"),
        (lambda coco: coco["images"][1].update(id="1"), "images: the id '1' stands there 2 times"),
        (lambda coco: coco["images"][1].update(file_name="a.png"), "the file_name 'a.png' stands there 2 times"),
        (lambda coco: coco["categories"].append(coco["categories"][0]), "categories: the id '4' stands there 2"),
        (lambda coco: coco.update(images=[]), "images is an empty list"),
        (lambda coco: coco.update(images=None), "images is None, expected a list"),
        (lambda coco: coco.update(annotations={"1": []}), "annotations is .*, expected a list"),
        (lambda coco: coco.update(annotations=[None, [], 7]), "3 problems\n  annotations, number 1 is None"),
        (lambda coco: coco.pop("categories"), "has no categories"),
        (lambda coco: coco["annotations"][0].pop("bbox"), "annotations, number 1 has no bbox"),
    ],
)
def test_a_list_that_does_not_fit_is_named(
    save: Callable[..., Path], findings: FindingVocabulary, change: Callable[[Any], Any], message: str
) -> None:
    coco = whole()
    change(coco)
    with pytest.raises(TableError, match=message):
        read_coco(save(coco), findings)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "folder/../../secret.png", "link.png", "out/x.png"])
def test_an_image_outside_the_folder_of_the_json_is_refused(
    save: Callable[..., Path], findings: FindingVocabulary, tmp_path: Path, name: str
) -> None:
    (tmp_path / "set").mkdir()
    coco = whole()
    coco["images"][0]["file_name"] = name
    root = save(coco)
    (root / "secret.png").symlink_to("a.png")
    for file in ("annotations.coco.json", "b.png"):
        (root / file).rename(root / "set" / file)
    (root / "set/link.png").symlink_to(root / "a.png")
    (root / "set/out").symlink_to(root)
    with pytest.raises(TableError, match=r"the image .* outside the data set"):
        read_coco(root / "set", findings)


def test_the_json_may_be_a_link_where_the_user_names_it_and_not_where_the_folder_holds_it(
    save: Callable[..., Path], findings: FindingVocabulary, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    root = save(whole())
    (root / "annotations.coco.json").rename(tmp_path / "elsewhere/x.json")
    (root / "set").mkdir()
    for name in "ab":
        (root / f"{name}.png").rename(root / "set" / f"{name}.png")
    (root / "set/annotations.coco.json").symlink_to(tmp_path / "elsewhere/x.json")
    assert len(read_coco(root / "set/annotations.coco.json", findings)) == 2
    with pytest.raises(TableError, match="outside the data set"):
        read_coco(root / "set", findings)
    (root / "link").symlink_to(root / "set")
    assert len(read_coco(root / "link/annotations.coco.json", findings)) == 2


def test_a_hundred_thousand_annotations_are_read_in_seconds(
    save: Callable[..., Path], findings: FindingVocabulary
) -> None:
    coco = whole()
    sides = [[1 + i % 50, 1 + i // 50 % 40, 1 + i // 2000, 1 + i // 5000] for i in range(100_000)]
    coco["annotations"] = [{"image_id": 1, "category_id": 4, "bbox": box} for box in sides]
    film, _ = read_coco(save(coco), findings)
    assert len(film.boxes) == len({tuple(box) for box in sides})
