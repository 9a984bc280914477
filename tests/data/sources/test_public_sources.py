"""Public data sets in their own files: the right films and boxes, by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.data.film import Film
from cxr.data.sources.chestxdet import read_chestxdet
from cxr.data.sources.layouts import VOCABULARY, read_films, read_vocabulary, vocabulary_of
from cxr.data.sources.nih import read_nih
from cxr.data.sources.rsna import read_rsna
from cxr.data.sources.tables import TableError
from cxr.data.sources.vindr import read_vindr
from cxr.data.sources.yolo import read_yolo
from cxr.findings import FindingVocabulary, UnknownLabelError
from cxr.read.dicom import pseudonym


def vocabulary(name: str) -> FindingVocabulary:
    return read_vocabulary(VOCABULARY.with_name(f"{name}.yaml"))


def by_id(films: list[Film]) -> dict[str, Film]:
    assert len({film.id for film in films}) == len(films)
    return {film.id: film for film in films}


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


READ: dict[str, Callable[..., list[Film]]] = {
    "vindr": read_vindr, "nih": read_nih, "rsna": read_rsna, "chestxdet": read_chestxdet, "yolo": read_yolo,
}  # fmt: skip
VINDR, NIH, RSNA, CHESTXDET = map(vocabulary, ("vindr", "nih", "rsna", "chestxdet"))


# VinDr-CXR


def test_three_readers_of_vindr_are_fused_by_finding(
    published: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    films = by_id(read_vindr(published.vindr(tmp_path), VINDR))
    assert films.keys() == {"a1", "b2", "c3"}  # d4 has no file
    assert "1 of 4 images are not in" in caplog.text
    film = films["b2"]
    assert (film.path.name, film.width, film.height) == ("b2.dcm", 120, 100)
    assert film.findings == ("cardiomegaly", "nodule_mass")
    np.testing.assert_allclose(film.boxes, [[21.5, 40, 81, 90], [10, 10, 30, 20]])
    assert [(r.rater, r.findings) for r in film.readings] == [
        ("R10", ()), ("R8", ("cardiomegaly", "nodule_mass")), ("R9", ("cardiomegaly",)),
    ]  # fmt: skip


def test_a_vindr_film_is_normal_where_all_readers_find_nothing(published: Any, tmp_path: Path) -> None:
    films = by_id(read_vindr(published.vindr(tmp_path), VINDR))
    assert films["a1"].normal
    assert len(films["a1"].readings) == 3
    # one reader named a lesion and left its corners empty: no box to learn, and no normal film
    assert not films["c3"].normal
    assert films["c3"].labelled == set(VINDR.names) - {"other_lesion"}


def test_the_union_keeps_every_box_and_one_reader_only_his_films(published: Any, tmp_path: Path) -> None:
    root = published.vindr(tmp_path)
    union = by_id(read_vindr(root, VINDR, readers="union"))
    assert union["b2"].findings.count("cardiomegaly") == 2
    alone = by_id(read_vindr(root, VINDR, readers="R9"))
    assert alone.keys() == {"b2", "c3"}
    assert (alone["b2"].rater, alone["b2"].readings) == ("R9", ())
    np.testing.assert_array_equal(alone["b2"].boxes, [[20.5, 40, 80, 90]])
    with pytest.raises(ValueError, match="readers is 'R99', expected 'wbf', 'union' or one of R10, R11, R7, R8, R9"):
        read_vindr(root, VINDR, readers="R99")


def test_vindr_of_physionet_has_a_consensus_and_labels_of_whole_films(
    tmp_path: Path, write_film: Callable[..., Path]
) -> None:
    header = "image_id,{}class_name,x_min,y_min,x_max,y_max\n"
    write_text(
        tmp_path / "annotations/annotations_train.csv",
        header.format("rad_id,") + "".join(f"{n},{r},No finding,,,,\n" for n in "ab" for r in ("R1", "R2", "R3")),
    )
    write_text(
        tmp_path / "annotations/image_labels_train.csv",
        "image_id,rad_id,Pneumonia,No finding\na,R1,0,1\na,R2,0,1\na,R3,0,1\nb,R1,1,0\nb,R2,0,1\nb,R3,0,1\n",
    )
    write_text(tmp_path / "annotations/annotations_test.csv", header.format("") + "t,Rib fracture,1,2,30,40\n")
    for split, name in (("train", "a"), ("train", "b"), ("test", "t")):
        write_film(tmp_path / split / f"{name}.dicom", np.zeros((100, 120), np.uint16))
    films = by_id(read_vindr(tmp_path, VINDR))
    assert films["a"].normal
    assert not films["b"].normal  # one reader suspects pneumonia, which has no box
    test = films["t"]
    assert (test.split, test.findings, test.boxes.tolist()) == ("test", ("other_lesion",), [[1, 2, 30, 40]])
    assert (test.rater, test.readings) == ("consensus", ())


# NIH ChestX-ray14


def test_nih_boxes_are_read_below_their_malformed_header(
    published: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    films = by_id(read_nih(published.nih(tmp_path), NIH))
    assert films.keys() == {f"0000000{n}.png" for n in ("1_000", "1_001", "2_000", "3_000", "4_000")}
    assert "2 films have findings but no box" in caplog.text
    film = films["00000001_000.png"]
    assert film.boxes.tolist() == [[10.5, 20.25, 60.5, 60.25]]
    assert (film.findings, film.width, film.height) == (("cardiomegaly",), 120, 100)
    assert film.labelled is None
    assert film.patient == films["00000001_001.png"].patient != films["00000002_000.png"].patient
    assert films["00000003_000.png"].normal
    assert film.groups == {"sex": "M", "age": "40-64", "view": "PA"}


def test_what_a_nih_report_names_without_a_box_is_not_labelled(published: Any, tmp_path: Path) -> None:
    films = by_id(read_nih(published.nih(tmp_path), NIH))
    infiltrate = films["00000001_001.png"]
    assert infiltrate.findings == ("infiltration",)  # "Infiltrate" in one table, "Infiltration" in the other; once
    assert infiltrate.labelled == set(NIH.names) - {"effusion"}
    assert films["00000002_000.png"].labelled == set(NIH.names) - {"mass"}  # it has no box


def test_normal_nih_films_are_as_many_as_asked_for_and_always_the_same(published: Any, tmp_path: Path) -> None:
    root = published.nih(tmp_path)
    chosen = [[film.id for film in read_nih(root, NIH, normals=n) if film.normal] for n in (0, 1, 1, None)]
    assert [len(ids) for ids in chosen] == [0, 1, 1, 2]
    assert chosen[1] == chosen[2]
    held_back = {film.id for film in read_nih(root, NIH, test_list=True) if film.split == "test"}
    assert held_back == {"00000002_000.png", "00000004_000.png"}


def test_nih_tells_nothing_of_a_finding_that_it_has_no_boxes_of(published: Any, tmp_path: Path) -> None:
    wider = FindingVocabulary([*NIH.findings, {"name": "hernia"}])
    films = read_nih(published.nih(tmp_path), wider)
    assert not any(film.looked_for("hernia") or film.normal for film in films)


# RSNA


def test_the_three_classes_of_rsna(published: Any, tmp_path: Path) -> None:
    films = by_id(read_rsna(published.rsna(tmp_path), RSNA))
    assert films["u1"].normal
    assert films["u2"].boxes.tolist() == [[10, 20, 40, 60], [60, 20, 90, 60]]
    assert films["u2"].findings == ("lung_opacity", "lung_opacity")
    other = films["u3"]
    assert not other.normal
    assert not other.findings
    assert other.looked_for("lung_opacity")  # known to have none


def test_rsna_films_have_the_patients_of_chestxray14_where_the_mapping_is(published: Any, tmp_path: Path) -> None:
    root = published.rsna(tmp_path / "rsna")
    without = read_rsna(root, RSNA)
    assert len({film.patient for film in without}) == 3
    mapping = [{"subset_img_id": f"u{n}", "img_id": f"0000000{p}_00{n}.png"} for n, p in ((1, 1), (2, 1), (3, 9))]
    write_text(root / "pneumonia-challenge-dataset-mappings_2018.json", json.dumps(mapping))
    one, two, three = read_rsna(root, RSNA)
    assert one.patient == two.patient != three.patient
    nih = by_id(read_nih(published.nih(tmp_path / "nih"), NIH))
    assert one.patient == nih["00000001_000.png"].patient


def test_tables_of_rsna_that_disagree_are_refused(published: Any, tmp_path: Path) -> None:
    root = published.rsna(tmp_path)
    edit(root / "stage_2_detailed_class_info.csv", "u1,Normal", "u1,Lung Opacity")
    with pytest.raises(
        TableError, match=r"1 films do not fit .*; the first, 'u1', has 0 boxes and the class 'Lung Opac"
    ):
        read_rsna(root, RSNA)


# ChestX-Det


def test_chestxdet_boxes_are_corners_and_symbols_repeat(published: Any, tmp_path: Path) -> None:
    films = by_id(read_chestxdet(published.chestxdet(tmp_path), CHESTXDET))
    assert films["36199.png"].normal
    film = films["36302.png"]
    assert film.findings == ("effusion", "effusion", "pleural_thickening")
    assert film.boxes.tolist() == [[79, 66, 93, 76], [10, 20, 40, 60], [0, 0, 9, 9]]
    assert [film.split for film in films.values()] == ["", "", "test"]


def test_chestxdet10_tells_nothing_of_the_three_later_findings(published: Any, tmp_path: Path) -> None:
    films = by_id(read_chestxdet(published.chestxdet(tmp_path, "{}.json"), CHESTXDET))
    assert films["36199.png"].labelled == set(CHESTXDET.names) - {
        "cardiomegaly",
        "diffuse_nodule",
        "pleural_thickening",
    }
    assert films["00000250_007.png"].patient == pseudonym("ChestX-ray14 250")


# YOLO


def test_yolo_fractions_become_pixels(published: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = published.yolo(tmp_path)
    films = by_id(read_yolo(root, vocabulary_of(root)))
    film = films["images/train/a.png"]
    assert film.findings == ("Nodule", "Cardiomegaly")  # the third row is the first again
    np.testing.assert_allclose(film.boxes, [[45, 25, 75, 75], [0, 45, 60, 55]])
    assert films["images/train/b.png"].normal
    assert films["images/val/c.png"].normal
    assert "1 of 1 images of val have no txt and are normal" in caplog.text
    assert films["images/test/d.png"].boxes.tolist() == [[0, 0, 120, 100]]
    assert [name for name, film in films.items() if film.split == "test"] == ["images/test/d.png"]


def test_yolo_settings_as_roboflow_writes_them(published: Any, tmp_path: Path) -> None:
    root = published.yolo(tmp_path, "train: ../images/train\nnc: 2\nnames: [Cardiomegaly, Nodule]\n")
    assert len(read_yolo(root, NIH)) == 2


# all of them


@pytest.mark.parametrize("name", ["vindr", "nih", "rsna", "chestxdet"])
def test_a_folder_is_known_by_its_files(published: Any, name: str, tmp_path: Path) -> None:
    root = getattr(published, name)(tmp_path)
    findings = vocabulary_of(root)
    assert findings.names == vocabulary(name).names
    assert [film.id for film in read_films(root, findings)] == [film.id for film in READ[name](root, findings)]


def test_a_yolo_folder_brings_its_own_names(published: Any, tmp_path: Path) -> None:
    root = published.yolo(tmp_path)
    assert vocabulary_of(root).names == ("Cardiomegaly", "Nodule")
    assert len(read_films(root, vocabulary_of(root))) == 4


def test_vocabularies_have_as_many_findings_as_their_data_sets() -> None:
    assert [len(known.names) for known in (VINDR, NIH, RSNA, CHESTXDET)] == [14, 8, 1, 13]
    assert VINDR.names[3] == "cardiomegaly"  # class_id 3 of the competition


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "error", "message"),
    [
        ("vindr", "train.csv", "x_max", "x2", TableError, "no column x_max; it has"),
        ("vindr", "train.csv", "ILD", "Pox", UnknownLabelError, "'Pox' in row 13"),
        ("vindr", "train.csv", "20.5", "wide", TableError, "row 5: .*'wide'"),
        ("vindr", "train.csv", "rad_id", "reader", FileNotFoundError, "neither train.csv with rad_id"),
        ("nih", "BBox_List_2017.csv", "Image Index", "Image", TableError, "begins with Image,.*, expected Image Index"),
        ("nih", "BBox_List_2017.csv", "Mass", "Pox", UnknownLabelError, "'Pox' in row 6"),
        ("nih", "BBox_List_2017.csv", "00000002", "00000099", TableError, "1 films are not in Data_Entry"),
        ("nih", "Data_Entry_2017.csv", "Patient ID", "Patient", TableError, "no column Patient ID"),
        ("rsna", "stage_2_train_labels.csv", "10.0", "ten", TableError, "row 3: .*'ten'"),
        ("rsna", "stage_2_detailed_class_info.csv", "Normal", "Sick", TableError, "class is 'Sick', expected Lung Op"),
        ("rsna", "stage_2_detailed_class_info.csv", "u2", "u9", TableError, "1 films of .* are not in it, first 'u2'"),
        ("chestxdet", "ChestX_Det_train.json", "[{", "{", TableError, "is not a json file"),
        ("chestxdet", "ChestX_Det_train.json", '["Effusion", ', "[", TableError, "film 2: 2 syms for 3 boxes"),
        ("chestxdet", "ChestX_Det_train.json", "[79, 66, ", "[79, ", TableError, "film 2: the box .*, expected .x1"),
        ("yolo", "data.yaml", "names:", "classes:", TableError, "has no `names`"),
        ("yolo", "labels/train/a.txt", "0 0.25", "7 0.25", TableError, "row 2: .*class one of 0, 1"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_expected(
    published: Any, name: str, file: str, old: str, new: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    root = getattr(published, name)(tmp_path)
    edit(root / file, old, new)
    with pytest.raises(error, match=message):
        READ[name](root, vocabulary("nih" if name == "yolo" else name))


@pytest.mark.parametrize("name", ["vindr", "nih", "rsna", "chestxdet"])
def test_no_identifier_is_left_in_study_and_patient(published: Any, name: str, tmp_path: Path) -> None:
    root = getattr(published, name)(tmp_path)
    for film in read_films(root, vocabulary(name)):
        assert film.id not in (film.study, film.patient)
        assert film.study[0] == film.patient[0] == "p"
        assert len(film.patient) == 11


def test_without_any_image_it_says_where_it_looked(published: Any, tmp_path: Path) -> None:
    for image in (published.vindr(tmp_path) / "train").iterdir():
        image.unlink()
    with pytest.raises(FileNotFoundError, match=r"none of its 4 images lies in .*train"):
        read_vindr(tmp_path, VINDR)


def test_a_file_whose_header_is_broken_stays_for_whoever_reads_its_pixels(published: Any, tmp_path: Path) -> None:
    root = published.rsna(tmp_path)
    (root / "stage_2_train_images" / "u1.dcm").write_bytes(b"<html>")
    film = by_id(read_rsna(root, RSNA))["u1"]
    assert (film.width, film.height) == (0, 0)
