"""End to end: predict.py over an archive and in shards says what it says over a folder, to the bit."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, RLELossless

from orthanc import PASSWORD, Orthanc, is_here, orthanc
from scripts import ROOT, call, start, table

pytestmark = pytest.mark.slow

CKPT = "ckpt=run/checkpoints/best.ckpt"
DATES = "20200101-20201231"
WANTED = 12
COMPRESSED = {1: RLELossless, 6: JPEG2000Lossless, 11: JPEG2000Lossless}
TABLES = ("detections.json", "images.json", "detections.csv", "films.csv")


@pytest.fixture(scope="module")
def films(place: Path) -> Path:
    """Twelve films of 2020 of CR and DX, three of them compressed, and beside them others that are not asked for."""
    drawn = sorted((place / "data").rglob("*.dcm"))
    (place / "films" / "ward").mkdir(parents=True)
    (place / "others").mkdir()
    for n, path in enumerate(drawn[: WANTED + 3]):
        film, study = dcmread(path), 5 if n == WANTED + 1 else n // 2  # two films a study
        film.StudyInstanceUID, film.SeriesInstanceUID = f"1.2.{study}", f"1.2.{study}.{n}"
        film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = f"1.2.{study}.{n}.1"
        film.PatientName, film.PatientID = "Lin^Yu-Ting", f"H{study}"
        film.StudyDate, film.Modality = f"2020{study + 1:02}15", "DX" if n % 4 == 3 else "CR"
        if n in COMPRESSED:
            film.compress(COMPRESSED[n], generate_instance_uid=False)
        if n == WANTED:
            film.StudyDate = "20191231"
        if n == WANTED + 1:
            film.Modality = "CT"  # in a study with films that are asked for
        if n == WANTED + 2:
            film.StudyDate = "20210101"
        folder = place / "films" / "ward" if n < WANTED else place / "others"
        film.save_as(folder / f"{film.SOPInstanceUID}.dcm")
    (place / "films" / "readme.txt").write_text("no film")
    return place / "films"


@pytest.fixture(scope="module")
def folder(place: Path, films: Path) -> Path:
    """The run over the folder, whose tables show pseudonyms, in the order of the films' names: that of their UIDs."""
    call("predict.py", place, CKPT, "images=films/ward", "names=pseudonyms", "hydra.run.dir=over_folder")
    return place / "over_folder"


@pytest.fixture(scope="module")
def archive(place: Path, films: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if not is_here():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed: apt install orthanc orthanc-dicomweb")
    if importlib.util.find_spec("dicomweb_client") is None:
        pytest.skip("the extra is not installed: pip install 'cxr[serve]'")
    with orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        for film in (*films.rglob("*.dcm"), *(place / "others").iterdir()):
            server.store(film)
        yield server


def words(archive: Orthanc, *more: str) -> tuple[str, ...]:
    return (CKPT, f"images={archive.address}", f"dates={DATES}", *more)


def netrc(archive: Orthanc) -> dict[str, str]:
    return {"NETRC": str(archive.folder / "netrc"), "NO_PROXY": "127.0.0.1"}


def result(run: Path) -> dict[str, Any]:
    content = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return {key: content[key] for key in ("status", "films", "failed", "not_assessed", "problems", "algorithm")}


def assert_the_same(run: Path, other: Path) -> None:
    for name in TABLES:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert result(run) == result(other)


def merge(place: Path, folder: str, code: int = 0) -> str:
    return cxr(place, "merge", folder, code=code)


def cxr(place: Path, *words: str, code: int = 0, **more: str) -> str:
    command = [sys.executable, "-m", "cxr", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_an_archive_gives_the_answers_of_the_folder_and_names_nobody(
    place: Path, archive: Orthanc, folder: Path
) -> None:
    out = call("predict.py", place, *words(archive, "hydra.run.dir=archived"), **netrc(archive))
    run = place / "archived"
    assert_the_same(run, folder)
    key = table(run / "key.csv")
    sops = [f"1.2.{n // 2}.{n}.1" for n in range(WANTED)]
    assert sorted(row["SOPInstanceUID"] for row in key) == sorted(sops)
    assert all(row["path"].endswith(f"/instances/{row['SOPInstanceUID']}") for row in key)
    assert not (run / "fetched").exists()
    for path in (run / "films.list", run / "key.csv"):
        assert path.stat().st_mode & 0o077 == 0
    for path in [path for path in run.rglob("*") if path.is_file()]:
        text = path.read_text(encoding="utf-8")
        assert PASSWORD not in text, path
        assert "Lin" not in text, path
        if path.name not in ("films.list", "key.csv"):
            assert not [sop for sop in sops if sop in text], path
    assert not [sop for sop in sops if sop in out]


def test_a_killed_run_goes_on_with_its_own_list_and_counts_what_is_gone(
    place: Path, archive: Orthanc, films: Path
) -> None:
    stops = "import cxr.report.journal as j, time; add = j.Journal.add\n"  # behind the fourth film, until it is killed
    stops += "j.Journal.add = lambda self, done: (add(self, done), time.sleep(600 if len(self) == 4 else 0))[0]"
    extra = importlib.util.find_spec("highdicom") is not None
    more = words(archive, "hydra.run.dir=killed", "batch=1", "workers=1", "pictures=true", f"dicom={extra}")
    job = start("predict.py", place, *more, before=stops, **netrc(archive))
    journal, deadline = place / "killed" / "films.jsonl", time.monotonic() + 300  # on the slowest machine
    while not journal.exists() or len(journal.read_bytes().splitlines()) < 4:
        assert time.monotonic() < deadline
        assert job.poll() is None, job.printed()
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.wait()
    before = journal.read_bytes().splitlines()
    assert len(before) == 4
    film = dcmread(films / "ward" / "1.2.0.0.1.dcm")  # comes into the archive in between
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = "1.2.0.0.9"
    film.save_as(place / "new.dcm")
    new = archive.store(place / "new.dcm")
    gone = films / "ward" / "1.2.5.11.1.dcm"  # and this one, the last in the list, is deleted
    (name,) = archive.ask("tools/lookup", b"1.2.5.11.1")
    archive.ask(f"instances/{name['ID']}", method="DELETE")
    try:
        out = call("predict.py", place, *more, **netrc(archive))
    finally:
        archive.ask(f"instances/{new}", method="DELETE")
        archive.store(gone)
    after = journal.read_bytes().splitlines()
    assert after[: len(before) - 1] == before[:-1]  # the last line may have been cut short
    assert sorted(json.loads(line)["number"] for line in after) == list(range(1, WANTED + 1))
    told = result(place / "killed")
    assert (told["films"], told["failed"]) == (WANTED - 1, 1)
    assert told["problems"] == [f"film {WANTED}: cannot be retrieved: the archive answers 404"]
    assert told["problems"][0] in out
    assert len(list((place / "killed" / "pictures").iterdir())) == WANTED - 1
    assert len(list((place / "killed" / "dicom").glob("*-sr.dcm"))) == (WANTED - 1 if extra else 0)
    assert not (place / "killed" / "fetched").exists()


def test_shards_of_an_archive_and_their_merge_are_the_run_over_all(place: Path, archive: Orthanc, folder: Path) -> None:
    more = ("name=archive", "shard=0,1,2", "shards=3", "workers=1")
    call("predict.py", place, "-m", *words(archive, *more), **netrc(archive))
    runs = list((place / "outputs/sweeps/archive").glob("*/result.json"))
    assert sum(json.loads(run.read_text())["films"] for run in runs) == WANTED
    assert len(runs) == 3
    merge(place, "outputs/sweeps/archive")
    merged = place / "outputs/sweeps/archive/merged"
    assert_the_same(merged, folder)
    assert {row["SOPInstanceUID"] for row in table(merged / "key.csv")} == {
        row["SOPInstanceUID"] for row in table(folder / "key.csv")
    }


def test_an_archive_that_is_not_there_or_does_not_let_us_in_is_one_message(place: Path, archive: Orthanc) -> None:
    out = call(
        "predict.py", place, *words(archive, "hydra.run.dir=refused"), code=2, NETRC="/nowhere", NO_PROXY="127.0.0.1"
    )
    assert "answers 401: it does not let us in; type token=FILE" in out
    assert "Traceback" not in out
    assert not (place / "refused").exists()
    out = call("predict.py", place, *words(archive, "modality=MG"), code=2, **netrc(archive))
    assert f"has no film of modality MG of {DATES}" in out


def test_an_archive_that_stays_away_ends_the_run_with_1_and_the_same_command_goes_on(
    place: Path, archive: Orthanc
) -> None:
    """1 and not 2, as nothing that was typed is wrong: a queue of jobs may begin it again."""
    gone = "import cxr.data.archive as a\n"
    gone += "was, asked = a.Archive.retrieve, []\n"
    gone += "def retrieve(self, film):\n"
    gone += "    asked.append(film)\n"
    gone += "    if len(asked) > 5: raise a.ArchiveAwayError('the archive does not answer')\n"
    gone += "    return was(self, film)\n"
    gone += "a.Archive.retrieve = retrieve"
    more = words(archive, "hydra.run.dir=left", "batch=1", "workers=1")
    out = call("predict.py", place, *more, before=gone, code=1, **netrc(archive))
    assert "the archive does not answer. The same command then goes on from what is kept" in out
    assert "Traceback" not in out
    assert not (place / "left" / "result.json").exists()
    before = (place / "left" / "films.jsonl").read_bytes().splitlines()
    assert 0 < len(before) <= 5
    call("predict.py", place, *more, **netrc(archive))
    after = (place / "left" / "films.jsonl").read_bytes().splitlines()
    assert after[: len(before)] == before
    assert sorted(json.loads(line)["number"] for line in after) == list(range(1, WANTED + 1))
    assert (result(place / "left")["films"], result(place / "left")["failed"]) == (WANTED, 0)


def test_an_archive_that_is_away_from_the_start_ends_with_1_and_leaves_no_folder(place: Path) -> None:
    if importlib.util.find_spec("dicomweb_client") is None:
        pytest.skip("the extra is not installed: pip install 'cxr[serve]'")
    nobody = ("images=dicomweb://127.0.0.1:9/dicom-web", "hydra.run.dir=nobody")  # the port of "discard", never served
    soon = "import cxr.data.archive as a; a._PAUSES_S = ()"
    out = call("predict.py", place, CKPT, *nobody, before=soon, code=1, NO_PROXY="127.0.0.1")
    assert "http://127.0.0.1:9/dicom-web does not answer (ConnectionError), also after 1 tries in 0 s" in out
    assert not (place / "nobody").exists()
    out = cxr(place, "annotate", CKPT, "to=coco", nobody[0], code=2)
    assert "an archive is read by predict.py alone; copy its films with `python -m cxr fetch ARCHIVE FOLDER`" in out


def test_films_and_reports_are_copied_into_a_folder_once(place: Path, archive: Orthanc, films: Path) -> None:
    words = ("fetch", archive.address, "copied", "--dates", "20200101-20200131", "--modality", "CR", "SR")
    cxr(place, *words, **netrc(archive))
    copies = {dcmread(path).SOPInstanceUID: path for path in (place / "copied").rglob("*") if path.is_file()}
    assert sorted(copies) == ["1.2.0.0.1", "1.2.0.1.1"]
    for sop, path in copies.items():
        original = dcmread(films / "ward" / f"{sop}.dcm")
        assert dcmread(path).PixelData == original.PixelData
        assert dcmread(path).file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
        path.write_bytes(b"kept")
    cxr(place, *words, **netrc(archive))
    assert [path.read_bytes() for path in copies.values()] == [b"kept"] * 2
    assert (place / "copied").stat().st_mode & 0o077 == 0


def test_shards_of_a_folder_and_their_merge_are_the_run_over_all(place: Path, films: Path) -> None:
    shutil.copy(next((films / "ward").iterdir()), films / "ward-1.dcm")
    (films / "broken.dcm").write_bytes(b"<html>")
    call("predict.py", place, CKPT, "images=films", "hydra.run.dir=whole")
    words = ("-m", CKPT, "images=films", "name=ward", "shard=0,1,2", "shards=3", "workers=1")
    call("predict.py", place, *words)
    out = merge(place, "outputs/sweeps/ward")
    assert "holds identities" in out
    merged = place / "outputs/sweeps/ward/merged"
    assert_the_same(merged, place / "whole")
    assert (merged / "key.csv").read_bytes() == (place / "whole" / "key.csv").read_bytes()
    one = next((place / "outputs/sweeps/ward").glob("*shard=1*"))
    (one / "result.json").unlink()
    assert "has not ended" in merge(place, "outputs/sweeps/ward", code=2)
    call("predict.py", place, *words)  # only this shard has anything to do
    merge(place, "outputs/sweeps/ward")
    assert_the_same(merged, place / "whole")
    (films / "ward-1.dcm").unlink()
    (films / "broken.dcm").unlink()
