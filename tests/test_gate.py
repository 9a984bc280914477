"""End to end: the gate in front of a detector, and a name burnt into the pixels of a film."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pydicom import Dataset, dcmread

from cxr.files import digest_file
from cxr.fonts import picture_font
from cxr.phantom.other_films import draw_hand
from cxr.read.burnt_text import text_boxes
from scripts import call, table

pytestmark = pytest.mark.slow

CKPT = "ckpt=run/checkpoints/best.ckpt"


def drawn(place: Path) -> list[Path]:
    return sorted((place / "data" / "phantom_smoke" / "test").rglob("*.dcm"))


def write(film: Path, to: Path, change: Callable[[Dataset], None]) -> None:
    to.parent.mkdir(exist_ok=True)
    header = dcmread(film)
    change(header)
    header.save_as(to)


def pixels(film: Dataset, values: Any) -> None:
    values = np.ascontiguousarray(values, np.uint16)
    film.Rows, film.Columns = values.shape
    film.PixelData = values.tobytes()


def invert(film: Dataset) -> None:
    film.PhotometricInterpretation = "MONOCHROME2"


def turn(film: Dataset) -> None:
    pixels(film, np.rot90(film.pixel_array))


def become_a_hand(film: Dataset) -> None:
    pixels(film, draw_hand(np.random.default_rng(0), 256))


def write_a_name(film: Dataset) -> None:
    stored = film.pixel_array.copy()
    letters = Image.new("L", stored.shape[::-1])
    ImageDraw.Draw(letters).text((20, 120), "LIN YU-TING", 255, picture_font(20))
    stored[np.asarray(letters) > 128] = 0  # MONOCHROME1: white
    pixels(film, stored)


CHANGES = {"a": lambda film: None, "b": invert, "c": turn, "d": write_a_name, "e": become_a_hand}


def make_a_slice(film: Dataset) -> None:
    film.Modality = "CT"


def test_what_is_no_frontal_chest_film_is_not_assessed_and_never_normal(place: Path) -> None:
    for film, (name, change) in zip(drawn(place), {**CHANGES, "f": make_a_slice}.items(), strict=False):
        write(film, place / "mixed" / f"{name}.dcm", change)
    out = call("predict.py", place, CKPT, "images=mixed", "pictures=true", "hydra.run.dir=mixed_run")
    rows = {row["image"][0]: row for row in table(place / "mixed_run/films.csv")}
    assert {name: row["assessed"] for name, row in rows.items() if name != "e"} == {
        "a": "yes", "b": "no", "c": "no", "d": "yes", "f": "no",
    }  # fmt: skip
    assert "inverted" in rows["b"]["reason"]
    assert "turned by 270 degrees" in rows["c"]["reason"]  # numpy turns against the clock
    assert "Modality is CT" in rows["f"]["reason"]
    assert not [name for name, row in rows.items() if row["assessed"] == "no" and row["cleared"] == "yes"]
    counts = json.loads((place / "mixed_run/result.json").read_text(encoding="utf-8"))["not_assessed"]
    assert {cause: counts[cause] for cause in ("inverted", "turned", "other_kind")} == dict.fromkeys(
        ("inverted", "turned", "other_kind"), 1
    )
    assert "turned by 90 or 180 degrees" in out


def test_without_the_pixels_the_header_alone_is_asked(place: Path) -> None:
    words = (CKPT, "images=mixed", "gate=false", "hydra.run.dir=header_run")
    call("predict.py", place, *words)
    assessed = {row["image"][0]: row["assessed"] for row in table(place / "header_run/films.csv")}
    assert assessed == {**dict.fromkeys("abcde", "yes"), "f": "no"}


def test_a_name_in_the_pixels_is_in_no_picture_and_no_capture(place: Path) -> None:
    extra = importlib.util.find_spec("highdicom") is not None
    write(drawn(place)[3], place / "named" / "x.dcm", write_a_name)
    words = (CKPT, "images=named", "pictures=true", f"dicom={extra}", "threshold=0.99", "hydra.run.dir=named_run")
    call("predict.py", place, *words)
    stored = dcmread(place / "named" / "x.dcm").pixel_array
    letters = stored == 0
    assert letters.sum() > 200
    (picture,) = (place / "named_run/pictures").iterdir()
    shown = np.asarray(Image.open(picture).convert("L"))
    assert shown.shape == letters.shape
    assert shown[letters].max() == 0
    assert not len(text_boxes(shown))
    if extra:
        (capture,) = (place / "named_run/dicom").glob("*-sc.dcm")
        assert dcmread(capture).pixel_array[letters].max() == 0


def test_an_evaluation_lists_what_is_not_assessed_and_counts_it_nowhere(place: Path) -> None:
    shutil.copytree(place / "data" / "phantom_smoke", place / "upside_down")
    turned = sorted((place / "upside_down" / "test").rglob("*.dcm"))[:2]
    for film in turned:
        write(film, film, lambda header: pixels(header, np.rot90(header.pixel_array, 2)))
    words = (CKPT, "data=course", "data.root=upside_down", "split=test", "samples=20")
    out = call("evaluate.py", place, *words, "hydra.run.dir=gated")
    metrics = json.loads((place / "gated/metrics.json").read_text(encoding="utf-8"))
    assert metrics["films"]["not_assessed"]["by_reason"] == {"turned": 2}
    assert metrics["checkpoints"]["A"]["films"] + 2 == 8
    assert "2 films are not assessed (2 turned by 90 or 180 degrees)" in " ".join(out.split())
    page = (place / "gated/index.html").read_text(encoding="utf-8")
    assert page.count("the film lies turned by 180 degrees") == 2
    call("evaluate.py", place, *words, "gate=false", "hydra.run.dir=ungated")
    metrics = json.loads((place / "ungated/metrics.json").read_text(encoding="utf-8"))
    assert metrics["checkpoints"]["A"]["films"] == 8


def test_a_checkpoint_from_before_is_used_with_a_warning(place: Path) -> None:
    content = torch.load(place / "run/checkpoints/best.ckpt", weights_only=True)
    del content["cxr"]["known_films"]
    torch.save(content, place / "before.ckpt")
    assert not digest_file(place / "before.ckpt").exists()
    out = call("predict.py", place, "ckpt=before.ckpt", "images=mixed", "hydra.run.dir=before_run")
    assert out.count("does not say what its training films look like") == 1
    assessed = {row["image"][0]: row["assessed"] for row in table(place / "before_run/films.csv")}
    assert assessed == {**dict.fromkeys("abcde", "yes"), "f": "no"}
