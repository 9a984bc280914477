"""The circle, once round: a detector's boxes go to a doctor, are corrected, come back, and are learnt from."""

import json
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from pydicom import dcmread

from cxr.data.annotation_key import read_key
from cxr.data.corrections import count_changes
from cxr.data.sources.labelstudio import read_labelstudio
from cxr.data.sources.layouts import VOCABULARY, read_vocabulary
from orthanc import is_here, orthanc
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


@dataclass(frozen=True)
class Pacs:
    """A folder of films, our objects and doctors' reports; each film's boxes then, and how many of ours changed."""

    folder: Path
    boxes: dict[str, list[list[float]]]
    changes: dict[str, int]


@pytest.fixture(scope="module")
def pacs(place: Path) -> Pacs:
    """What lies in a PACS after a doctor has moved a box of each film, deleted the last ones, and added one."""
    pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[dicom]'")
    from cxr.data.sources.sr_document import read_report
    from doctors import CARDIOMEGALY, CodedConcept, Region, rectangle, write_doctors_report

    words = (CKPT, "images=ward", "dicom=true", "threshold=0.08", "gate=false", "hydra.run.dir=predicted")
    call("predict.py", place, *words)
    folder = place / "pacs"
    shutil.copytree(place / "ward", folder)
    shutil.copytree(place / "predicted" / "dicom", folder / "ours")
    reports = {next(iter(one.images)): one for one in map(read_report, sorted(folder.rglob("*-sr.dcm")))}
    expected, kinds = {}, dict.fromkeys(("kept", "moved", "deleted", "added"), 0)
    for film in sorted(folder.glob("*.dcm")):
        header = dcmread(film, stop_before_pixels=True)
        uid, size = str(header.SOPInstanceUID), (header.Columns, header.Rows)
        boxes = [one for one in reports[uid].statements if one.boxes]
        kept = boxes[: max(0, min(4, len(boxes) - 1))]  # the first one is moved, all behind these are deleted
        regions = []
        for n, one in enumerate(kept):
            assert one.code is not None
            box = np.clip(np.array(one.boxes[0]) + (7.25 if n == 0 else 0), 0, 2 * size)
            code = CodedConcept(one.code.value, one.code.scheme, one.code.meaning)
            regions.append(Region(code, rectangle(*box), tracking=one.id))
        regions.append(Region(CARDIOMEGALY, rectangle(3.5, 4, 90, 80.25)))
        write_doctors_report(film, folder / f"{uid}.dcm", regions, replaces=reports[uid].path)
        expected[uid] = [list(map(float, (*region.points[0], *region.points[2]))) for region in regions]
        more = {"moved": bool(kept), "kept": max(0, len(kept) - 1), "deleted": len(boxes) - len(kept), "added": 1}
        kinds = {kind: count + more[kind] for kind, count in kinds.items()}
    assert kinds["moved"] >= 3, "the detector draws two boxes on some films at least"
    return Pacs(folder, expected, kinds)


def hold_against(pacs: Pacs, folder: Path) -> None:
    """Hold the boxes that are read of a folder against what the doctor drew."""
    from cxr.data.sources.sr import read_corrected

    read = read_corrected(folder, FINDINGS)
    assert {one.film.id for one in read} == set(pacs.boxes)
    for one in read:
        assert_allclose(sorted(one.film.boxes.tolist()), sorted(pacs.boxes[one.film.id]), atol=0.5)
        assert one.film.labelled is None
    counts = count_changes(read, FINDINGS.names)
    assert {kind: sum(of[kind] for of in counts.values()) for kind in pacs.changes} == pacs.changes


def test_what_a_doctor_corrects_in_a_viewer_is_trained_on(place: Path, pacs: Pacs) -> None:
    hold_against(pacs, pacs.folder)
    call("cxr/__main__.py", place, "changes", "pacs", "--out", "changed")
    changed = json.loads((place / "changed" / "changes.json").read_text(encoding="utf-8"))
    assert {kind: sum(of[kind] for of in changed["changes"].values()) for kind in pacs.changes} == pacs.changes
    page = (place / "changed" / "index.html").read_text(encoding="utf-8")
    assert not [word for word in (NAME, "Chen", "Lin Yu-Ting") if word in page]
    call("train.py", place, "data=sr", "data.root=pacs", *SMOKE, "hydra.run.dir=corrected")
    assert trained_on(place / "corrected") == 10


def test_it_comes_back_through_an_archive(place: Path, pacs: Pacs, tmp_path: Path) -> None:
    if not is_here():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed: apt install orthanc orthanc-dicomweb")
    pytest.importorskip("dicomweb_client", reason="the extra is not installed: pip install 'cxr[serve]'")
    with orthanc(tmp_path / "orthanc") as archive:
        for path in sorted(pacs.folder.rglob("*.dcm")):
            archive.store(path)
        words = ("fetch", archive.address, str(tmp_path / "fetched"), "--modality", "CR", "DX", "SR")
        call("cxr/__main__.py", place, *words, NETRC=str(tmp_path / "orthanc" / "netrc"), NO_PROXY="127.0.0.1")
    hold_against(pacs, tmp_path / "fetched")


@pytest.mark.parametrize("to", ["labelstudio", "cvat", "coco"])
def test_films_for_annotators_name_nobody_and_what_comes_back_is_trained_on(place: Path, to: str) -> None:
    words = (CKPT, "images=ward", f"to={to}", "longest=256", "threshold=0.05", "gate=false", f"hydra.run.dir=for_{to}")
    run = place / f"for_{to}"
    for _ in range(2):  # the second time nothing is detected
        printed = call("annotate.py", place, *words)
        assert "10 films with" in printed
        assert printed.endswith(f"data.read.key={run} experiment=smoke model.weights=run/checkpoints/best.ckpt\n")
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
