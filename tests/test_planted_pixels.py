"""End to end: a name burnt into a film's pixels can be read in no picture that a script leaves; side markers can.

The film's own file, and the copy that serve.py keeps of it, have to carry the name.
"""

import base64
import importlib.util
import re
import signal
import time
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread

from burnt_in import likeness, likeness_anywhere, name_in_pixels
from cxr.phantom.course_layout import write_film
from cxr.phantom.films import draw_phantom
from cxr.read.dicom import read_film
from scripts import call, start

pytestmark = pytest.mark.slow

CKPT = "ckpt=run/checkpoints/best.ckpt"
SIDE = 1024
UNREADABLE, READABLE = 0.5, 0.7  # likeness; words of ours look as much like a name as the first


def marker() -> NDArray[np.uint8]:
    """An L alone at the patient's left, halfway up."""
    return np.asarray(cv2.putText(np.zeros((SIDE, SIDE), np.uint8), "L", (930, 520), 0, 1.6, 255, 4))


@pytest.fixture(scope="module")
def place(place: Path) -> Path:
    """A detector, and a film of 1024 px that has a name and a side marker in its pixels."""
    drawn = draw_phantom(np.random.default_rng(3), SIDE * 4 // 3).pixels
    left = (drawn.shape[1] - SIDE) // 2
    stored = drawn[:SIDE, left : left + SIDE].copy()
    stored[np.maximum(name_in_pixels(SIDE), marker()) > 0] = 0  # MONOCHROME1: white
    write_film([place / "named" / "film.dcm"], stored, "H1", "named")
    shown = np.asarray(read_film(place / "named" / "film.dcm").display() * 255, np.uint8)
    assert likeness(shown, name_in_pixels(SIDE)) > 0.75  # so readable where nobody covers it
    assert likeness_anywhere(np.asarray(Image.fromarray(shown).resize((389, 389)))) > READABLE
    return place


def pictures(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Every picture below a folder: files, those in pages, and frames of DICOM objects."""
    shown: dict[str, NDArray[np.uint8]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".png", ".jpg", ".jpeg", ".webp"):
            shown[path.name] = grey(path.read_bytes())
        elif path.suffix == ".html":
            for n, text in enumerate(re.findall(r"data:image/\w+;base64,([\w+/=]+)", path.read_text(encoding="utf-8"))):
                shown[f"{path.name} {n}"] = grey(base64.b64decode(text))
        elif path.suffix == ".dcm" and path.parent.name == "dicom" and "PixelData" in (made := dcmread(path)):
            frames = made.pixel_array if made.get("NumberOfFrames", 1) > 1 else made.pixel_array[None]
            for n, frame in enumerate(frames):
                level = frame if frame.ndim == 2 else frame.mean(-1)
                shown[f"{path.name} {n}"] = np.asarray(level * (255 / max(level.max(), 1)), np.uint8)
    return shown


def grey(encoded: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(encoded)).convert("RGBA").convert("L"))


def hold(shown: dict[str, NDArray[np.uint8]], films: int) -> None:
    """Hold pictures against the name; so many are the whole film, on which the marker has to be."""
    likely, marked = dict[str, float](), 0
    for name, picture in shown.items():
        height, width = picture.shape
        if height != width:  # a page's picture of several things
            likely[name] = likeness_anywhere(picture)
            continue
        of_name, of_marker = (
            np.asarray(Image.fromarray(one).resize(picture.shape)) for one in (name_in_pixels(SIDE), marker())
        )
        likely[name] = abs(likeness(picture, of_name))
        marked += likeness(picture, of_marker) > READABLE
    assert not {name: found for name, found in likely.items() if found > UNREADABLE}
    assert marked == films, sorted(shown)


def test_a_prediction_shows_no_name(place: Path) -> None:
    dicom = importlib.util.find_spec("highdicom") is not None
    words = (CKPT, "images=named", "pictures=true", f"dicom={dicom}", "gate=false", "threshold=0.12")
    words += ("cam=[saliency,ablationcam]",) if dicom else ()
    call("predict.py", place, *words, "hydra.run.dir=predicted")
    shown = pictures(place / "predicted")
    assert not dicom or sum("pm-" in name for name in shown) >= 2
    hold(shown, 1 + dicom)


def test_an_explanation_shows_no_name(place: Path) -> None:
    words = (CKPT, "images=named", "cam=[saliency,ablationcam]", "sanity_films=0", "faithfulness=false", "gate=false")
    call("explain.py", place, *words, "hydra.run.dir=explained")
    shown = pictures(place / "explained")
    hold(shown, 2)


def test_films_for_annotators_and_converted_films_show_no_name(place: Path) -> None:
    call("annotate.py", place, CKPT, "images=named", "to=coco", "gate=false", "longest=700", "hydra.run.dir=to_mark")
    hold(pictures(place / "to_mark"), 1)
    for size in ("1024", "400"):
        call("cxr/__main__.py", place, "convert", "named", f"converted{size}", "--size", size, "--format", "jpg")
        hold(pictures(place / f"converted{size}"), 1)


def test_a_service_shows_no_name(place: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra serve")
    pytest.importorskip("highdicom", reason="the extra dicom")
    import httpx

    words = (CKPT, "dicom=null", "http=127.0.0.1:0", "workers=1", "gate=false", "threshold=0.12", "cam=saliency")
    service = start("serve.py", place, *words, "hydra.run.dir=serving")
    try:
        end = time.monotonic() + 240
        while not (said := re.search(r"http://127\.0\.0\.1:\d+", service.printed())):
            assert time.monotonic() < end, service.printed()
            assert service.poll() is None, service.printed()
            time.sleep(0.1)
        film = (place / "named" / "film.dcm").read_bytes()
        assert httpx.post(f"{said.group()}/films", content=film, timeout=120).status_code == 200
        while httpx.get(f"{said.group()}/films/1/picture", timeout=60).status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        (place / "serving" / "seen").mkdir()
        for name, address in (("page.html", "/"), ("picture.jpg", "/films/1/picture")):
            (place / "serving" / "seen" / name).write_bytes(httpx.get(said.group() + address, timeout=60).content)
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(60) == 0, service.printed()
    shown = pictures(place / "serving")
    assert sum("-sc" in name for name in shown) == 1
    assert sum("pm-" in name for name in shown) >= 1
    hold(shown, 3)
