"""End to end: predict.py on a detector trained for a moment on phantom films."""

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom import dcmread

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def call(script: str, place: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *words],
        cwd=place, env={**os.environ, "OMP_NUM_THREADS": "2"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def done(process: subprocess.Popen[str], code: int = 0) -> str:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == code, out
    return out


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with phantom films and a detector that has seen them for a few epochs."""
    folder = tmp_path_factory.mktemp("place")
    done(call("train.py", folder, "experiment=smoke", "hydra.run.dir=run"))
    return folder


CKPT = "ckpt=run/checkpoints/best.ckpt"


def rows(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))


def ap50(submission: Path, truth: Path) -> float:
    script = ROOT / "tests" / "score_submission.py"
    return float(subprocess.check_output([sys.executable, str(script), str(submission), str(truth)]))


def course(place: Path) -> Path:
    return next((place / "data").rglob("test.csv"))


def test_the_submission_scores_as_the_run_itself_did(place: Path) -> None:
    done(call("predict.py", place, CKPT, f"images={course(place)}", "hydra.run.dir=course"))
    truth = course(place).with_name("test_truth.csv")
    tested = json.loads((place / "run/result.json").read_text(encoding="utf-8"))["metrics"]["test/map_50"]
    assert ap50(place / "course/submission.csv", truth) == pytest.approx(tested, abs=1e-3)
    ids = [row["ID"] for row in rows(course(place))]
    said = [row["ID"] for row in rows(place / "course/submission.csv")]
    assert sorted(said, key=ids.index) == said
    assert len(rows(place / "course/films.csv")) == len(ids)
    assert not any(film_id in (place / "course" / name).read_text(encoding="utf-8")
                   for name in ("detections.csv", "detections.json", "images.json", "films.csv", "films.jsonl")
                   for film_id in ids)  # fmt: skip


def test_a_folder_with_bad_films_gives_pictures_objects_and_reasons(place: Path) -> None:
    films = sorted(course(place).parent.glob("test/image/*.dcm"))[:3]
    (place / "some").mkdir()
    for n, film in enumerate(films):
        shutil.copy(film, place / "some" / f"Lin Yu-Ting {n}.dcm")
    (place / "some" / "Chen 1.dcm").write_text("<html>not found</html>")
    extra = importlib.util.find_spec("highdicom") is not None
    words = (CKPT, "images=some", "pictures=true", f"dicom={extra}", "threshold=0.05", "hydra.run.dir=folder")
    out = done(call("predict.py", place, *words))
    assert "some/Chen 1.dcm" in out  # for the user who typed the folder
    run = place / "folder"
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert (result["films"], result["failed"], len(result["problems"])) == (3, 1, 1)
    assert not (run / "submission.csv").exists()
    studies = {row["study"] for row in rows(run / "films.csv")}
    assert {path.stem for path in (run / "pictures").iterdir()} == studies
    if extra:
        assert {path.name for path in (run / "dicom").iterdir()} == {
            f"{study}-{kind}.dcm" for study in studies for kind in ("sr", "pr", "sc")
        }
    patients = {str(dcmread(film).PatientID) for film in films}
    left = [path for path in run.rglob("*") if path.is_file() and path.suffix not in (".dcm", ".png", ".lock")]
    for path in left:  # neither what the films hold nor what their files are called
        text = path.read_text(encoding="utf-8")
        assert not [word for word in (*patients, "Lin Yu-Ting", "Chen 1") if word in text], path


def test_a_killed_run_goes_on_with_what_is_left(place: Path) -> None:
    films = sorted((place / "data").rglob("*.dcm"))
    (place / "many.txt").write_text("\n".join(str(film) for _ in range(6) for film in films))
    words = (CKPT, "images=many.txt", "pictures=true", "batch=4")
    process = call("predict.py", place, *words)
    journals: list[Path] = []
    deadline = time.monotonic() + 200
    while not journals or len(journals[0].read_bytes().splitlines()) < 20:
        journals = list(place.glob("outputs/predict/*/films.jsonl"))
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = journals[0].read_bytes().splitlines()
    assert len(before) < 6 * len(films)
    done(call("predict.py", place, *words))
    after = journals[0].read_bytes().splitlines()
    assert list(place.glob("outputs/predict/*/films.jsonl")) == journals  # all in one folder
    assert sorted(json.loads(line)["number"] for line in after) == list(range(1, 6 * len(films) + 1))
    assert after[: len(before) - 1] == before[:-1]  # the last line may have been cut short
    assert len(list((journals[0].parent / "pictures").iterdir())) == 6 * len(films)


def test_maps_come_beside_the_objects_of_films_with_detections(place: Path) -> None:
    pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[dicom]'")
    words = (CKPT, f"images={course(place)}", "dicom=true", "cam=gradcam", "threshold=0.05", "hydra.run.dir=maps")
    done(call("predict.py", place, *words))
    run = place / "maps"
    assert json.loads((run / "result.json").read_text(encoding="utf-8"))["problems"] == []
    shown: dict[str, list[str]] = {}
    for row in rows(run / "detections.csv"):
        if float(row["score"]) >= 0.05:
            shown.setdefault(row["study"], []).append(row["finding"].replace("_", " "))
    maps = {path.name.removesuffix("-pm-gradcam.dcm"): path for path in run.glob("dicom/*-pm-gradcam.dcm")}
    assert maps.keys() == shown.keys()
    assert maps
    for study, path in maps.items():
        data = dcmread(path)
        groups = data.PerFrameFunctionalGroupsSequence
        labels = [group.FrameContentSequence[0].FrameLabel for group in groups]
        for number, (label, finding) in enumerate(zip(labels, shown[study], strict=True), start=1):
            assert label.startswith(f"{number} {finding}"[:30])
        assert data.pixel_array.max() > 900


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["images=data"], "ckpt has no value yet"),
        ([CKPT], "images has no value yet"),
        ([CKPT, "images=/nowhere"], "there is no such file or folder"),
        ([CKPT, "images=run/.hydra"], "holds no film"),
        ([CKPT, "images=data", "cam=gradcam"], "type dicom=true too"),
        ([CKPT, "images=data", "treshold=0.5"], "Did you mean 'threshold'"),
    ],
)
def test_what_is_wrong_is_told(place: Path, words: list[str], told: str) -> None:
    out = done(call("predict.py", place, *words), code=2)
    assert told in out
    assert "Traceback" not in out
