"""The journal of a run: what a kill leaves is gone on from."""

from dataclasses import replace
from pathlib import Path

import pytest

from cxr.detect.prediction import NotAssessed, Prediction
from cxr.read.chest_films import Reason
from cxr.report.journal import JOURNAL, Done, Journal


def film(number: int, study: str = "p0") -> Prediction:
    return Prediction(number, study, "q", 4, 3, ((0.0, 0.5, 2.0, 3.0),), ("nodule",), (0.25,), {"nodule": 0.25}, 0.5)


def test_films_come_back_as_they_were_in_the_order_given(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for number in (3, 1, 2):
            journal.add(Done(number, f"p{number}", film(number)))
        journal.add(Done(4, failed="film 4: is empty"))
        assert [prediction for _, prediction in journal.predictions()] == [film(1), film(2), film(3)]
    with Journal(tmp_path) as again:
        assert list(again)[-1] == Done(4, failed="film 4: is empty")
        assert len(again) == 4
        assert 3 in again
        assert 5 not in again


def test_a_line_cut_short_is_dropped_and_its_film_done_again(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.add(Done(1, "p1", film(1)))
        journal.add(Done(2, "p2", film(2)))
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole[:-5])
    with Journal(tmp_path) as journal:
        assert 2 not in journal
        journal.add(Done(2, "p2", film(2)))
    assert (tmp_path / JOURNAL).read_bytes() == whole


def test_two_films_of_a_study_have_files_of_their_own_after_a_restart_too(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.add(Done(1, journal.name(film(1)), film(1)))
    with Journal(tmp_path) as journal:
        assert journal.name(film(7)) == "p0-7"
        assert journal.name(film(8, "p9")) == "p9"


@pytest.mark.parametrize(
    "damage",
    [b'{"number": 2, "name', b"\x00\x00\x00", b"[1, 2]", b'{"number": "2", "name": "p2"}', b"\xff\xfe", b"[" * 9999],
)
def test_a_damaged_line_in_the_middle_is_dropped_for_good_and_counted(tmp_path: Path, damage: bytes) -> None:
    with Journal(tmp_path) as journal:
        for number in (1, 2, 3):
            journal.add(Done(number, f"p{number}", film(number)))
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(lines[0] + damage + b"\n" + lines[2])
    with Journal(tmp_path) as journal:
        assert journal.damaged == 1
        assert [done.number for done in journal] == [1, 3]
        journal.add(Done(2, "p2", film(2)))
        assert [done.prediction for done in journal] == [film(1), film(2), film(3)]
    with Journal(tmp_path) as journal:
        assert journal.damaged == 0
        assert len(journal) == 3


def test_a_refused_film_comes_back_with_its_reason_and_no_line_holds_an_instance_uid(tmp_path: Path) -> None:
    refused = NotAssessed(2, "p2", "q", 4, 3, Reason("lateral", "ViewPosition is LL, not frontal"), "1.2.840.99")
    with Journal(tmp_path) as journal:
        journal.add(Done(1, "p1", replace(film(1), sop_instance="1.2.840.99")))
        journal.add(Done(2, "p2", not_assessed=refused))
    assert "1.2.840.99" not in (tmp_path / JOURNAL).read_text()
    with Journal(tmp_path) as journal:
        assert [done.not_assessed for done in journal] == [None, refused]
        assert [name for name, _ in journal.predictions()] == ["p1"]


def test_a_line_the_disk_does_not_take_is_gone_and_the_next_call_goes_on(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the line is written in part."""
    resource = pytest.importorskip("resource", reason="no limits on this system")
    with Journal(tmp_path) as journal:
        journal.add(Done(1, "p1", film(1)))
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / JOURNAL).stat().st_size + 20, limits[1]))
        try:
            with pytest.raises(OSError, match=JOURNAL):
                journal.add(Done(2, "p2", film(2)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with Journal(tmp_path) as journal:
        assert (len(journal), journal.damaged) == (1, 0)
        journal.add(Done(2, "p2", film(2)))
        assert [done.prediction for done in journal] == [film(1), film(2)]
