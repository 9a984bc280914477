"""The page of the service and its numbers: what they say, and that they name nobody."""

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr.detect.prediction import NotAssessed
from cxr.measure.shift import FEATURES, Reference
from cxr.read.chest_films import NOT_FINITE, Reason
from cxr.report.words import LANGUAGES, words
from cxr.serve.counters import Answer, Counters, Outcome, Refusal
from cxr.serve.film_watch import FilmWatch
from cxr.serve.queue import State
from cxr.serve.sends import Sends
from cxr.serve.status_page import Places
from web_service import answer, client, film, refuse_to_assess, service

PLANTED = {"PatientName": "Lin^Yu-Ting", "PatientID": "H99887766", "PatientBirthDate": "19400305",
           "InstitutionName": "Planted Memorial", "StudyDescription": "Lin Yu-Ting"}  # fmt: skip


def test_every_state_and_every_reason_has_its_words() -> None:
    for language in LANGUAGES:
        say = words(language)["serve"]
        assert list(say["states"]) == [state.value for state in State]
        assert list(say["reasons"]) == [reason.value for reason in Refusal]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_shows_films_failures_refusals_and_the_model(tmp_path: Path, language: str) -> None:
    served = service(tmp_path, language)
    web = client(served)
    for name in ("one", "two", "three", "four"):
        web.post("/films", content=film(name))
    answer(served, served.queue.get(1), scores=(0.9, 0.8, 0.2), abnormal=0.9)
    refuse_to_assess(served, served.queue.get(2), Reason("lateral", "ViewPosition is LL, not a frontal view"))
    served.queue.give_up(3, "<i>broken</i>")
    web.post("/films", content=b"<html>")
    page = web.get("/").text
    say = words(language)
    assert "http@testclient, 20" in page  # who was refused last, and when
    assert "<dd>DICOM CXR@127.0.0.1:11112</dd>" in page
    assert "<dd>CR1@10.0.0.7</dd>" in page
    assert f"{words(language)['serve']['above']}" in page
    assert {"en": "0.90, the best of 2 boxes", "zh": "0.90（2 個框中最高）"}[language] in page
    assert "0.20" not in page  # below the threshold
    assert say["not_assessed"] in page
    assert say["serve"]["reasons"]["not_dicom"] in page
    assert "ab" * 32 in page
    assert re.search('<form method=post action="films/3/again"><button', page)
    assert "films/1/again" not in page
    assert "<i>broken" not in page
    assert "&lt;i&gt;broken" in page
    assert '<meta http-equiv="refresh" content="10">' in page
    assert "<script" not in page


def test_the_page_warns_where_the_service_does_not_work(tmp_path: Path) -> None:
    served = service(tmp_path, free_mb=1e12)
    ended = type(served)(**{**vars(served), "alive": lambda: False})
    page = client(ended).get("/").text
    assert words("en")["serve"]["no_room"] in page
    assert words("en")["serve"]["not_alive"] in page
    assert words("en")["serve"]["not_alive"] not in client(served).get("/").text


def test_neither_page_nor_answer_nor_metric_nor_log_nor_queue_names_a_patient(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    served = service(tmp_path)
    web = client(served)
    posted = [
        web.post("/films", files={"Lin Yu-Ting": ("Lin Yu-Ting.dcm", film(**PLANTED))}),
        web.post("/films", content=film("two", **PLANTED, BodyPartExamined="LIN YUTING")),
        web.post("/films", content=film("three", **PLANTED)[:-50]),
        web.post("/films", content=film("four", **PLANTED, modality="CT")),
        web.post("/films", content=film("four", **(PLANTED | {"Modality": "LIN YUTING"}))),
        web.post(
            "/films?name=Lin+Yu-Ting", content=film("five", **(PLANTED | {"PhotometricInterpretation": "LIN YUTING"}))
        ),
        web.get("/films/Lin%5EYu-Ting"),
    ]
    assert [one.status_code for one in posted] == [202, 202, 422, 415, 415, 422, 404]
    answer(served, served.queue.get(1))
    served.queue.close()
    logged = [
        record.getMessage() for record in caplog.records if not record.name.startswith("httpx")
    ]  # not the client's
    seen = [one.text for one in posted[:4]] + [*logged, (tmp_path / "queue.sqlite").read_bytes().decode("latin-1")]
    served = service(tmp_path)
    seen += [client(served).get(path).text for path in ("/", "/metrics", "/health", "/films/1", "/films/2")]
    for text in seen:
        assert not re.search("lin.?yu.?ting|H99887766|19400305|Planted Memorial", text, re.IGNORECASE)


def test_metrics_hold_the_numbers_of_the_service(tmp_path: Path) -> None:
    served = service(tmp_path)
    web = client(served)
    web.post("/films", content=film())
    web.post("/films", content=b"<html>")
    served.counters.film(State.SENT, 3.0)
    served.counters.answer(Answer.NOT_ASSESSED)
    served.counters.delivery(Outcome.UNREACHABLE)
    lines = web.get("/metrics").text.splitlines()
    assert 'cxr_queue_films{state="received"} 1.0' in lines
    assert 'cxr_refused_total{reason="not_dicom"} 1.0' in lines
    assert 'cxr_films_total{state="sent"} 1.0' in lines
    assert 'cxr_film_seconds_bucket{le="5.0",state="sent"} 1.0' in lines
    assert 'cxr_film_seconds_bucket{le="2.0",state="sent"} 0.0' in lines
    assert 'cxr_answers_total{answer="not_assessed"} 1.0' in lines
    assert 'cxr_deliveries_total{outcome="unreachable"} 1.0' in lines
    assert 'cxr_http_requests_total{status="202"} 1.0' in lines
    assert "cxr_worker_alive 1.0" in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)


def test_two_services_count_apart() -> None:
    first, second = Counters(), Counters()
    first.refused(Refusal.TOKEN)
    assert (first.refusals(), second.refusals()) == ({Refusal.TOKEN: 1}, {})


def test_a_flood_of_refusals_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    for _ in range(500):
        counters.refused(Refusal.CALLER, "EVIL\nroot: hello@10.0.0.7")
    counters.refused(Refusal.TOKEN)
    assert counters.refusals() == {Refusal.CALLER: 500, Refusal.TOKEN: 1}
    assert [record.getMessage() for record in caplog.records] == [
        "refused (caller), EVILroot: hello@10.0.0.7; 1 so far", "refused (token); 1 so far",
    ]  # fmt: skip


def test_a_reason_that_is_not_on_the_list_is_no_label() -> None:
    with pytest.raises(ValueError, match="Lin"):
        Counters().refused("Lin Yu-Ting")  # type: ignore[arg-type]


def test_films_of_the_week_that_differ_stand_on_the_page_and_in_the_metrics(tmp_path: Path) -> None:
    served = service(tmp_path)
    assert words("en")["shift"]["no_reference"] in client(served).get("/").text
    assert "cxr_films_differ{" not in client(served).get("/metrics").text
    rng = np.random.default_rng(0)
    watch = FilmWatch(served.queue, Reference(FEATURES, rng.normal(size=(99, len(FEATURES))).astype(np.float32)))
    for n in range(26):
        seen = (9.0, *rng.normal(size=7).tolist())
        said = NotAssessed(1, "s", f"p{n}", 9, 9, NOT_FINITE, statistics=seen)
        watch.note(f"p{n}", time.time(), said)
    watched = type(served)(**{**vars(served), "watch": watch})
    page, metrics = client(watched).get("/").text, client(watched).get("/metrics").text
    assert "in: dark values (25 patients, 99 in the reference)" in page
    assert "0 patients so far; the first look is at 25." in page  # last week
    assert 'cxr_films_differ{week="this"} 1.0' in metrics
    assert 'cxr_week_patients{week="this"} 26.0' in metrics
    assert 'cxr_films_differ{week="last"} 0.0' in metrics
    assert 'cxr_films_distance{feature="dark",week="this"} 1.0' in metrics


def test_a_film_that_the_archive_has_not_taken_waits_for_it(tmp_path: Path) -> None:
    served = service(tmp_path)
    client(served).post("/films", content=film())
    answer(served, served.queue.get(1))
    served.queue.has_assessed(1, ["one-sr.dcm"], ["PACS"])
    sends = Sends(served.queue, "PACS")
    sends.refused(sends.due(time.time(), 9), "cannot be reached", wait=False)
    page = client(served).get("/").text
    assert f"<td>{words('en')['serve']['waits']}</td><td class=words>PACS: cannot be reached</td>" in page


def test_without_nodes_the_page_says_that_nobody_may_call(tmp_path: Path) -> None:
    served = replace(service(tmp_path), places=Places())
    assert client(served).get("/").text.count("<dd>nobody</dd>") == 3
