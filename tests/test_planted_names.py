"""A patient's name, id, birth date and institution, in headers and in paths, are in no file that the scripts leave.

But for those that exist to hold them: ``key.csv``, the DICOM objects, which belong to the patient's study, and what was
typed (``command.json``, ``.hydra``, logs).
"""

import importlib.util
import json
import re
import shutil
import signal
import socket
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from scripts import Job, call, start

pytestmark = pytest.mark.slow

CKPT = "ckpt=run/checkpoints/best.ckpt"
NAME, NUMBER, BORN, HOSPITAL = "Lin^Yu-Ting", "H12345678", "19400305", "Planted Memorial"
FOLDER = "Lin_Yu-Ting"
PLANTED = (NAME, "Lin Yu-Ting", FOLDER, "LINYUTING", "LIN YUTING", NUMBER, BORN, HOSPITAL)


@pytest.fixture(scope="module")
def place(place: Path) -> Path:
    """A detector, and films and a data set of a patient in folders of her name; some films are broken or no chest's."""
    films = sorted((place / "data" / "phantom_smoke" / "test").rglob("*.dcm"))
    (place / FOLDER).mkdir()
    odd = {"PatientName": "LIN YUTING"}  # without a caret: libraries warn of it
    for n, changes in enumerate((odd, {"BodyPartExamined": "LIN YUTING"}, {"ViewPosition": "LAT LINYUTING"}, {})):
        shutil.copy(films[n], place / FOLDER / f"{FOLDER} {n}.dcm")
        plant(place / FOLDER / f"{FOLDER} {n}.dcm", **changes)
    (place / FOLDER / f"{FOLDER} broken.dcm").write_bytes(films[0].read_bytes()[:900])
    shutil.copytree(place / "data" / "phantom_smoke", place / f"{FOLDER}_course")
    for film in sorted((place / f"{FOLDER}_course" / "test").rglob("*.dcm")):
        plant(film)
    film.write_bytes(film.read_bytes()[:900])
    return place


def plant(path: Path, **changes: str) -> None:
    film = dcmread(path)
    film.PatientName, film.PatientID, film.PatientBirthDate, film.InstitutionName = NAME, NUMBER, BORN, HOSPITAL
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    film.StudyDescription = film.ImageComments = "Lin Yu-Ting"
    for name, value in changes.items():
        setattr(film, name, value)
    film.save_as(path)


def named(run: Path) -> dict[str, list[str]]:
    """Return the files of a run that hold a planted word, or have one in their own name, and which."""
    typed = {"command.json", "key.csv"}
    planted = {}
    for path in sorted(run.rglob("*")):
        below = path.relative_to(run)
        words = [word for word in PLANTED if word in str(below)]
        if path.is_file() and path.name not in typed and ".hydra" not in below.parts and path.suffix != ".log":
            content = path.read_bytes() if path.parent.name != "dicom" else b""
            words += [word for word in PLANTED for text in (word, json.dumps(word)[1:-1]) if text.encode() in content]
        if words:
            planted[str(below)] = words
    return planted


def test_a_prediction_names_nobody(place: Path) -> None:
    dicom = importlib.util.find_spec("highdicom") is not None
    words = (CKPT, f"images={FOLDER}", "pictures=true", f"dicom={dicom}", "names=pseudonyms", "hydra.run.dir=predicted")
    call("predict.py", place, *words)
    run = place / "predicted"
    assert named(run) == {}
    assert FOLDER in (run / "key.csv").read_text(encoding="utf-8")
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert (result["films"], result["failed"], result["not_assessed"]) == (2, 1, {"lateral": 1, "other_part": 1})
    for path in (run / "films.jsonl", run / "films.csv", run / "images.json"):
        assert "1.2.826.0.1.3680043.8.498" not in path.read_text(encoding="utf-8")  # pydicom's root: the planted UIDs


def test_a_prediction_with_paths_names_them_in_the_tables_alone(place: Path) -> None:
    call("predict.py", place, CKPT, f"images={FOLDER}", "hydra.run.dir=paths")
    assert set(named(place / "paths")) == {"detections.csv", "films.csv", "images.json"}


def test_an_explanation_names_nobody(place: Path) -> None:
    words = (CKPT, f"images={FOLDER}", "cam=box", "sanity_films=0", "threshold=0.05", "hydra.run.dir=explained")
    out = call("explain.py", place, *words)
    assert named(place / "explained") == {}
    result = json.loads((place / "explained/result.json").read_text(encoding="utf-8"))
    assert (result["films"], len(result["unreadable"]), len(result["not_assessed"])) == (2, 1, 2)
    assert f"{FOLDER} broken.dcm" in out  # for whoever typed the folder
    assert named(place / ".cache") == {}


def test_an_evaluation_names_nobody(place: Path) -> None:
    words = (CKPT, "data=course", f"data.root={FOLDER}_course", "split=all", "samples=20", "hydra.run.dir=evaluated")
    call("evaluate.py", place, *words)
    run = place / "evaluated"
    assert named(run) == {}
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert len(metrics["films"]["unreadable"]) == 1
    seen = metrics["checkpoints"]["A"]["these_films"]
    assert (seen["trained_on"], seen["operating_point_chosen_on"], seen["new"]) == (21, 3, 7)  # copies, one is broken
    page = (run / "index.html").read_text(encoding="utf-8")
    assert str(escape(seen["in_words"])) in page
    assert "trained on 21: the figures flatter it" in page


def test_a_service_names_nobody(place: Path) -> None:
    """Its log is looked at too: nobody has typed the name of a film. ``films`` and ``dicom`` belong to the patient."""
    pytest.importorskip("fastapi", reason="the extra serve")
    import httpx

    service = start("serve.py", place, CKPT, "dicom=null", "http=127.0.0.1:0", "workers=1", "hydra.run.dir=serving")
    try:
        url = address(service)
        films = [(film.name, film.read_bytes()) for film in sorted((place / FOLDER).iterdir())]
        answers = [httpx.post(f"{url}/films", files={"film": film}, timeout=60) for film in films]
        pages = [
            httpx.get(f"{url}/{path}", timeout=60).text for path in ("", "metrics", "health", "films/1", "films/2")
        ]
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(60) == 0, service.printed()
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 422]
    seen = service.printed() + "".join(pages + [answer.text for answer in answers])
    seen += (place / "serving" / "serve.log").read_text(encoding="utf-8")
    assert not [word for word in PLANTED if word in seen]
    hold_the_patient = ("films", "dicom")
    assert {name for name in named(place / "serving") if not name.startswith(hold_the_patient)} == set()
    assert len(list((place / "serving" / "pictures").glob("*.jpg"))) == 4


def test_a_service_that_films_are_sent_to_names_nobody(place: Path) -> None:
    """By C-STORE, through processes that decode, to an archive that wants another encoding, with what is refused."""
    pytest.importorskip("pynetdicom", reason="the extra serve")
    import httpx

    port, films = free_port(), sent_films(place)
    with archive() as (objects, to):
        words = (CKPT, f"dicom=127.0.0.1:{port}", f"allow=[PACS@127.0.0.1:{to}]", "http=127.0.0.1:0", "workers=2")
        service = start("serve.py", place, *words, "hydra.run.dir=sent_to")
        try:
            url = address(service)
            statuses = Counter(store(film, port) for film in films)
            assert statuses == {0x0000: 14, 0xC000: 1, 0xA900: 1}
            end = time.monotonic() + 240
            while len(objects) < 3 * 10 + 2 * 4 and time.monotonic() < end:  # of films that are not assessed two
                time.sleep(0.1)
            pages = [httpx.get(f"{url}/{path}", timeout=60).text for path in ("", "metrics", "health", "films/1")]
        finally:
            service.send_signal(signal.SIGTERM)
            assert service.wait(120) == 0, service.printed()
    assert len(objects) == 3 * 10 + 2 * 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert {str(dcmread(BytesIO(made)).PatientID) for made in objects} == {
            NUMBER
        }  # they belong to her, as the standard demands
    seen = service.printed() + "".join(pages) + (place / "sent_to" / "serve.log").read_text(encoding="utf-8")
    assert not [word for word in PLANTED if word in seen]
    assert not [film for film in films if str(film.SOPInstanceUID) in seen]
    hold_the_patient = ("films", "dicom")
    assert {name for name in named(place / "sent_to") if not name.startswith(hold_the_patient)} == set()
    assert len(list((place / "sent_to" / "pictures").glob("*.jpg"))) == 14


def sent_films(place: Path) -> list[Dataset]:
    """Fourteen films of the patient, of which four are not assessed, and two that are refused."""
    films = []
    for n, path in enumerate(sorted(path for path in (place / FOLDER).iterdir() if "broken" not in path.name) * 4):
        film = dcmread(path)
        film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            film.AccessionNumber, film.PatientSex = "LIN YUTING LINYUTING", "LIN YUTING"  # neither is in standard
        films.append(film)
        if n % 4 in (1, 2) and n >= 8:
            film.BodyPartExamined, film.ViewPosition = "CHEST", "PA"
    films[14].PixelData = films[14].PixelData[:-2000]
    films[15].SOPClassUID, films[15].Modality = SecondaryCaptureImageStorage, "LIN YUTING"
    films[15].file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    return films


def store(film: Dataset, port: int) -> int:
    """Send a film as PACS; the status of the answer."""
    from pynetdicom import AE

    entity = AE("PACS")
    entity.add_requested_context(film.SOPClassUID, film.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="CXR")
    status = association.send_c_store(film)
    association.release()
    return int(status.Status)


@contextmanager
def archive() -> Iterator[tuple[list[bytes], int]]:
    """A PACS that takes objects in implicit VR alone; yields them, and its port."""
    from pynetdicom import AE, AllStoragePresentationContexts, evt

    objects: list[bytes] = []

    def keep(event: Any) -> int:
        objects.append(event.encoded_dataset())
        return 0x0000

    entity = AE("PACS")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, ImplicitVRLittleEndian)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    assert server is not None
    try:
        yield objects, server.server_address[1]
    finally:
        server.shutdown()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def address(service: Job) -> str:
    """Where a service listens, as soon as it says so."""
    end = time.monotonic() + 240
    while time.monotonic() < end and service.poll() is None:
        if said := re.search(r"http://127\.0\.0\.1:\d+", service.printed()):
            return said.group()
        time.sleep(0.1)
    raise AssertionError(service.printed())
