"""What a training keeps beside its weights, in whole runs: promises for predict.py, a reference for serve.py."""

import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.uid import generate_uid

from scripts import LEARNING, Job, call, start, table
from test_serve import free_port, wait_for

pytestmark = pytest.mark.slow

CKPT = "ckpt=run/checkpoints/best.ckpt"
# 40 validation films: enough patients for a promise of a tenth, and for a first look at a week
ENOUGH = ("data.read.films=80", "data.val_fraction=0.5", "trainer.max_epochs=8", "+trainer.check_val_every_n_epoch=8")
FIRST_LOOK = 25


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a training whose checkpoint holds promises, and a reference of its validation films."""
    place = tmp_path_factory.mktemp("learned")
    call("train.py", place, *LEARNING, *ENOUGH, "callbacks.page.films=1")
    return place


def test_a_single_checkpoint_shows_from_the_promised_score_up(learned: Path) -> None:
    kept = torch.load(learned / "run" / "checkpoints" / "best.ckpt", weights_only=True)["cxr"]["promises"]
    tenth = {name: next(one for one in levels if one["level"] == 0.1) for name, levels in kept["findings"].items()}
    promised = {name: one["threshold"] for name, one in tenth.items() if one["threshold"] is not None}
    assert promised, tenth
    words = ("images=data/phantom_smoke/test/image", "gate=false")
    printed = call("predict.py", learned, CKPT, *words, "threshold=risk", "hydra.run.dir=risk")
    said = " ".join(printed.split())
    assert "Promise: of the boxes of a finding at most 10 % are missed" in said
    assert all(f"{name.replace('_', ' ')} {tenth[name]['patients']}" in said for name in promised)
    usual = dict.fromkeys(tenth, 0.3) | promised
    boxes = Counter({name.replace("_", " "): 0 for name in usual})
    for row in table(learned / "risk" / "detections.csv"):  # it holds all of them, whatever is shown
        boxes[row["finding"].replace("_", " ")] += float(row["score"]) >= usual[row["finding"]]
    shown = (line.split("│")[1:3] for line in printed.splitlines() if line.count("│") == 4)
    assert {name.strip(): int(number) for name, number in shown if name.strip() in boxes} == boxes
    assert any(boxes[name.replace("_", " ")] for name in promised)
    rows = {row["of"]: row["threshold"] for row in table(learned / "risk" / "promises.csv")}
    assert {name: float(rows[name]) for name in promised} == pytest.approx(promised)
    refused = call("predict.py", learned, CKPT, *words, "threshold={risk: 0.01}", "hydra.run.dir=refused", code=2)
    assert "99 are needed" in " ".join(refused.split())


def noisy(film: Path, patient: int) -> bytes:
    """A film as a machine with much noise takes it, of another patient."""
    dicom = dcmread(film)
    pixels = dicom.pixel_array.astype(float)
    noise = np.random.default_rng(patient).normal(0, 0.1 * np.ptp(pixels), pixels.shape)
    dicom.PixelData = np.clip(pixels + noise, pixels.min(), pixels.max()).astype(dicom.pixel_array.dtype).tobytes()
    dicom.PatientID, dicom.StudyInstanceUID = f"NOISY{patient}", generate_uid()
    dicom.SOPInstanceUID = dicom.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    copy = film.with_name(f"noisy_{patient}.dcm")
    dicom.save_as(copy)
    return copy.read_bytes()


def service(place: Path, port: int) -> Job:
    words = ("dicom=null", f"http=127.0.0.1:{port}", "gate=false", "free_mb=1", "hydra.run.dir=served")
    return start("serve.py", place, CKPT, *words)


def test_a_week_of_other_films_is_told_on_the_page_in_the_metrics_and_in_the_log(learned: Path) -> None:
    films = sorted((learned / "data").rglob("*.dcm"))[:FIRST_LOOK]
    job = service(learned, port := free_port())
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as asks:

        def metrics() -> dict[str, float]:
            lines = asks.get("/metrics").text.splitlines()
            return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}

        def seen(patients: int) -> bool:
            return wait_for(lambda: metrics()['cxr_week_patients{week="this"}'] == patients, 120)

        assert wait_for(lambda: job.poll() is not None or answers(asks), 120)
        assert job.poll() is None, job.printed()
        for patient, film in enumerate(films):
            if patient == FIRST_LOOK - 1:  # a week of 24 patients is not looked at
                assert seen(FIRST_LOOK - 1), job.printed()
                assert metrics()['cxr_films_differ{week="this"}'] == 0
                assert "24 patients so far; the first look is at 25" in asks.get("/").text
            answer = asks.post("/films?wait=0", content=noisy(film, patient))
            assert answer.status_code in (200, 202), answer.text
        assert seen(FIRST_LOOK), job.printed()
        assert metrics()['cxr_films_differ{week="this"}'] == 1
        assert metrics()['cxr_films_distance{feature="noise",week="this"}'] > 0.9
        assert "These films differ from those that the detector was chosen on, in: " in asks.get("/").text
    job.send_signal(signal.SIGTERM)
    assert job.wait() == 0, job.printed()
    (told,) = [line for line in job.printed().splitlines() if "this week: " in line]
    assert "noise" in told
    assert "NOISY" not in job.printed()


def answers(asks: httpx.Client) -> bool:
    """Whether the service listens."""
    try:
        return asks.get("/metrics").status_code == 200
    except httpx.TransportError:
        time.sleep(0.1)
        return False
