"""Pictures of films go to annotators with our boxes and come back: in pixels of the film, to half a pixel."""

import json
import stat
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cxr.data.annotation_key import KeyEntry, read_key, write_key
from cxr.data.film import Film
from cxr.data.sources.coco import read_coco
from cxr.data.sources.cvat import read_cvat
from cxr.data.sources.labelstudio import read_labelstudio
from cxr.data.sources.layouts import VOCABULARY, read_vocabulary
from cxr.data.sources.tables import TableError
from cxr.findings import UnknownLabelError
from cxr.read.dicom import pseudonym
from cxr.report.annotation_tasks import write_coco, write_cvat, write_labelstudio

FINDINGS = read_vocabulary(VOCABULARY)
BOXES = ((100.4, 200.6, 900.2, 1400.9), (0.0, 0.0, 2001.0, 33.3))
NAMES = ("scoliosis", "intercostal_pleural_thickening")
PICTURES = ("0001-p1.png", "0002-p2.png", "0003-p3.png")


@pytest.fixture
def films(tmp_path: Path) -> dict[str, KeyEntry]:
    """The key of three films of 2001 × 1533 px, whose pictures have 1000 × 766; the first has two boxes of ours."""
    about = {"width": 2001, "height": 1533, "picture_width": 1000, "picture_height": 766}
    films = {}
    for n, name in enumerate(PICTURES):
        path = tmp_path / "films" / f"{n}.dcm"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        marks: dict[str, Any] = {"boxes": BOXES, "findings": NAMES, "scores": (0.9, 0.4), "ids": ("a-1", "a-2")}
        films[name] = KeyEntry(str(path), f"s{n}", f"p{n}", **about, **({} if n else marks))
    write_key(tmp_path / "key.json", "cxr 1 0011", films)
    return films


def ls_task(picture: str, *results: dict[str, Any], by: object = 1, cancelled: bool = False) -> dict[str, Any]:
    annotation = {"completed_by": by, "was_cancelled": cancelled, "updated_at": "2026-11-26T10:00:00Z"}
    return {
        "data": {"image": f"/data/local-files/?d=pictures/{picture}"},
        "annotations": [annotation | {"result": [*results]}],
    }


def rectangle(
    x: float, y: float, width: float, height: float, label: str = "scoliosis", rotation: float = 0
) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation, "rectanglelabels": [label]}
    size = {"original_width": 1000, "original_height": 766, "image_rotation": 0}
    return {"id": "r1", "type": "rectanglelabels", "value": value, **size}


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def same(film: Film, first: tuple[float, ...] = BOXES[0]) -> None:
    """Hold the boxes of the first film against ours."""
    assert (film.width, film.height) == (2001, 1533)
    assert film.findings == NAMES
    assert_allclose(film.boxes, [first, BOXES[1]], atol=0.05)


# --- the key


def test_the_key_is_for_its_owner_alone_and_comes_back_as_it_was(films: dict[str, KeyEntry], tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "key.json").stat().st_mode) == 0o600
    assert read_key(tmp_path) == films
    entry = films[PICTURES[0]]
    assert_allclose(entry.scale, (2.001, 1533 / 766))


def test_a_key_that_is_none_is_refused(tmp_path: Path, films: dict[str, KeyEntry]) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected the key\.json that `cxr annotate` left"):
        read_key(tmp_path / "films")
    content = json.loads((tmp_path / "key.json").read_text())
    content["films"][PICTURES[1]]["picture_width"] = 0
    with pytest.raises(TableError, match=r"'0002-p2\.png': has the picture_width 0, expected whole pixels above 0"):
        read_key(written(tmp_path / "other.json", content))
    with pytest.raises(TableError, match=r"is no key\.json"):
        read_key(written(tmp_path / "none.json", []))


# --- there and back


def test_label_studio_there_and_back(films: dict[str, KeyEntry], tmp_path: Path) -> None:
    write_labelstudio(tmp_path, films, FINDINGS, "cxr 1 0011", "/data/local-files/?d=pictures/")
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    first = tasks[0]["predictions"][0]
    assert (first["model_version"], first["result"][0]["score"]) == ("cxr 1 0011", 0.9)
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=pictures/0001-p1.png"
    assert "films/0.dcm" not in json.dumps(tasks)
    labels = (tmp_path / "labels.xml").read_text(encoding="utf-8")
    assert '<Label value="scoliosis" hint="scoliosis 脊椎側彎"' in labels
    for task in tasks:  # an annotator takes over what is drawn, and submits
        task["annotations"] = [{"completed_by": 1, "result": task.pop("predictions")[0]["result"]}]
    read = read_labelstudio(written(tmp_path / "export.json", tasks), FINDINGS, str(tmp_path))
    same(read[0])
    assert read[0].readings[0].ids == ("a-1", "a-2")
    assert [film.normal for film in read] == [False, True, True]


def test_cvat_there_and_back_with_the_films_that_were_read(films: dict[str, KeyEntry], tmp_path: Path) -> None:
    write_cvat(tmp_path, films, FINDINGS, "cxr 1 0011")
    export = (tmp_path / "annotations.xml").read_text(encoding="utf-8")
    labels = json.loads((tmp_path / "labels.json").read_text(encoding="utf-8"))
    assert [(one["name"], one["type"]) for one in labels[-2:]] == [("scoliosis", "rectangle"), ("read", "tag")]
    with pytest.raises(TableError, match="no picture has the tag 'read'"):
        read_cvat(tmp_path / "annotations.xml", FINDINGS, str(tmp_path))
    tagged = export.replace('<box label="scoliosis"', '<tag label="read"/><box label="scoliosis"')
    (film,) = read_cvat(written(tmp_path / "export.xml", tagged), FINDINGS, str(tmp_path))
    same(film)


def test_coco_there_and_back(films: dict[str, KeyEntry], tmp_path: Path) -> None:
    write_coco(tmp_path, films, FINDINGS, "cxr 1 0011")
    read = read_coco(tmp_path, FINDINGS, key=str(tmp_path))
    same(read[0])
    assert [film.path for film in read] == [Path(films[name].path) for name in PICTURES]
    with pytest.raises(ValueError, match=r"leave data\.read\.train"):
        read_coco(tmp_path, FINDINGS, train="a.json", key=str(tmp_path))


# --- what annotators do


def test_a_turned_rectangle_becomes_the_box_around_it(films: dict[str, KeyEntry], tmp_path: Path) -> None:
    # 50 % and 20 % of 1000 px, 383 px down, 76.6 px high; a quarter turn about the corner (500, 383)
    turned = rectangle(50, 50, 20, 10, rotation=90)
    export = written(tmp_path / "export.json", [ls_task(PICTURES[0], turned)])
    (film,) = read_labelstudio(export, FINDINGS, str(tmp_path))
    picture = [500 - 76.6, 383, 500, 383 + 200]
    assert_allclose(film.boxes, [np.multiply(picture, [2.001, 1533 / 766] * 2)], atol=0.01)
    # about its center in CVAT: 40 x 20 px become 20 x 40
    box = '<box label="scoliosis" xtl="80" ytl="40" xbr="120" ybr="60" rotation="90"/><tag label="read"/>'
    image = f'<image name="{PICTURES[0]}" width="1000" height="766">{box}</image>'
    export = written(tmp_path / "export.xml", f"<annotations>{image}</annotations>")
    (film,) = read_cvat(export, FINDINGS, str(tmp_path))
    assert_allclose(film.boxes, [np.multiply([90, 30, 110, 70], [2.001, 1533 / 766] * 2)], atol=0.01)


def test_a_skipped_task_stays_out_and_one_without_a_region_is_normal(
    films: dict[str, KeyEntry], tmp_path: Path
) -> None:
    unread = {"data": {"image": PICTURES[2]}, "annotations": [], "predictions": [{"result": [rectangle(1, 1, 9, 9)]}]}
    tasks = [ls_task(f"upload/1/1a2b3c4d-{PICTURES[0]}"), ls_task(PICTURES[1], cancelled=True), unread]
    (film,) = read_labelstudio(written(tmp_path / "export.json", tasks), FINDINGS, str(tmp_path))
    assert (film.id, film.normal) == (PICTURES[0], True)
    assert (film.study, film.patient) == ("s0", "p0")


def test_several_annotators_are_readers(films: dict[str, KeyEntry], tmp_path: Path) -> None:
    task = ls_task(PICTURES[0], rectangle(10, 10, 20, 20), by={"id": 1, "email": "mei@example.org"})
    task["annotations"] += ls_task(PICTURES[0], rectangle(12, 10, 20, 20), by=7)["annotations"]
    export = written(tmp_path / "export.json", [task])
    (film,) = read_labelstudio(export, FINDINGS, str(tmp_path))
    assert {one.rater for one in film.readings} == {pseudonym("mei@example.org"), pseudonym("7")}
    assert_allclose(film.boxes[0, 0], 0.11 * 2001, atol=0.01)  # fused: the mean of both
    assert len(read_labelstudio(export, FINDINGS, str(tmp_path), readers="union")[0].boxes) == 2
    assert len(read_labelstudio(export, FINDINGS, str(tmp_path), readers=pseudonym("7"))[0].boxes) == 1


def test_other_shapes_of_cvat_and_its_assignee(films: dict[str, KeyEntry], tmp_path: Path) -> None:
    shapes = '<polygon label="scoliosis" points="10,10;30,15;20,40"/><tag label="read"/>'
    shapes += '<ellipse label="scoliosis" cx="500" cy="300" rx="40" ry="20" rotation="90"/>'
    meta = "<meta><task><id>3</id><assignee><username>mei</username></assignee></task></meta>"
    image = f'<image name="sub/{PICTURES[0]}" width="2001" height="1533">{shapes}</image>'
    export = written(tmp_path / "export.xml", f"<annotations>{meta}{image}</annotations>")
    (film,) = read_cvat(export, FINDINGS, str(tmp_path))
    assert_allclose(film.boxes, [[10, 10, 30, 40], [480, 260, 520, 340]], atol=0.01)
    assert film.rater == pseudonym("mei")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (rectangle(10, 10, 0, 5), "task 1: the box .* has no area"),
        (rectangle(95, 10, 20, 5), "number"),
        ({"type": "brushlabels"}, "task 1: region 1 is of the type 'brushlabels', expected rectanglelabels"),
        ({"type": "rectanglelabels", "value": {"rectanglelabels": []}}, r"task 1: region 1 has the labels \[\]"),
        (
            rectangle(1, 1, 5, 5) | {"image_rotation": 90},
            "task 1: region 1 was drawn on a picture that had been turned",
        ),
        ({"type": "rectanglelabels"}, r"task 1: is damaged \(KeyError"),
    ],
)
def test_what_can_be_no_box_is_refused_with_its_task(
    films: dict[str, KeyEntry], tmp_path: Path, result: dict[str, Any], message: str
) -> None:
    if message == "number":
        message = r"export\.json, task 1, region 1: the box \[1900\.95, .*\] is not on its film"
    export = written(tmp_path / "export.json", [ls_task(PICTURES[0], result)])
    with pytest.raises(TableError, match=message):
        read_labelstudio(export, FINDINGS, str(tmp_path))


def test_unknown_labels_pictures_and_files_are_refused_by_name(films: dict[str, KeyEntry], tmp_path: Path) -> None:
    read = partial(read_labelstudio, findings=FINDINGS, key=str(tmp_path))
    export = written(tmp_path / "a.json", [ls_task(PICTURES[0]), ls_task(PICTURES[1], rectangle(1, 1, 5, 5, "tumour"))])
    with pytest.raises(UnknownLabelError, match=r"a\.json: unknown finding 'tumour' in row 2"):
        read(export)
    with pytest.raises(TableError, match=r"number 1: the picture '.*other\.png' is not in"):
        read(written(tmp_path / "b.json", [ls_task("other.png")]))
    with pytest.raises(TableError, match="expected Label Studio's export as JSON"):
        read(written(tmp_path / "c.json", {"images": []}))
    with pytest.raises(TableError, match="has a document type"):
        read_cvat(written(tmp_path / "d.xml", "<!DOCTYPE a><annotations/>"), FINDINGS, str(tmp_path))
    with pytest.raises(TableError, match="is no XML that can be read"):
        read_cvat(written(tmp_path / "e.xml", "<annotations>"), FINDINGS, str(tmp_path))
    Path(films[PICTURES[0]].path).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 1 films are not where they were, first .*0\.dcm"):
        read(written(tmp_path / "f.json", [ls_task(PICTURES[0])]))
