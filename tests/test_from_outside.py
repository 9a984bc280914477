"""A stranger's additions, none of which edits ``cxr/``: trained, restored, evaluated, explained and predicted with.

The files are those that docs/extending.md shows: the page is what is tested.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr.phantom.course_layout import write_film
from cxr.phantom.films import draw_phantom
from scripts import ROOT, call, table

pytestmark = pytest.mark.slow

LABELS = {"cardiac_hypertrophy": "cardiomegaly", "scoliosis": "curved_spine"}  # as the stranger's table spells them
SETTINGS = (
    "trainer=cpu",
    "optimizer=adamw",
    "optimizer.lr=0.001",
    "findings=mine",
    "data=mine",
    "data.root=films",
    "data.size=96",
    "data.batch_size=4",
)
SETTINGS += ("data.test_fraction=0.2", "data.val_fraction=0.2", "trainer.precision=32-true", "trainer.max_epochs=1")
TOLD = {"enlarged_heart", "curved_spine"}  # as the stranger's vocabulary names them
FILES = re.compile(r"```(?:yaml|python)\n# (my_\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A folder with the files of docs/extending.md, and films in the stranger's own layout."""
    files = FILES.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8"))
    assert len(files) == 6
    for name, text in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    draw(tmp_path / "films")
    return tmp_path


def draw(folder: Path, films: int = 20) -> None:
    """Draw films of a patient each, every third one normal, and the table that reader.py reads."""
    folder.mkdir()
    with (folder / "boxes.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "x0", "y0", "x1", "y1"])
        for number in range(films):
            findings = () if number % 3 == 0 else tuple(LABELS)[: number % 3]
            drawn = draw_phantom(np.random.default_rng(number), 128, findings)
            name = f"{number}.dcm"
            write_film([folder / name], drawn.pixels, f"PATIENT{number}", f"study {number}")
            rows = [[name, LABELS[finding], *box.tolist()] for finding, box in drawn.boxes.items()]
            table.writerows(rows or [[name, "", "", "", "", ""]])


def run(script: str, place: Path, *words: str, code: int = 0) -> str:
    return call(script, place, "--config-dir", "my_conf", *words, code=code)


def test_a_backbone_a_data_set_a_vocabulary_and_a_map_of_a_strangers(stranger: Path) -> None:
    backbone = ("model=fasterrcnn", "model/backbone=timm", "model.backbone.name=resnet10t", "model.pyramid.channels=32")
    run("train.py", stranger, *SETTINGS, *backbone, "model.regions.width=32", "hydra.run.dir=run")
    result = json.loads((stranger / "run" / "result.json").read_text())
    assert result["status"] == "completed"
    ckpt = "ckpt=run/checkpoints/best.ckpt"
    output = run("evaluate.py", stranger, ckpt, code=2)
    assert "data.read._target_ is 'my_hospital.reader.read_mine', which a checkpoint may not call there" in output
    assert "trust=[my_hospital.reader]" in output
    run("evaluate.py", stranger, ckpt, "trust=[my_hospital]", "hydra.run.dir=evaluated")
    assert {row["finding"] for row in table(stranger / "evaluated" / "per_finding.csv")} == {"all", *TOLD}
    run("predict.py", stranger, ckpt, "images=films", "trust=[my_hospital]", "hydra.run.dir=predicted")
    films = [json.loads(line) for line in (stranger / "predicted" / "films.jsonl").read_text().splitlines()]
    assert len(films) == 20
    assert all(set(film["prediction"]["finding_scores"]) == TOLD for film in films)
    words = (
        "cam=edges",
        "films=2",
        "faithfulness=false",
        "sanity_films=0",
        "trust=[my_hospital]",
        "hydra.run.dir=explained",
    )
    run("explain.py", stranger, ckpt, *words)
    boxes = list(maps_of(stranger / "explained", "edges"))
    assert any(seen.any() for seen, _ in boxes)
    for seen, (x0, y0, x1, y1) in boxes:  # the map of Edges is zero outside its box; 3: a film of 128 was read as 96
        seen[max(int(y0) - 3, 0) : int(y1) + 4, max(int(x0) - 3, 0) : int(x1) + 4] = 0
        assert not seen.any()


def maps_of(folder: Path, cam: str) -> Iterator[tuple[Any, list[float]]]:
    """Yield each map of a run of explain.py, and its box, both in pixels of the original film."""
    for record in folder.glob("films/*/film.json"):
        for box in json.loads(record.read_text(encoding="utf-8"))["boxes"]:
            with Image.open(record.with_name(box["maps"][cam])) as image:
                yield np.array(image), box["box"]


def test_the_page_says_how_many_lines_each_addition_takes() -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    lines = {name: len(text.splitlines()) + 1 for name, text in FILES.findall(page)}  # 1: the name, as a comment
    table = dict(re.findall(r"^\| a ([^|]+?) \|.*\| ([\d, ]+) \|$", page, re.MULTILINE))
    assert table["vocabulary"] == f"{lines['my_conf/findings/mine.yaml']}"
    assert table["data set"] == f"{lines['my_hospital/reader.py']}, {lines['my_conf/data/mine.yaml']}"
    theirs = table["detector of torchvision, or of your own in its contract"]
    assert theirs == f"{lines['my_conf/model/theirs.yaml']}"
    assert table["map of your own"] == f"{lines['my_hospital/maps.py']}, {lines['my_conf/cam/edges.yaml']}"
    grad_cam = (ROOT / "conf" / "cam" / "layercam.yaml").read_text(encoding="utf-8")
    assert table["map of the library grad-cam"] == f"{len(grad_cam.splitlines())}"


def test_a_detector_in_torchvisions_contract(stranger: Path) -> None:
    run("train.py", stranger, *SETTINGS, "model=theirs", "hydra.run.dir=run")
    ckpt, mine = "ckpt=run/checkpoints/best.ckpt", "trust=[my_hospital,torchvision.models.detection]"
    output = run("predict.py", stranger, ckpt, "images=films", code=2)
    assert "trust=[torchvision.models.detection.faster_rcnn]" in output
    run("predict.py", stranger, ckpt, "images=films", mine, "hydra.run.dir=predicted")
    films = [json.loads(line) for line in (stranger / "predicted" / "films.jsonl").read_text().splitlines()]
    assert len(films) == 20
    assert all(set(film["prediction"]["finding_scores"]) == TOLD for film in films)
    run("evaluate.py", stranger, ckpt, mine, "hydra.run.dir=evaluated")
    assert {row["finding"] for row in table(stranger / "evaluated" / "per_finding.csv")} == {"all", *TOLD}
    words = (
        "cam=drise",
        "cam.drise.masks=20",
        "films=1",
        "faithfulness=false",
        "sanity_films=0",
        mine,
        "hydra.run.dir=explained",
    )
    run("explain.py", stranger, ckpt, *words)
    boxes = list(maps_of(stranger / "explained", "drise"))
    records = [json.loads(path.read_text()) for path in (stranger / "explained").glob("films/*/film.json")]
    sizes = {(record["height"], record["width"]) for record in records}
    assert {seen.shape for seen, _ in boxes} == sizes  # as the film is, which the detector had at 96 px
    assert {max(size) for size in sizes} == {128}
    assert all(seen.max() > seen.min() for seen, _ in boxes)  # some masks hide the box, and others do not
