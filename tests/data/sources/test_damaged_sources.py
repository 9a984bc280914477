"""Public data sets with any one thing wrong: an error that names the file and the row, never a traceback or silence."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.data.film import Film
from cxr.data.sources.chestxdet import read_chestxdet
from cxr.data.sources.layouts import VOCABULARY, read_vocabulary
from cxr.data.sources.nih import read_nih
from cxr.data.sources.rsna import read_rsna
from cxr.data.sources.tables import TableError
from cxr.data.sources.vindr import read_vindr
from cxr.data.sources.yolo import read_yolo
from cxr.findings import FindingVocabulary

READ: dict[str, Callable[..., list[Film]]] = {
    "vindr": read_vindr, "nih": read_nih, "rsna": read_rsna, "chestxdet": read_chestxdet, "yolo": read_yolo,
}  # fmt: skip
TABLES = {
    "vindr": ("train.csv",),
    "nih": ("BBox_List_2017.csv", "Data_Entry_2017.csv"),
    "rsna": ("stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"),
    "chestxdet": ("ChestX_Det_train.json", "ChestX_Det_test.json"),
    "yolo": ("data.yaml", "labels/train/a.txt"),
}
MAPPINGS = "pneumonia-challenge-dataset-mappings_2018.json"


def vocabulary(name: str) -> FindingVocabulary:
    return read_vocabulary(VOCABULARY.with_name(f"{'nih' if name == 'yolo' else name}.yaml"))


def read(name: str, root: Path) -> list[Film]:
    return READ[name](root, vocabulary(name))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        ("vindr", "train.csv", "20.5,40,80,90", "nan,40,80,90", "row 5: the box .* not finite"),
        ("vindr", "train.csv", "20.5,40,80,90", "20.5,40,inf,90", "row 5: the box .* not finite"),
        ("vindr", "train.csv", "20.5,40,80,90", "20.5,40,1e400,90", "row 5: the box .* not finite"),
        ("vindr", "train.csv", "20.5,40,80,90", "20.5,40,20.5,90", "row 5: .*has no area.*four empty corners"),
        ("vindr", "train.csv", "20.5,40,80,90", "80,40,20.5,90", "row 5: .*expected x0 < x1"),
        ("vindr", "train.csv", "20.5,40,80,90", "20.5,40,,", "row 5: 2 of the 4 cells of its box are empty"),
        ("vindr", "train.csv", "20.5,40,80,90", "20.5,40,200,90", "row 5: .*on its film, expected .* <= 120"),
        ("vindr", "train.csv", "20.5,40,80,90", "20.5,40,1e30,90", "row 5: .*is not on its film"),
        ("vindr", "train.csv", "0,0,1,1", "0,0,1e30,1", "row 13: .*is not on its film"),  # a film that is not there
        ("vindr", "train.csv", "b2,Cardio", ",Cardio", "row 5: no image_id"),
        ("vindr", "train.csv", "3,R9,", "3,,", "row 5: no rad_id"),
        ("vindr", "train.csv", "b2,Cardio", "../b2,Cardio", "the image '../b2': expected the name of a file"),
        ("nih", "BBox_List_2017.csv", "10.5,20.25,50,40", "nan,20.25,50,40", "row 2: .*not finite"),
        ("nih", "BBox_List_2017.csv", "10.5,20.25,50,40", "10.5,20.25,0,40", "row 2: .*no area.*four empty cells"),
        ("nih", "BBox_List_2017.csv", "10.5,20.25,50,40", "10.5,20.25,-50,40", "row 2: .*no area"),
        ("nih", "BBox_List_2017.csv", "10.5,20.25,50,40", "10.5,,50,40", "row 2: 1 of the 4 cells"),
        ("nih", "BBox_List_2017.csv", "10.5,20.25,50,40", "100,20.25,50,40", "row 2: .*is not on its film"),
        ("nih", "BBox_List_2017.csv", "10.5,20.25,50,40", "10.5,20.25", "row 2: 7 cells|row 2: 2 of the 4 cells"),
        ("nih", "BBox_List_2017.csv", "00000002_000.png,Effusion,30,30,10,20", "00000002_000.png", "row 5: 1 cells"),
        ("nih", "BBox_List_2017.csv", "00000001_000.png,", ",", "row 2: "),
        ("nih", "Data_Entry_2017.csv", "00000003_000.png", "00000001_000.png", "row 5: the same Image Index as row 2"),
        ("nih", "Data_Entry_2017.csv", ",0,1,", ",0,x,", "row 2: Patient ID is 'x', expected a number"),
        ("nih", "Data_Entry_2017.csv", ",0,1,", f",0,{'9' * 5000},", "row 2: Patient ID is '999"),
        ("rsna", "stage_2_train_labels.csv", "10.0,20.0,30.0,40.0", "nan,20.0,30.0,40.0", "row 3: .*not finite"),
        ("rsna", "stage_2_train_labels.csv", "10.0,20.0,30.0,40.0", "10.0,20.0,-30.0,40.0", "row 3: .*no area"),
        ("rsna", "stage_2_train_labels.csv", "10.0,20.0,30.0,40.0", "1e30,20.0,30.0,40.0", "row 3: .*not on its film"),
        ("rsna", "stage_2_train_labels.csv", "10.0,20.0,30.0,40.0", ",,,", "row 3: Target is 1 without a box"),
        ("rsna", "stage_2_train_labels.csv", "u1,,,,,0", "u1,1,2,3,4,0", "row 2: Target is 0 with a box"),
        ("rsna", "stage_2_train_labels.csv", "u1,,,,,0", "u1,,,,,inf", "row 2: Target is 'inf', expected 0 or 1"),
        ("rsna", "stage_2_train_labels.csv", "u1,,,,,0", "u1,,,,,0.5", "row 2: Target is '0.5', expected 0 or 1"),
        ("rsna", "stage_2_train_labels.csv", "u1,,,,,0", "u1,,,,,nan", "row 2: Target is 'nan', expected 0 or 1"),
        ("rsna", "stage_2_train_labels.csv", "u1,,,,,0", ",,,,,0", "row 2: no patientId"),
        ("chestxdet", "ChestX_Det_train.json", "[79, 66, 93, 76]", "[79, 66, NaN, 76]", "film 2: .*not finite"),
        ("chestxdet", "ChestX_Det_train.json", "[79, 66, 93, 76]", "[79, 66, 1e400, 76]", "film 2: .*not finite"),
        ("chestxdet", "ChestX_Det_train.json", "[79, 66, 93, 76]", f"[79, 66, {10**400}, 76]", "film 2: .*not finite"),
        ("chestxdet", "ChestX_Det_train.json", "[79, 66, 93, 76]", "[79, 66, 79, 76]", "film 2: .*has no area"),
        ("chestxdet", "ChestX_Det_train.json", "[79, 66, 93, 76]", "[93, 66, 79, 76]", "film 2: .*has no area"),
        ("chestxdet", "ChestX_Det_train.json", "[79, 66, 93, 76]", "[79, 66, 930, 76]", "film 2: .*not on its film"),
        ("chestxdet", "ChestX_Det_train.json", "[79, 66, 93, 76]", "[79, 66, true, 76]", "film 2: the box .*expected"),
        ("chestxdet", "ChestX_Det_train.json", "[79, 66, 93, 76]", "null", "film 2: the box None, expected"),
        ("chestxdet", "ChestX_Det_train.json", '"36302.png"', '"36199.png"', "film 2: the same file_name as film 1"),
        ("chestxdet", "ChestX_Det_train.json", '"36302.png"', "{}", "film 2: file_name is {}, expected"),
        ("chestxdet", "ChestX_Det_train.json", '"36302.png"', '"../x.png"', "image '../x.png': expected the name"),
        ("chestxdet", "ChestX_Det_train.json", '"syms": []', '"syms": null', "film 1: syms is None"),
        ("chestxdet", "ChestX_Det_train.json", '"syms": []', '"syms": {}', "film 1: syms is {}"),
        ("chestxdet", "ChestX_Det_train.json", '"Effusion", ', "[1], ", "film 2: syms is"),
        ("yolo", "labels/train/a.txt", "0.5 0.5 0.25 0.5", "nan 0.5 0.25 0.5", "a.txt, row 1: .*finite"),
        ("yolo", "labels/train/a.txt", "0.5 0.5 0.25 0.5", "0.5 0.5 inf 0.5", "a.txt, row 1: .*finite"),
        ("yolo", "labels/train/a.txt", "0.5 0.5 0.25 0.5", "0.5 0.5 0 0.5", "a.txt, row 1: .*sizes above 0"),
        ("yolo", "labels/train/a.txt", "0.5 0.5 0.25 0.5", "0.5 0.5 -0.25 0.5", "a.txt, row 1: .*sizes above 0"),
        ("yolo", "labels/train/a.txt", "0.5 0.5 0.25 0.5", "0.5 0.5 1.25 0.5", "a.txt, row 1: .*is not on its film"),
        ("yolo", "labels/train/a.txt", "0.5 0.5 0.25 0.5", "2 2 0.25 0.5", "a.txt, row 1: .*is not on its film"),
        ("yolo", "labels/train/a.txt", "0.5 0.5 0.25 0.5", "1e30 1 1 1", "a.txt, row 1: .*is not on its film"),
        ("yolo", "labels/train/a.txt", "0.5 0.5 0.25 0.5", "0.5 0.5 0.25", "a.txt, row 1: .*expected class x y"),
        ("yolo", "labels/train/a.txt", "0.5 0.5 0.25 0.5", "x" * 9000, "a.txt, row 1: .*expected class x y"),
        ("yolo", "data.yaml", "0: Cardiomegaly", "0: yes", "names: 0: True, expected .* quotation marks"),
        ("yolo", "data.yaml", "0: Cardiomegaly", "0: [a]", "names: 0: .*expected a number and a text"),
        ("yolo", "data.yaml", "0: Cardiomegaly", "a: Cardiomegaly", "names: 'a': 'Cardiomegaly', expected a number"),
        ("yolo", "data.yaml", "train: images/train", "train: 7", "train: 7 is no path of a file"),
        ("yolo", "data.yaml", "train: images/train", "train: [[a]]", "train: .* is no path of a file"),
        ("yolo", "data.yaml", "path: .", "path: {a: 1}", "path: .* is no path of a file"),
        ("yolo", "data.yaml", "names:", "names: [", "is not a yaml file"),
    ],
)  # fmt: skip
def test_a_damaged_row_is_an_error_and_no_normal_film(
    published: Any, name: str, file: str, old: str, new: str, message: str, tmp_path: Path
) -> None:
    root = getattr(published, name)(tmp_path)
    edit(root / file, old, new)
    with pytest.raises(TableError, match=message) as error:
        read(name, root)
    assert len(str(error.value)) < 700
    assert str(root) in str(error.value)


@pytest.mark.parametrize(
    ("content", "name"),
    [(content, name) for name in TABLES for content in (b"\xff\xfe\xff", b"", b"[" * 50_000, b"\0")],
)
def test_a_table_of_rubbish_is_named(published: Any, content: bytes, name: str, tmp_path: Path) -> None:
    for number, file in enumerate(TABLES[name]):
        root = getattr(published, name)(tmp_path / str(number))
        (root / file).write_bytes(content)
        if content == b"" and file.endswith(".txt"):
            assert any(film.normal for film in read(name, root))  # an empty txt says that the film is normal
        else:
            with pytest.raises((ValueError, FileNotFoundError), match=file.rpartition("/")[2]):
                read(name, root)


def test_rows_of_all_txt_of_yolo_are_told_in_one_message(published: Any, tmp_path: Path) -> None:
    root = published.yolo(tmp_path)
    (root / "labels/train/a.txt").write_text("1 nan 0.5 0.25 0.5\n1 0.5 0.5 0.25 0.5\n1 0.5 0.5 0 0.5\n")
    (root / "labels/test/d.txt").write_bytes(b"\xff")
    with pytest.raises(TableError, match=r"3 problems\n  labels/train/a.txt, row 1: (.*\n)  labels/train/a.txt, row 3"):
        read_yolo(root, vocabulary("yolo"))


def test_boxes_that_overhang_by_a_hair_are_cut(published: Any, tmp_path: Path) -> None:
    root = published.vindr(tmp_path / "vindr")
    edit(root / "train.csv", "10,10,30,20", "-0.9,10,120.9,100.5")
    (film,) = (film for film in read("vindr", root) if film.id == "b2")
    assert film.boxes[film.findings.index("nodule_mass")].tolist() == [0, 10, 120, 100]
    root = published.yolo(tmp_path / "yolo")
    edit(root / "labels/test/d.txt", "0 0.5 0.5 1 1", "0 0.502 0.5 1.004 1")
    (film,) = (film for film in read("yolo", root) if film.split == "test")
    np.testing.assert_allclose(film.boxes, [[0, 0, 120, 100]], atol=1e-4)
    assert film.boxes.max() == 120


def test_whole_films_of_vindr_are_with_or_without_a_finding(tmp_path: Path, write_film: Callable[..., Path]) -> None:
    write_film(tmp_path / "train/a.dicom", np.zeros((100, 120), np.uint16))
    (tmp_path / "annotations").mkdir()
    rows = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\na,R1,No finding,,,,\n"
    (tmp_path / "annotations/annotations_train.csv").write_text(rows)
    labels = tmp_path / "annotations/image_labels_train.csv"
    labels.write_text("image_id,rad_id,No finding\na,R1,yes\n")
    with pytest.raises(TableError, match="row 2: No finding is 'yes', expected 0 or 1"):
        read("vindr", tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "{}", "[1]", "[null]", '[{"subset_img_id": "u1"}]', '[{"subset_img_id": [], "img_id": "1_0.png"}]',
                '[{"subset_img_id": "u1", "img_id": "x_0.png"}]', '[{"subset_img_id": "u1", "img_id": 7}]']
)  # fmt: skip
def test_a_damaged_mapping_of_rsna_is_named(published: Any, content: str, tmp_path: Path) -> None:
    root = published.rsna(tmp_path)
    (root / MAPPINGS).write_text(content)
    with pytest.raises(TableError, match=MAPPINGS):
        read_rsna(root, vocabulary("rsna"))


# out of the data set


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("vindr", "train/b2.dcm"), ("nih", "images_002/images/00000002_000.png"),
        ("rsna", "stage_2_train_images/u1.dcm"),
        ("chestxdet", "train_data/36302.png"), ("yolo", "images/train/a.png"), ("yolo", "labels/train/a.txt"),
    ],
)  # fmt: skip
def test_a_link_out_of_the_data_set_is_refused_one_within_it_and_one_to_it_are_followed(
    published: Any, name: str, image: str, tmp_path: Path
) -> None:
    root = getattr(published, name)(tmp_path / "set")
    count = len(read(name, root))
    (tmp_path / "link").symlink_to(root)
    assert len(read(name, tmp_path / "link")) == count
    (root / "within").mkdir()
    (root / image).rename(root / "within/film")
    (root / image).symlink_to(root / "within/film")
    assert len(read(name, root)) == count
    (root / "within").rename(tmp_path / "without")
    (root / "within").symlink_to(tmp_path / "without")
    with pytest.raises(TableError, match=r"leads by a link to .*without.*outside the data set"):
        read(name, root)


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in TABLES.items() for file in files])
def test_a_table_that_is_a_link_out_of_the_data_set_is_refused(
    published: Any, name: str, file: str, tmp_path: Path
) -> None:
    root = getattr(published, name)(tmp_path / "set")
    (root / file).rename(tmp_path / "elsewhere")
    (root / file).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TableError, match="outside the data set"):
        read(name, root)


def test_lists_of_yolo_lead_into_the_data_set_by_any_path(published: Any, tmp_path: Path) -> None:
    root = published.yolo(tmp_path / "set", "path: .\ntrain: lists/train.txt\nnames: [Cardiomegaly, Nodule]\n")
    (root / "lists").mkdir()
    lines = ["images/train/a.png", f"{root}/images/train/b.png", "./images/val/c.png", "../images/test/d.png"]
    (root / "lists/train.txt").write_text("\n".join(lines))
    (tmp_path / "link").symlink_to(root)
    for place in (root, tmp_path / "link"):
        films = read("yolo", place)
        assert [film.id for film in films] == [f"images/{n}.png" for n in ("train/a", "train/b", "val/c", "test/d")]
        assert [len(film.boxes) for film in films] == [2, 0, 0, 1]  # the txt lies in labels/ of the data set
        assert all(film.path.is_relative_to(place) for film in films)


@pytest.mark.parametrize(
    "line", ["../../secret.png", "/etc/hostname", "/home/author/data/images/train/a.png", "a\0.png"]
)
def test_lists_of_yolo_that_lead_out_are_refused_with_their_rows(published: Any, line: str, tmp_path: Path) -> None:
    root = published.yolo(tmp_path / "set", "train: train.txt\nnames: [Cardiomegaly, Nodule]\n")
    (root / "train.txt").write_text(f"images/train/a.png\n{line}\n")
    with pytest.raises(TableError, match=r"train\.txt: 1 problems\n  row 2: .*(outside the data set|NUL byte)"):
        read("yolo", root)


@pytest.mark.parametrize("settings", ["train: ../other/images", "path: ../other\ntrain: images", "train: /etc"])
def test_folders_of_yolo_that_lie_outside_are_refused(published: Any, settings: str, tmp_path: Path) -> None:
    published.yolo(tmp_path / "other")
    root = published.yolo(tmp_path / "set", f"{settings}\nnames: [Cardiomegaly, Nodule]\n")
    if "path" in settings:
        assert len(read("yolo", root)) == 4  # its own folder of that name, not the other's
        return
    with pytest.raises(TableError, match=r"data\.yaml: train is .*, which leads to .*outside the data set"):
        read("yolo", root)


def test_a_folder_of_roboflow_is_the_one_beside_its_settings(published: Any, tmp_path: Path) -> None:
    published.yolo(tmp_path)  # images/train of a neighbour, where ../ would lead
    root = published.yolo(tmp_path / "set", "train: ../images/train\nnames: [Cardiomegaly, Nodule]\n")
    assert [film.path.is_relative_to(root) for film in read("yolo", root)] == [True, True]


@pytest.mark.parametrize("name", list(TABLES))
def test_whatever_bytes_a_table_holds_the_error_is_ours(published: Any, name: str, tmp_path: Path) -> None:
    rng = random.Random(0)  # noqa: S311
    messages: list[str] = []
    root = getattr(published, name)(tmp_path)
    pieces = [
        b"\0",
        b'"',
        b",",
        b"\n",
        b"nan",
        b"1e400",
        b"-",
        b"9" * 400,
        b"null",
        b"{}",
        b"[",
        b"]",
        b"true",
        b"\xff",
    ]
    for file in TABLES[name]:
        whole = (root / file).read_bytes()
        for _ in range(60):
            start = rng.randrange(len(whole))
            torn = whole[:start] + rng.choice(pieces) + whole[start + rng.randrange(8) :]
            (root / file).write_bytes(torn)
            try:
                read(name, root)
            except (ValueError, OSError) as error:
                messages.append(str(error))
        (root / file).write_bytes(whole)
    assert messages
    assert [message for message in messages if str(root) not in message or len(message) > 3000] == []


def test_a_json_of_nothing_is_no_data_set(published: Any, tmp_path: Path) -> None:
    root = published.chestxdet(tmp_path)
    for content in ([], {}, None, 7):
        (root / "ChestX_Det_train.json").write_text(json.dumps(content))
        with pytest.raises(TableError, match=r"ChestX_Det_train\.json holds .*, expected a list of films"):
            read("chestxdet", root)


@pytest.mark.parametrize(
    ("name", "file", "edits"),
    [
        ("vindr", "train.csv", [("20.5,40,80,90", "nan,40,80,90"), ("10,10,30,20", "900,10,930,20")]),
        ("nih", "BBox_List_2017.csv", [("10.5,20.25,50,40", "nan,20.25,50,40"), ("30,30,10,20", "900,30,10,20")]),
        (
            "rsna",
            "stage_2_train_labels.csv",
            [("10.0,20.0,30.0", "10.0,20.0,0"), ("60.0,20.0,30.0", "600.0,20.0,30.0")],
        ),
        ("chestxdet", "ChestX_Det_train.json", [("[79, 66, 93", "[79, 66, 79"), ("[10, 20, 40", "[10, 20, 900")]),
        ("yolo", "labels/train/a.txt", [("1 0.5 0.5 0.25", "1 0.5 0.5 nan"), ("0 0.25", "0 2.25")]),
    ],
)
def test_rows_that_are_no_box_and_rows_off_the_film_are_told_together(
    published: Any, name: str, file: str, edits: list[tuple[str, str]], tmp_path: Path
) -> None:
    root = getattr(published, name)(tmp_path)
    for old, new in edits:
        edit(root / file, old, new)
    with pytest.raises(TableError, match=r": 2 problems\n"):
        read(name, root)
