"""The circle, once round: a detector's boxes go to a doctor, are corrected, come back, and are learnt from."""

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from pydicom import dcmread

from cxr.data.annotation_key import read_key
from cxr.data.sources.labelstudio import read_labelstudio
from cxr.data.sources.layouts import VOCABULARY, read_vocabulary
from scripts import call

pytestmark = pytest.mark.slow

FINDINGS = read_vocabulary(VOCABULARY)
CKPT = "ckpt=run/checkpoints/best.ckpt"
NAME = "Lin^Yu-Ting"
# experiment=smoke without what is the phantom's own
SMOKE = ("experiment=smoke", "~data.read.films", "~data.read.test_films", "~data.read.size", "callbacks.page.films=2")
SMOKE += ("data.val_fraction=0.2", "data.test_fraction=0.2", "trainer.precision=32-true", "data.workers=0")


@pytest.fixture(scope="module")
def place(place: Path) -> Path:
    """A detector and ten films in one folder, of which the patient's name is known."""
    films = sorted((place / "data" / "phantom_smoke").rglob("*.dcm"))
    seen: set[str] = set()
    (place / "ward").mkdir()
    for film in films:
        header = dcmread(film)
        if len(seen) < 10 and header.SOPInstanceUID not in seen:
            seen.add(header.SOPInstanceUID)
            header.PatientName = NAME
            header.save_as(place / "ward" / f"{NAME} {len(seen)}.dcm")
    return place


def trained_on(run: Path) -> int:
    """Return the number of films that a run has learnt from, chosen by, or been tested on."""
    films = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["cxr"]["films"]
    return sum(len(films[split]) for split in ("train", "val", "test"))


def test_what_a_doctor_corrects_in_a_viewer_is_trained_on(place: Path) -> None:
    pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[dicom]'")
    from cxr.data.sources.sr import read_corrected
    from cxr.data.sources.sr_document import read_report
    from doctors import CARDIOMEGALY, CodedConcept, Region, rectangle, write_doctors_report

    words = (CKPT, "images=ward", "dicom=true", "threshold=0.08", "hydra.run.dir=predicted")
    call("predict.py", place, *words)
    pacs = place / "pacs"
    shutil.copytree(place / "ward", pacs)
    shutil.copytree(place / "predicted" / "dicom", pacs / "ours")
    reports = {next(iter(one.images)): one for one in map(read_report, sorted(pacs.rglob("*-sr.dcm")))}
    expected, kinds = {}, dict.fromkeys(("kept", "moved", "deleted", "added"), 0)
    for film in sorted(pacs.glob("*.dcm")):
        header = dcmread(film, stop_before_pixels=True)
        uid, size = str(header.SOPInstanceUID), (header.Columns, header.Rows)
        boxes = [one for one in reports[uid].statements if one.boxes]
        kept = boxes[: min(4, len(boxes) - 1)]  # the first one is moved, all behind these are deleted
        regions = []
        for n, one in enumerate(kept):
            assert one.code is not None
            box = np.clip(np.array(one.boxes[0]) + (7.25 if n == 0 else 0), 0, 2 * size)
            code = CodedConcept(one.code.value, one.code.scheme, one.code.meaning)
            regions.append(Region(code, rectangle(*box), tracking=one.id))
        regions.append(Region(CARDIOMEGALY, rectangle(3.5, 4, 90, 80.25)))
        write_doctors_report(film, pacs / f"{uid}.dcm", regions, replaces=reports[uid].path)
        expected[uid] = [list(map(float, (*region.points[0], *region.points[2]))) for region in regions]
        more = {"moved": bool(kept), "kept": max(0, len(kept) - 1), "deleted": len(boxes) - len(kept), "added": 1}
        kinds = {kind: count + more[kind] for kind, count in kinds.items()}
    assert kinds["moved"] >= 3, "the detector draws two boxes on some films at least"
    read = read_corrected(pacs, FINDINGS)
    assert {one.film.id for one in read} == set(expected)
    for one in read:
        assert_allclose(sorted(one.film.boxes.tolist()), sorted(expected[one.film.id]), atol=0.5)
        assert one.film.labelled is None
    call("cxr/__main__.py", place, "changes", "pacs", "--out", "changed")
    changed = json.loads((place / "changed" / "changes.json").read_text(encoding="utf-8"))
    assert {kind: sum(of[kind] for of in changed["changes"].values()) for kind in kinds} == kinds
    page = (place / "changed" / "index.html").read_text(encoding="utf-8")
    assert not [word for word in (NAME, "Chen", "Lin Yu-Ting") if word in page]
    call("train.py", place, "data=sr", "data.root=pacs", *SMOKE, "hydra.run.dir=corrected")
    assert trained_on(place / "corrected") == 10


@pytest.mark.parametrize("to", ["labelstudio", "cvat", "coco"])
def test_films_for_annotators_name_nobody_and_what_comes_back_is_trained_on(place: Path, to: str) -> None:
    words = (CKPT, "images=ward", f"to={to}", "longest=256", "threshold=0.05", f"hydra.run.dir=for_{to}")
    run = place / f"for_{to}"
    for _ in range(2):  # the second time nothing is detected
        printed = call("annotate.py", place, *words)
        assert "10 films with" in printed
    assert stat.S_IMODE((run / "key.json").stat().st_mode) == 0o600
    key = read_key(run)
    pictures = sorted(path.name for path in (run / "pictures").iterdir())
    assert list(key) == pictures
    assert [name[:5] for name in pictures] == [f"{n:04d}-" for n in range(1, 11)]
    with Image.open(run / "pictures" / pictures[0]) as picture:
        assert (picture.mode, max(picture.size)) == ("L", 256)
    for path in run.rglob("*"):
        if path.is_file() and path.name not in ("key.json", "key.csv", "command.json") and ".hydra" not in str(path):
            assert b"Lin^Yu" not in path.read_bytes(), path
            assert b"ward" not in path.read_bytes() or path.suffix == ".log", path
    root = {"labelstudio": "tasks.json", "cvat": "annotations.xml", "coco": "annotations.coco.json"}[to]
    if to == "labelstudio":
        tasks = json.loads((run / root).read_text(encoding="utf-8"))
        for task in tasks:
            task["annotations"] = [{"completed_by": 1, "result": task["predictions"][0]["result"]}]
        (run / root).write_text(json.dumps(tasks), encoding="utf-8")
        assert sum(len(film.boxes) for film in read_labelstudio(run / root, FINDINGS, str(run))) > 10
    if to == "cvat":
        text = (run / root).read_text(encoding="utf-8")
        (run / root).write_text(text.replace("</image>", '<tag label="read"/></image>'), encoding="utf-8")
    if to == "coco":
        return  # read by the same path; a training takes seconds
    back = (f"data={to}", f"data.root=for_{to}/{root}", f"data.read.key=for_{to}")
    call("train.py", place, *back, *SMOKE, f"hydra.run.dir=back_{to}")
    assert trained_on(place / f"back_{to}") == 10
