"""End to end: predict.py on the detector that all end-to-end tests share."""

import importlib.util
import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import dcmread

from score_submission import ap50
from scripts import call, start, table

pytestmark = pytest.mark.slow


CKPT = "ckpt=run/checkpoints/best.ckpt"


def course(place: Path) -> Path:
    return next((place / "data").rglob("test.csv"))


def test_the_submission_scores_as_the_run_itself_did(place: Path) -> None:
    call("predict.py", place, CKPT, f"images={course(place)}", "hydra.run.dir=course")
    truth = course(place).with_name("test_truth.csv")
    tested = json.loads((place / "run/result.json").read_text(encoding="utf-8"))["metrics"]["test/map_50"]
    assert tested > 0
    assert ap50(place / "course/submission.csv", truth) == pytest.approx(tested, abs=1e-3)
    ids = [row["ID"] for row in table(course(place))]
    named = [row["ID"] for row in table(place / "course/submission.csv")]
    assert sorted(named, key=ids.index) == named
    assert len(table(place / "course/films.csv")) == len(ids)
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
    words = (CKPT, "images=some", "pictures=true", f"dicom={extra}", "threshold=0.05", "names=pseudonyms")
    words += ("hydra.run.dir=folder",)
    out = call("predict.py", place, *words)
    assert "some/Chen 1.dcm" in out  # for the user who typed the folder
    run = place / "folder"
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert (result["films"], result["failed"], len(result["problems"])) == (3, 1, 1)
    assert not (run / "submission.csv").exists()
    (failed,) = [row for row in table(run / "films.csv") if row["assessed"] == "no"]
    assert (failed["cleared"], failed["study"]) == ("no", "")
    studies = {row["study"] for row in table(run / "films.csv")} - {""}
    assert {path.stem for path in (run / "pictures").iterdir()} == studies
    if extra:
        assert {path.name for path in (run / "dicom").iterdir()} == {
            f"{study}-{kind}.dcm" for study in studies for kind in ("sr", "pr", "sc")
        }
    patients = {str(dcmread(film).PatientID) for film in films}
    key = table(run / "key.csv")
    given = ("Chen 1", "Lin Yu-Ting 0", "Lin Yu-Ting 1", "Lin Yu-Ting 2")
    assert [row["path"] for row in key] == [f"some/{name}.dcm" for name in given]
    assert {row["SOPInstanceUID"] for row in key[1:]} == {str(dcmread(film).SOPInstanceUID) for film in films}
    assert {row["study"] for row in key[1:]} == studies
    assert (run / "key.csv").stat().st_mode & 0o077 == 0
    assert "key.csv holds identities" in out
    left = [path for path in run.rglob("*") if path.is_file() and path.suffix not in (".dcm", ".png", ".lock")]
    for path in left:
        if path.name == "key.csv":
            continue  # neither what the films hold nor what their files are called
        text = path.read_text(encoding="utf-8")
        assert not [word for word in (*patients, "Lin Yu-Ting", "Chen 1") if word in text], path


def test_tables_name_films_by_path_and_what_is_no_chest_film_is_not_assessed(place: Path) -> None:
    folder = place / "ward"
    folder.mkdir()
    film = dcmread(sorted(course(place).parent.glob("test/image/*.dcm"))[0])
    film.save_as(folder / "chest.dcm")
    film.BodyPartExamined = "EXTREMITY"
    film.StudyInstanceUID, film.SOPInstanceUID = "1.2.3", "1.2.3.4"
    film.save_as(folder / "foot.dcm")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / "tiny.png")
    extra = importlib.util.find_spec("highdicom") is not None
    words = (CKPT, "images=ward", "pictures=true", f"dicom={extra}", "hydra.run.dir=refused")
    for _ in range(2):  # the second time the journal alone tells
        out = call("predict.py", place, *words)
        assert "not assessed: not the chest" in out
        assert "ward/foot.dcm: not assessed: BodyPartExamined is EXTREMITY, not the chest" in out
        run = place / "refused"
        films = {row["image"]: row for row in table(run / "films.csv")}
        assert {name: row["assessed"] for name, row in films.items()} == {
            "chest.dcm": "yes", "foot.dcm": "no", "tiny.png": "no",
        }  # fmt: skip
        assert films["tiny.png"]["reason"] == "16 x 16 px are too few for a detector of 128 px"
        assert films["foot.dcm"]["cleared"] == films["tiny.png"]["cleared"] == "no"
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
        assert (result["films"], result["failed"]) == (1, 0)
        assert result["not_assessed"] == {"other_part": 1, "too_small": 1}
        assert {row["image"] for row in table(run / "detections.csv")} <= {"chest.dcm"}
        (run / "result.json").unlink()
    foot = films["foot.dcm"]["study"]
    with Image.open(run / "pictures" / f"{foot}.png") as picture:
        shown = np.asarray(picture)[-film.Rows :].astype(int)  # below the strip with the words of the refusal
    assert shown.any()
    assert np.ptp(shown, axis=2).max() == 0  # grey: no box is drawn on it
    if extra:
        assert {path.name for path in (run / "dicom").glob(f"{foot}*")} == {f"{foot}-sr.dcm", f"{foot}-sc.dcm"}


def test_a_detector_that_computes_nan_clears_nobody(place: Path) -> None:
    content = torch.load(place / "run/checkpoints/best.ckpt", weights_only=True, map_location="cpu")
    films = course(place).parent / "test" / "image"
    # finite weights that overflow: the reading of a checkpoint cannot refuse them
    name = next(name for name in content["state_dict"] if name.endswith("cls_score.weight"))
    content["state_dict"][name].fill_(3e38)
    torch.save(content, place / "overflow.ckpt")
    out = call("predict.py", place, "ckpt=overflow.ckpt", f"images={films}", "hydra.run.dir=overflow")
    films_table = table(place / "overflow/films.csv")
    assert {row["assessed"] for row in films_table} == {"no"}
    assert {row["cleared"] for row in films_table} == {"no"}
    result = json.loads((place / "overflow/result.json").read_text(encoding="utf-8"))
    assert (result["films"], result["failed"]) == (0, len(films_table))
    assert "is not finite" in out
    output = call("evaluate.py", place, "ckpt=overflow.ckpt", "samples=10", "hydra.run.dir=evaluated", code=2)
    assert "no film has a finite result" in output
    words = ("ckpt=overflow.ckpt", f"images={films}", "films=2", "hydra.run.dir=explained")
    output = call("explain.py", place, *words)
    assert "is not finite" in output
    assert len(json.loads((place / "explained/result.json").read_text(encoding="utf-8"))["failed"]) == 2


@pytest.mark.parametrize("damage", ["begun.json", "films.jsonl"])
def test_a_torn_file_is_told_and_its_films_are_done_again(place: Path, damage: str) -> None:
    words = (CKPT, f"images={course(place)}", f"hydra.run.dir=torn_{damage}")
    call("predict.py", place, *words)
    run = place / f"torn_{damage}"
    before = (run / "films.csv").read_bytes()
    (run / "result.json").unlink()
    content = (run / damage).read_bytes()
    (run / damage).write_bytes(content[: len(content) // 2])
    out = call("predict.py", place, *words)
    assert "damaged" in out
    assert "again" in out
    assert len(table(run / "films.csv")) == len(table(course(place)))
    assert [line.split(b",")[:4] for line in (run / "films.csv").read_bytes().splitlines()] == [
        line.split(b",")[:4] for line in before.splitlines()
    ]


def test_a_full_disk_is_one_message_and_the_same_command_goes_on(place: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    words = (CKPT, f"images={course(place)}", "pictures=true", "hydra.run.dir=full")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))"
    out = call("predict.py", place, *words, code=1, before=limit)
    assert "could not be written, it is larger than this system allows (File too large" in out
    assert "Traceback" not in out
    assert not [path for path in (place / "full").rglob("*") if path.name.endswith(".part")]
    call("predict.py", place, *words)
    assert len(table(place / "full/films.csv")) == len(table(course(place)))


def test_a_killed_run_goes_on_with_what_is_left(place: Path) -> None:
    films = sorted((place / "data").rglob("*.dcm"))
    (place / "many.txt").write_text("\n".join(str(film) for _ in range(3) for film in films))
    words = (CKPT, "images=many.txt", "pictures=true", "batch=4")
    job = start("predict.py", place, *words)
    journals: list[Path] = []
    deadline = time.monotonic() + 200
    while not journals or len(journals[0].read_bytes().splitlines()) < 20:
        journals = list(place.glob("outputs/predict/*/films.jsonl"))
        assert time.monotonic() < deadline
        assert job.poll() is None, job.printed()
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.wait()
    before = journals[0].read_bytes().splitlines()
    assert len(before) < 3 * len(films)
    call("predict.py", place, *words)
    after = journals[0].read_bytes().splitlines()
    assert list(place.glob("outputs/predict/*/films.jsonl")) == journals  # all in one folder
    assert sorted(json.loads(line)["number"] for line in after) == list(range(1, 3 * len(films) + 1))
    assert after[: len(before) - 1] == before[:-1]  # the last line may have been cut short
    assert len(list((journals[0].parent / "pictures").iterdir())) == 3 * len(films)


def test_maps_come_beside_the_objects_of_films_with_detections(place: Path) -> None:
    pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[dicom]'")
    (place / "few.txt").write_text(
        "\n".join(str(film) for film in sorted(course(place).parent.glob("test/image/*"))[:3])
    )
    words = (CKPT, "images=few.txt", "dicom=true", "cam=gradcam", "threshold=0.05", "hydra.run.dir=maps")
    call("predict.py", place, *words)
    run = place / "maps"
    assert json.loads((run / "result.json").read_text(encoding="utf-8"))["problems"] == []
    shown: dict[str, list[str]] = {}
    for row in table(run / "detections.csv"):
        if float(row["score"]) >= 0.05:
            shown.setdefault(row["study"], []).append(row["finding"].replace("_", " "))
    maps = {path.name.removesuffix("-pm-gradcam.dcm"): path for path in run.glob("dicom/*-pm-gradcam.dcm")}
    assert maps.keys() == shown.keys()
    assert maps
    highest = []
    for study, path in maps.items():
        data = dcmread(path)
        groups = data.PerFrameFunctionalGroupsSequence
        labels = [group.FrameContentSequence[0].FrameLabel for group in groups]
        for number, (label, finding) in enumerate(zip(labels, shown[study], strict=True), start=1):
            assert label.startswith(f"{number} {finding}"[:30])
        highest.append(data.pixel_array.max())
    assert max(highest) > 900  # a map may be empty, where no cell speaks for a box


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["images=data"], "ckpt has no value yet"),
        ([CKPT], "images has no value yet"),
        ([CKPT, "images=/nowhere"], "there is no such file or folder"),
        ([CKPT, "images=run/.hydra"], "holds no film"),
        ([CKPT, "images=data", "cam=gradcam"], "type dicom=true too"),
        ([CKPT, "images=data", "names=all"], "names is 'all', expected paths or pseudonyms"),
        ([CKPT, "images=data", "treshold=0.5"], "Did you mean 'threshold'"),
    ],
)
def test_what_is_wrong_is_told(place: Path, words: list[str], message: str) -> None:
    out = call("predict.py", place, *words, code=2)
    assert message in out
    assert "Traceback" not in out
