"""Films in and answers out by HTTP, without a detector: a test answers them itself."""

import threading
from pathlib import Path

import pytest
from PIL import Image

from cxr.measure.promises import KeptPromises
from cxr.measure.risk_control import Promise
from cxr.read.chest_films import Reason
from cxr.serve.queue import State
from web_service import answer, client, film, limits, refuse_to_assess, service


def test_a_film_is_on_the_disk_and_in_the_queue_before_it_is_answered(tmp_path: Path) -> None:
    served = service(tmp_path)
    posted = client(served).post("/films", content=film())
    assert posted.status_code == 202
    assert posted.headers["location"] == "/films/1"
    assert posted.json()["state"] == "received"
    assert "assessed" not in posted.json()
    (stored,) = (tmp_path / "films").glob("*.dcm")
    assert stored.read_bytes() == film()
    assert served.queue.get(1).source == "http@testclient"


def test_the_answer_is_waited_for_and_has_boxes_in_pixels_of_the_film_from_the_threshold_up(tmp_path: Path) -> None:
    served = service(tmp_path)

    def detect() -> None:
        with served.queue.changed:
            assert served.queue.changed.wait_for(lambda: served.queue.counts()[State.RECEIVED] == 1, 60)
        answer(served, served.queue.get(1), scores=(0.9, 0.2))

    detector = threading.Thread(target=detect)
    detector.start()
    posted = client(served, allowed=limits(wait=60)).post("/films", content=film())
    detector.join()
    assert posted.status_code == 200
    told = posted.json()
    assert told["assessed"] is True
    assert told["detections"] == [{"finding": "nodule", "score": 0.9, "box": [1.0, 2.0, 10.0, 20.5]}]
    assert (told["width"], told["height"]) == (48, 64)
    assert told["screening"] == {"abnormal": True, "threshold": 0.4, "wanted_sensitivity": 0.99}  # .4 is at the point
    assert client(served).get("/films/1").json() == told


@pytest.mark.parametrize(("score", "abnormal"), [(0.4, True), (0.3999999, False)])
def test_a_film_is_put_aside_only_below_the_operating_point(tmp_path: Path, score: float, abnormal: bool) -> None:
    served = service(tmp_path)
    client(served).post("/films", content=film())
    answer(served, served.queue.get(1), abnormal=score)
    told = client(served).get("/films/1").json()
    assert told["screening"]["abnormal"] is abnormal
    assert (told["abnormal"] >= told["screening"]["threshold"]) is abnormal  # the printed numbers agree


def test_without_an_operating_point_nothing_is_said_of_screening(tmp_path: Path) -> None:
    served = service(tmp_path, point=None)
    client(served).post("/films", content=film())
    answer(served, served.queue.get(1))
    assert client(served).get("/films/1").json()["screening"] is None


def test_a_promise_stands_in_the_answer_and_on_the_page(tmp_path: Path) -> None:
    kept = KeptPromises("val", {"nodule": Promise(0.1, 0.3, 50, 0.08)}, screening=Promise(0.1, 0.4, 60, 0.09))
    served = service(tmp_path, promises=kept)
    client(served).post("/films", content=film())
    answer(served, served.queue.get(1))
    promises = client(served).get("/films/1").json()["promises"]
    assert "at most 10 % are missed" in promises[0]
    assert "60 abnormal patients" in promises[1]
    page = client(served).get("/").text
    assert all(line in page for line in promises)


def test_a_film_that_is_not_assessed_says_why_and_nothing_else(tmp_path: Path) -> None:
    served = service(tmp_path)
    client(served).post("/films", content=film())
    refuse_to_assess(served, served.queue.get(1), Reason("lateral", "ViewPosition is LL, not a frontal view"))
    again = client(served).post("/films", content=film())  # the same film: its answer is there
    assert again.status_code == 200
    told = again.json()
    assert told["assessed"] is False
    assert told["reason"] == {"cause": "lateral", "text": "ViewPosition is LL, not a frontal view"}
    assert not {"detections", "screening", "abnormal", "finding_scores"} & set(told)


def test_a_film_that_failed_is_an_error_with_its_reason(tmp_path: Path) -> None:
    served = service(tmp_path)
    client(served).post("/films", content=film())
    served.queue.give_up(1, "it could not be decoded")
    told = client(served).get("/films/1").json()
    assert (told["state"], told["note"]) == ("failed", "it could not be decoded")


def test_a_form_brings_one_film(tmp_path: Path) -> None:
    served = service(tmp_path)
    posted = client(served).post("/films", files={"film": ("LIN YU-TING.dcm", film())}, data={"note": "chest"})
    assert posted.status_code == 202
    assert "LIN" not in posted.text
    two = [("film", ("a.dcm", film("a"))), ("film", ("b.dcm", film("b")))]
    refused = client(served).post("/films", files=two)
    assert (refused.status_code, refused.json()["detail"]) == (400, "the form has 2 files, expected one film")
    assert sum(served.queue.counts().values()) == 1


def test_a_picture_is_taken(tmp_path: Path) -> None:
    served = service(tmp_path)
    Image.new("L", (64, 64), 100).save(tmp_path / "film.png")
    posted = client(served).post("/films", content=(tmp_path / "film.png").read_bytes())
    assert posted.status_code == 202
    assert served.queue.get(1).picture


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"<html><body>404</body></html>", 422, "not_dicom"),
        (film()[:-100], 422, "truncated"),
        (film(modality="CT"), 415, "no_film"),
        (film() + b"\0" * 2**20, 413, "too_large"),
    ],
    ids=["html", "truncated", "ct", "large"],
)
def test_what_is_no_film_is_refused_counted_and_not_kept(
    tmp_path: Path, content: bytes, status: int, reason: str
) -> None:
    served = service(tmp_path)
    refused = client(served).post("/films", content=content)
    assert refused.status_code == status
    assert refused.json()["detail"]
    assert served.counters.refusals() == {reason: 1}
    assert not list((tmp_path / "films").iterdir())
    assert sum(served.queue.counts().values()) == 0


def test_another_film_of_the_same_uid_is_refused(tmp_path: Path) -> None:
    served = service(tmp_path)
    client(served).post("/films", content=film())
    refused = client(served).post("/films", content=film(PatientName="Lin^Yu-Ting"))
    assert refused.status_code == 409
    assert served.counters.refusals() == {"duplicate": 1}


def test_a_full_disk_takes_nothing_and_is_not_well(tmp_path: Path) -> None:
    served = service(tmp_path, free_mb=1e12)
    refused = client(served).post("/films", content=film())
    assert refused.status_code == 507
    assert served.counters.refusals() == {"full": 1}
    health = client(served).get("/health")
    assert (health.status_code, health.json()["disk"], health.json()["worker"]) == (503, False, True)


def test_an_unknown_film_is_not_there(tmp_path: Path) -> None:
    served = service(tmp_path)
    for path in ("/films/7", "/films/99999999999999999999", "/films/7/picture"):
        assert client(served).get(path).status_code == 404
    assert client(served).post("/films/7/again").status_code == 404


def test_a_picture_with_boxes_is_given_to_the_page(tmp_path: Path) -> None:
    served = service(tmp_path)
    client(served).post("/films", content=film())
    assert client(served).get("/films/1/picture").status_code == 404
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / f"{served.queue.get(1).name}.jpg")
    given = client(served).get("/films/1/picture")
    assert (given.status_code, given.headers["content-type"]) == (200, "image/jpeg")


def test_health_is_503_where_the_worker_has_ended(tmp_path: Path) -> None:
    served = service(tmp_path)
    client(served).post("/films", content=film())
    assert client(served).get("/health").json() == {
        "well": True, "worker": True, "disk": True, "queue": True, "waiting": 1,
    }  # fmt: skip
    ended = type(served)(**{**vars(served), "alive": lambda: False})
    assert client(ended).get("/health").status_code == 503


def test_an_error_of_the_program_quotes_no_film(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    served = service(tmp_path)

    def fail() -> bool:
        raise RuntimeError("Lin^Yu-Ting")

    broken = type(served)(**{**vars(served), "alive": fail})
    told = client(broken).get("/health")
    assert told.status_code == 500
    assert "Lin" not in told.text + caplog.text
    assert "RuntimeError in test_web.py" in caplog.text
