"""What is taken and what is refused, whoever brings it; and that nothing of what is refused is kept."""

import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForProcessing,
    JPEGLosslessSV1,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from cxr.serve import intake as module
from cxr.serve.counters import Refusal
from cxr.serve.intake import Intake, Refused
from cxr.serve.queue import Queue, State
from web_service import film


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return Intake(tmp_path, Queue(tmp_path), max_film_mb=0.5, free_mb=0)


def changed(change: Callable[[Dataset], None], **arguments: str) -> bytes:
    dicom = dcmread(BytesIO(film(**arguments)))
    change(dicom)
    content = BytesIO()
    dicom.save_as(content, enforce_file_format=True)
    return content.getvalue()


def largest(dicom: Dataset) -> None:
    dicom.Rows = dicom.Columns = 65535


def png() -> bytes:
    content = BytesIO()
    Image.fromarray(np.arange(64 * 48, dtype=np.uint8).reshape(64, 48)).save(content, "PNG")
    return content.getvalue()


def test_a_film_is_kept_as_it_came_under_a_digest_and_pseudonyms(intake: Intake) -> None:
    row = intake.take(film(), "PACS@127.0.0.1")
    assert intake.path(row.digest).read_bytes() == film()
    assert (row.source, row.picture) == ("PACS@127.0.0.1", False)
    patient = "H12345678"
    assert patient not in " ".join(map(str, vars(row).values()))
    for part in intake.films.parent.rglob("queue.sqlite*"):
        assert patient.encode() not in part.read_bytes()
        assert str(dcmread(BytesIO(film())).SOPInstanceUID).encode() not in part.read_bytes()


def test_the_same_film_is_one_film_however_its_file_is_written(intake: Intake) -> None:
    first = intake.take(film(), "a@b")
    again = changed(lambda dicom: setattr(dicom.file_meta, "ImplementationVersionName", "ANOTHER"))
    assert again != film()
    assert intake.take(again, "c@d").number == first.number
    assert len(list(intake.films.iterdir())) == 1


def test_a_film_that_comes_again_with_its_header_mended_takes_the_place_of_the_one_before(intake: Intake) -> None:
    row = intake.take(film(RescaleSlope="0"), "a@b")
    intake.queue.give_up(row.number, "RescaleSlope is 0")
    again = intake.take(film(RescaleSlope="1"), "a@b")
    assert (again.number, again.state) == (row.number, State.RECEIVED)
    assert dcmread(intake.path(row.digest)).RescaleSlope == 1


@pytest.mark.parametrize("name", ["PatientID", "PatientName", "PixelData", "SeriesInstanceUID"])
def test_another_film_under_a_known_uid_is_refused(intake: Intake, name: str) -> None:
    intake.take(film(), "a@b")
    other = {"PixelData": bytes(2 * 64 * 48), "SeriesInstanceUID": "1.2.3"}.get(name, "Somebody^Else")
    with pytest.raises(Refused) as refused:
        intake.take(changed(lambda dicom: setattr(dicom, name, other)), "a@b")
    assert (refused.value.cause, refused.value.dicom, refused.value.http) == (Refusal.DUPLICATE, 0x0111, 409)
    assert len(list(intake.films.iterdir())) == 1


@pytest.mark.parametrize(
    ("data", "cause", "status"),
    [
        (b"<html>not found</html>", Refusal.NOT_DICOM, 0xC000),
        (b"", Refusal.NOT_DICOM, 0xC000),
        (film()[:-100], Refusal.TRUNCATED, 0xC000),
        (changed(largest), Refusal.NO_FILM, 0xC000),
        (film(sop_class=CTImageStorage, modality="CT"), Refusal.NO_FILM, 0xA900),
        (film(sop_class=CTImageStorage, modality="CR"), Refusal.NO_FILM, 0xA900),
        (film(sop_class=SecondaryCaptureImageStorage, modality="MR"), Refusal.NO_FILM, 0xA900),
        (changed(lambda dicom: delattr(dicom, "SOPInstanceUID")), Refusal.NO_FILM, 0xC000),
        (changed(lambda dicom: delattr(dicom, "SOPClassUID")), Refusal.NO_FILM, 0xC000),
        (changed(lambda dicom: setattr(dicom, "NumberOfFrames", 2)), Refusal.NO_FILM, 0xC000),
        (film() + bytes(2**19), Refusal.TOO_LARGE, 0xC000),
        (png()[:-60], Refusal.NO_FILM, 0xC000),
    ],
    ids=["html", "empty", "truncated", "65535", "ct", "cr", "mr", "no uid", "no class", "frames", "large", "cut"],
)
def test_what_is_no_whole_film_is_refused_and_nothing_is_stored(
    intake: Intake, data: bytes, cause: Refusal, status: int
) -> None:
    with pytest.raises(Refused) as refused:
        intake.take(data, "a@b")
    assert (refused.value.cause, refused.value.dicom) == (cause, status)
    assert "H12345678" not in refused.value.reason
    assert list(intake.films.iterdir()) == []
    assert intake.queue.latest(9) == []


@pytest.mark.parametrize("sop_class", [DigitalXRayImageStorageForProcessing, SecondaryCaptureImageStorage])
def test_films_for_processing_and_captures_are_taken(intake: Intake, sop_class: str) -> None:
    assert intake.take(film(sop_class=sop_class, modality="DX"), "a@b").number == 1


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "RF", "SC", "OT", ""])
def test_a_capture_may_be_a_copy_of_any_film(intake: Intake, modality: str) -> None:
    assert intake.take(film(sop_class=SecondaryCaptureImageStorage, modality=modality), "a@b").number == 1


def test_a_picture_is_taken_and_has_no_header(intake: Intake) -> None:
    row = intake.take(png(), "http@127.0.0.1")
    assert row.picture
    assert intake.take(png(), "http@127.0.0.1").number == row.number


def test_with_too_little_room_nothing_is_taken(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Intake(intake.films.parent, intake.queue, 1, free_mb=200)
    usage = shutil.disk_usage(intake.films)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=200 * 2**20 + len(film()) - 1))
    with pytest.raises(Refused, match="no room on the disk: 200 MB are free") as refused:
        full.take(film(), "a@b")
    assert (refused.value.cause, refused.value.dicom, refused.value.http) == (Refusal.FULL, 0xA700, 507)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=200 * 2**20 + len(film())))
    assert full.take(film(), "a@b").number == 1
    with pytest.raises(Refused, match="200 MB are free, and 204 have to stay so"):  # for what is made of the first
        full.take(film("two"), "a@b")
    intake.queue.has_assessed(1, [], [])
    assert full.take(film("two"), "a@b").number == 2


def test_a_service_that_is_about_to_stop_takes_nothing(intake: Intake) -> None:
    intake.closing = True
    with pytest.raises(Refused) as refused:
        intake.take(film(), "a@b")
    assert (refused.value.dicom, refused.value.http) == (0xA700, 503)
    assert list(intake.films.iterdir()) == []


def test_a_disk_that_does_not_take_the_film_leaves_nothing(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", fsync)
    with pytest.raises(Refused, match="No space left on device") as refused:
        intake.take(film(), "a@b")
    assert refused.value.dicom == 0xA700
    assert list(intake.films.iterdir()) == []


def test_the_name_of_a_film_is_on_the_disk_before_its_row(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    add, flush = intake.queue.add, module.flush_folder
    monkeypatch.setattr(module, "flush_folder", lambda folder: (order.append("name"), flush(folder))[1])
    monkeypatch.setattr(intake.queue, "add", lambda row: (order.append("row"), add(row))[1])
    intake.take(film(), "a@b")
    assert order == ["name", "row"]


def test_a_film_whose_row_cannot_be_written_leaves_no_file(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(film: object) -> None:
        raise module.sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(intake.queue, "add", add)
    with pytest.raises(Refused, match="the film could not be kept"):
        intake.take(film(), "a@b")
    assert list(intake.films.iterdir()) == []


def test_a_film_that_waits_stays_where_its_row_cannot_be_read_as_it_comes_again(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = intake.take(film(), "a@b")

    def add(film: object) -> None:
        raise module.sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(intake.queue, "add", add)
    with pytest.raises(Refused, match="the film could not be kept"):
        intake.take(film(), "a@b")
    assert intake.path(row.digest).read_bytes() == film()


def test_a_codestream_that_is_cut_off_is_refused_at_the_door(intake: Intake) -> None:
    import imagecodecs

    def compress(dicom: Dataset, cut: int) -> None:
        pixels = np.frombuffer(dicom.PixelData, "<u2").reshape(64, 48)
        stream = bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=16))
        dicom.PixelData = encapsulate([stream[:cut]])
        dicom["PixelData"].VR = "OB"
        dicom.file_meta.TransferSyntaxUID = JPEGLosslessSV1

    with pytest.raises(Refused) as refused:
        intake.take(changed(lambda dicom: compress(dicom, -20)), "a@b")
    assert refused.value.cause is Refusal.TRUNCATED


def test_rle_that_is_cut_off_in_its_last_segment_is_refused_at_the_door(intake: Intake) -> None:
    def compress(dicom: Dataset, cut: int | None) -> None:
        dicom.compress(RLELossless)
        (frame,) = generate_frames(dicom.PixelData, number_of_frames=1)
        dicom.PixelData = encapsulate([frame[:cut]])

    assert intake.take(changed(lambda dicom: compress(dicom, None)), "a@b").number == 1
    with pytest.raises(Refused) as refused:
        intake.take(changed(lambda dicom: compress(dicom, -40), name="cut"), "a@b")
    assert (refused.value.cause, refused.value.dicom) == (Refusal.TRUNCATED, 0xC000)
