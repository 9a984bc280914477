"""STOW-RS by bytes made by hand, and by the client library that archives use."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from pydicom.uid import ComputedRadiographyImageStorage, CTImageStorage

from cxr.phantom.course_layout import uid
from cxr.serve.parts import MalformedError, PartReader
from web_service import client, film, service

RELATED = 'multipart/related; type="application/dicom"; boundary=cut'


def body(*films: bytes) -> bytes:
    parts = [b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in films]
    return b"".join(parts) + b"--cut--\r\n"


def store(folder: Path, content: bytes, kind: str = RELATED) -> httpx.Response:
    return client(service(folder)).post("/dicom-web/studies", content=content, headers={"Content-Type": kind})


def uids(answer: dict[str, Any], sequence: str) -> list[str]:
    return [item["00081155"]["Value"][0] for item in answer[sequence]["Value"]]


def test_films_are_kept_and_named_in_the_answer(tmp_path: Path) -> None:
    stored = store(tmp_path, body(film("one"), film("two")))
    assert stored.status_code == 200
    assert stored.headers["content-type"] == "application/dicom+json"
    assert uids(stored.json(), "00081199") == [uid("one", "instance"), uid("two", "instance")]
    assert stored.json()["00081199"]["Value"][0]["00081150"] == {
        "vr": "UI", "Value": [ComputedRadiographyImageStorage],
    }  # fmt: skip
    assert "00081198" not in stored.json()
    assert len(list((tmp_path / "films").iterdir())) == 2


def test_what_is_not_kept_is_named_with_the_status_of_a_store(tmp_path: Path) -> None:
    ct = film("ct", sop_class=CTImageStorage, modality="CT")
    stored = store(tmp_path, body(film("one"), ct, b"<html>no film</html>"))
    assert stored.status_code == 202
    answer = stored.json()
    assert uids(answer, "00081199") == [uid("one", "instance")]
    (failed,) = answer["00081198"]["Value"]
    assert (failed["00081155"]["Value"], failed["00081197"]["Value"]) == ([uid("ct", "instance")], [0xA900])
    (unknown,) = answer["0008119A"]["Value"]
    assert unknown == {"00081197": {"vr": "US", "Value": [0xC000]}}


def test_each_reason_has_its_own_status(tmp_path: Path) -> None:
    """Whoever sends must know whether to come again: another film under a known UID, and one that is cut off."""
    other = film("one", PatientID="another")
    stored = store(tmp_path, body(film("one"), other, film("two")[:-2000]))
    failed = stored.json()["00081198"]["Value"]
    assert [one["00081197"]["Value"] for one in failed] == [[0x0111], [0xC000]]


def test_a_picture_is_no_dicom_object(tmp_path: Path) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "film.png")
    assert store(tmp_path, body((tmp_path / "film.png").read_bytes())).status_code == 409
    assert not list((tmp_path / "films").iterdir())


def test_a_request_of_which_nothing_is_kept_is_a_conflict(tmp_path: Path) -> None:
    assert store(tmp_path, body(b"<html>")).status_code == 409


@pytest.mark.parametrize(
    "kind",
    ["application/dicom", "multipart/related", "multipart/form-data; boundary=cut", ""],
)
def test_another_kind_of_body_is_refused(tmp_path: Path, kind: str) -> None:
    assert store(tmp_path, body(film()), kind).status_code == 415


def test_what_stands_in_front_of_the_first_boundary_is_no_part(tmp_path: Path) -> None:
    for preamble in (b"\r\n", b"This is a message in MIME.\r\n", b"--cu\r\nx--cut\r\n" * 9):
        assert store(tmp_path, preamble + body(film())).status_code == 200


def test_to_a_study_only_its_own_films_are_stored(tmp_path: Path) -> None:
    web = client(service(tmp_path))
    place = f"/dicom-web/studies/{uid('one', 'study')}"
    stored = web.post(place, content=body(film("one"), film("two")), headers={"Content-Type": RELATED})
    assert stored.status_code == 202
    assert uids(stored.json(), "00081199") == [uid("one", "instance")]
    (failed,) = stored.json()["00081198"]["Value"]
    assert (failed["00081155"]["Value"], failed["00081197"]["Value"]) == ([uid("two", "instance")], [0xA900])
    assert len(list((tmp_path / "films").iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"nothing of it", body(film())[:-9], b"--cut--\r\n"])
def test_a_damaged_body_is_refused(tmp_path: Path, content: bytes) -> None:
    assert store(tmp_path, content).status_code == 400


def test_parts_are_the_same_however_the_body_arrives() -> None:
    inside = b"a\r\n--cu\r\n--cux\0\r"  # what looks like the boundary, and is none
    content = b"in front\r\n--cu" + b"\r\n" + body(inside, b"", b"second")
    for step in (1, 2, 3, 7, len(content)):
        reader = PartReader(b"cut", 100)
        parts = [part for n in range(0, len(content), step) for part in reader.feed(content[n : n + step])]
        reader.close()
        assert [bytes(part.data) for part in parts] == [inside, b"", b"second"]
        assert parts[0].headers == {"content-type": "application/dicom"}


def test_of_a_part_that_is_too_large_no_more_is_kept_than_shows_it() -> None:
    reader = PartReader(b"cut", 10)
    (part,) = [part for piece in (body(b"x" * 50)[:60], body(b"x" * 50)[60:]) for part in reader.feed(piece)]
    assert bytes(part.data) == b"x" * 11


def test_a_body_without_its_end_is_damaged() -> None:
    reader = PartReader(b"cut", 10)
    reader.feed(body(b"one")[:-6])
    with pytest.raises(MalformedError, match="ends before its last boundary"):
        reader.close()
