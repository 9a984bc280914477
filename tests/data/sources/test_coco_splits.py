"""COCO data sets that say themselves what is for training, validation and testing: by files, or by a field."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr.data.sources.coco import read_coco
from cxr.data.sources.tables import TableError
from cxr.data.splits import split_items
from cxr.findings import FindingVocabulary

FILES = {"train": "annotations/train.json", "val": "annotations/val.json", "test": "annotations/test.json"}
FOLDERS = {"train_images": "train2017", "val_images": "val2017", "test_images": "test2017"}


def write(table: Path, folder: Path, images: list[dict[str, Any]], label: str = "scoliosis") -> None:
    """A json of 60 × 80 films, ids from 1, each with one box; the number of its only category is that of its label."""
    category = len(label)
    listed = [{"id": i, "width": 60, "height": 80} | image for i, image in enumerate(images, start=1)]
    for image in listed:
        path = folder / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((80, 60), np.uint8)).save(path)
    coco = {
        "images": listed,
        "categories": [{"id": category, "name": label}],
        "annotations": [{"image_id": i["id"], "category_id": category, "bbox": [1, 2, 30, 40]} for i in listed],
    }
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(json.dumps(coco), encoding="utf-8")


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A data set as public ones come: three files whose ids and names are alike, images in three folders."""
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        images = [{"file_name": f"{i}.png"} for i in range(count)]
        label = "cardiac_hypertrophy" if split == "val" else "scoliosis"
        write(tmp_path / FILES[split], tmp_path / f"{split}2017", images, label)
    return tmp_path


def names(films: Any) -> list[str]:
    return [f"{film.path.parent.name}/{film.path.name}" for film in films]


def test_each_file_is_its_split_and_nothing_is_drawn(public: Path, findings: FindingVocabulary) -> None:
    films = read_coco(public, findings, **FILES, **FOLDERS)
    for seed in range(3):
        splits = split_items(films, seed=seed)
        assert names(splits["train"]) == ["train2017/0.png", "train2017/1.png", "train2017/2.png"]
        assert names(splits["val"]) == ["val2017/0.png", "val2017/1.png"]
        assert names(splits["test"]) == ["test2017/0.png"]
    assert {film.findings for film in splits["val"]} == {("cardiac_hypertrophy",)}  # each file numbers its categories
    assert len({film.id for film in films}) == len({film.patient for film in films}) == 6
    assert all(film.boxes.tolist() == [[1, 2, 31, 42]] for film in films)


def test_without_a_folder_of_its_own_the_images_lie_beside_the_json(
    tmp_path: Path, findings: FindingVocabulary
) -> None:
    for split in ("train", "valid"):
        write(tmp_path / split / "_annotations.coco.json", tmp_path / split, [{"file_name": "a.jpg"}])
    files = {"train": "train/_annotations.coco.json", "val": "valid/_annotations.coco.json"}
    assert names(read_coco(tmp_path, findings, **files)) == ["train/a.jpg", "valid/a.jpg"]


def test_the_field_of_an_image_says_its_split(tmp_path: Path, findings: FindingVocabulary) -> None:
    images = [
        {"file_name": f"{i}.png", "split": split} for i, split in enumerate(["val", "train", "test", None, "val"])
    ]
    write(tmp_path / "annotations.coco.json", tmp_path, images)
    splits = split_items(read_coco(tmp_path, findings))
    assert {split: [film.path.stem for film in some] for split, some in splits.items()} == {
        "train": ["1", "3"],
        "val": ["0", "4"],
        "test": ["2"],
    }


@pytest.mark.parametrize("word", ["valid", "Train", "", 1, ["train"]])
def test_an_unknown_split_is_named(tmp_path: Path, findings: FindingVocabulary, word: Any) -> None:
    write(tmp_path / "annotations.coco.json", tmp_path, [{"file_name": "a.png"}, {"file_name": "b.png", "split": word}])
    with pytest.raises(TableError, match=r"images, number 2 has the split .*, expected train, val, test or null"):
        read_coco(tmp_path, findings)


def test_a_field_that_contradicts_its_file_is_named(public: Path, findings: FindingVocabulary) -> None:
    images = [{"file_name": "0.png", "split": "val"}, {"file_name": "1.png", "split": "train"}]
    write(public / FILES["val"], public / "val2017", images)
    with pytest.raises(
        TableError, match=r"val\.json: 1 problems\n  images, number 2 has the split 'train', expected 'val'"
    ):
        read_coco(public, findings, **FILES, **FOLDERS)


def test_an_image_in_two_files_is_named(public: Path, findings: FindingVocabulary) -> None:
    write(public / FILES["test"], public / "test2017", [{"file_name": "0.png"}, {"file_name": "../train2017/2.png"}])
    message = r"test\.json: 1 problems\n  images, number 2: .*2\.png stands in .*train\.json \(train\) too"
    with pytest.raises(TableError, match=message):
        read_coco(public, findings, **FILES, **FOLDERS)
    twice = {"train": FILES["train"], "val": FILES["train"], "train_images": "train2017", "val_images": "train2017"}
    with pytest.raises(
        TableError, match=r"3 problems\n  images, number 1: 0\.png stands in .*train\.json \(train\) too"
    ):
        read_coco(public, findings, **twice)


def test_a_patient_in_two_files_is_measured_and_not_learnt_from(
    public: Path, findings: FindingVocabulary, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "test"):
        images = [{"file_name": f"{i}.png", "patient": f"{split if i else 'P'} {i}"} for i in range(2)]
        write(public / FILES[split], public / f"{split}2017", images)
    splits = split_items(read_coco(public, findings, **FILES, **FOLDERS))
    assert names(splits["train"]) == ["train2017/1.png"]
    assert names(splits["test"]) == ["test2017/0.png", "test2017/1.png"]
    assert "1 of 2 items for train are left out: their patients stand in val or test too" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"val": FILES["val"]}, r"data\.read\.train is missing"),
        ({"train_images": "x"}, r"data\.read\.train_images is given, expected data\.read\.train beside it"),
        (
            {**FILES, "val": "../elsewhere.json"},
            r"data\.read\.val=\.\./elsewhere\.json: leads to .* outside the data set",
        ),
        ({**FILES, "test_images": "/etc"}, r"data\.read\.test_images=/etc: leads to /etc, outside the data set"),
        ({**FILES, "test": ""}, r"data\.read\.test=: '' is no path of a file"),
    ],
)
def test_names_that_do_not_go_together_or_lead_out_are_refused(
    public: Path, findings: FindingVocabulary, given: dict[str, str], message: str
) -> None:
    with pytest.raises(TableError, match=message):
        read_coco(public, findings, **given)


def test_a_file_that_is_not_there_and_a_root_that_is_no_folder_are_named(
    public: Path, findings: FindingVocabulary
) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"data\.read\.test=test\.json: there is no such file below data\.root="
    ):
        read_coco(public, findings, train=FILES["train"], test="test.json", train_images="train2017")
    with pytest.raises(TableError, match=r"data\.root is a file, expected the folder"):
        read_coco(public / FILES["train"], findings, train="train.json")
