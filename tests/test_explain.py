"""End to end: explain.py on the detector that all end-to-end tests share."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts import call, start, table

pytestmark = pytest.mark.slow


CKPT = "ckpt=run/checkpoints/best.ckpt"
FEW = ("films=2", "threshold=0.05", "sanity_films=1")


def test_a_run_leaves_a_page_pictures_and_scores(place: Path) -> None:
    out = call("explain.py", place, CKPT, *FEW, "hydra.run.dir=whole")
    run = place / "whole"
    films = sorted((run / "films").iterdir())
    assert len(films) == 2
    methods = {"box", "gradcam", "ablationcam", "eigencam", "saliency"}
    assert len({(run / f"{method}.png").read_bytes() for method in methods}) == 5  # no two methods show the same
    figures = {(film / f"figure-{method}.png").read_bytes() for film in films for method in methods}
    assert len(figures) == 10  # nor do two films
    for film in films:
        assert_maps_explain_boxes(film)
    page = (run / "index.html").read_text(encoding="utf-8")
    assert all(film.name in page for film in films)
    assert "http" not in page
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert (result["status"], result["films"], result["unreadable"]) == ("completed", 2, [])
    assert set(json.loads((run / "sanity.json").read_text(encoding="utf-8"))) == methods
    scored = {row["method"] for row in table(run / "cam_scores.csv")}
    assert scored - {"random", "centre", "own_box"} == methods
    assert "index.html" in out


def assert_maps_explain_boxes(film: Path) -> None:
    """Each box has maps as large as the film, and a box-level map like no other box."""
    record = json.loads((film / "film.json").read_text(encoding="utf-8"))
    seen = []
    for box in record["boxes"]:
        maps = {method: np.asarray(Image.open(film / name)) for method, name in box["maps"].items()}
        assert {heat.shape for heat in maps.values()} == {(record["height"], record["width"])}
        assert all(maps[method].any() for method in ("box", "eigencam"))  # Grad-CAM's may be zero
        seen.append(maps["box"].tobytes())
    assert len(set(seen)) == len(seen) > 0


def test_a_killed_run_goes_on_with_what_is_left(place: Path) -> None:
    words = (CKPT, "films=null", "threshold=0.1", "sanity_films=0", "cam=gradcam")  # all 8 of the test split
    job = start("explain.py", place, *words)
    deadline = time.monotonic() + 200
    while len(records := list(place.glob("outputs/explain/*/films/*/film.json"))) < 2:
        assert time.monotonic() < deadline
        assert job.poll() is None, job.printed()
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.wait()
    before = {path: path.stat().st_mtime_ns for path in records}
    assert len(list(place.glob("outputs/explain/*/films/*/film.json"))) < 8
    call("explain.py", place, *words)
    after = {path: path.stat().st_mtime_ns for path in place.glob("outputs/explain/*/films/*/film.json")}
    assert len(after) == 8  # all in one folder
    assert before.items() <= after.items()


def test_a_folder_of_films_with_one_that_is_none(place: Path) -> None:
    films = sorted((place / "data").rglob("*.dcm"))[:2]
    folder = place / "some"
    folder.mkdir()
    for n, film in enumerate(films):
        shutil.copy(film, folder / f"{n}.dcm")
    (folder / "page.dcm").write_text("<html>not found</html>")
    (folder / "notes.txt").write_text("nothing")
    words = (CKPT, "images=some", "cam=[box,drise]", "cam.drise.masks=32", "language=zh", "sanity_films=0")
    out = call("explain.py", place, *words, "hydra.run.dir=folder")
    assert "page.dcm" in out
    page = (place / "folder" / "index.html").read_text(encoding="utf-8")
    assert "file 1: " in page  # the path is for the user who named the folder
    assert "page.dcm" not in page
    assert 'lang="zh-Hant"' in page
    assert json.loads((place / "folder" / "result.json").read_text(encoding="utf-8"))["films"] == 2


FROM_OUTSIDE = {
    "my_conf/cam/fem.yaml": """# A method of grad-cam's that this project has no YAML for.
fem:
  _target_: cxr.explain.library.LibraryCam
  method: {_target_: pytorch_grad_cam.FEM, _partial_: true, k: 2}
  knows_the_finding: false
""",
    "my_conf/cam/spread.yaml": """# A map of the user's own.
spread:
  _target_: my_maps.Spread
""",
    "my_maps.py": """from cxr.explain.cam import LevelCam


class Spread(LevelCam):
    def cells(self, film, candidate):
        return film.level(candidate)[0].std(0)
""",
}


def test_a_map_from_outside_is_a_yaml_for_the_librarys_and_a_class_more_for_ones_own(place: Path) -> None:
    for name, text in FROM_OUTSIDE.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    words = ("--config-dir", "my_conf", CKPT, *FEW, "cam=[fem,spread]", "hydra.run.dir=mine")
    call("explain.py", place, *words, before=f"import sys; sys.path.append({str(place)!r})")
    run = place / "mine"
    films = list(run.glob("films/*/film.json"))
    assert len(films) == 2
    for film in films:
        boxes = json.loads(film.read_text(encoding="utf-8"))["boxes"]
        assert boxes
        assert all(box["maps"].keys() == {"fem", "spread"} and box["notes"] == {"fem": "blind"} for box in boxes)
        for box in boxes:
            fem, spread = (np.asarray(Image.open(film.with_name(box["maps"][name]))) for name in ("fem", "spread"))
            assert fem.shape == spread.shape
            assert (fem != spread).any()
    assert (run / "fem.png").read_bytes() != (run / "spread.png").read_bytes()
    assert json.loads((run / "sanity.json").read_text(encoding="utf-8")).keys() == {"fem", "spread"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ckpt=/nowhere.ckpt"], "there is no such file"),
        ([CKPT, "cam=gradcamm"], "Did you mean 'gradcam'"),
        ([CKPT, "images=/nowhere"], "there is no such file or folder"),
        ([CKPT, "split=tset"], "expected one of"),
        ([CKPT, "cam.ablationcam.value=median"], "expected one of mean, zero, low"),
        ([CKPT, "cam=gradcam", "cam.gradcam.method._target_=pytorch_grad_cam.GradCam"], "there is no 'GradCam'"),
        ([CKPT, "cam=gradcam", "cam.gradcam.method._target_=pytorch_grad_cam.FinerCAM"], "expected a subclass of"),
        ([], "ckpt has no value yet"),
    ],
)
def test_what_is_wrong_is_told(place: Path, words: list[str], message: str) -> None:
    out = call("explain.py", place, *words, code=2)
    assert message in out
    assert "Traceback" not in out
