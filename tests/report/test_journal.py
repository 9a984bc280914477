"""The journal of a run: what a kill leaves is gone on from."""

from pathlib import Path

from cxr.detect.prediction import Prediction
from cxr.report.journal import JOURNAL, Done, Journal


def film(number: int, study: str = "p0") -> Prediction:
    return Prediction(number, study, "q", 4, 3, ((0.0, 0.5, 2.0, 3.0),), ("nodule",), (0.25,), {"nodule": 0.25}, 0.5)


def test_films_come_back_as_they_were_in_the_order_given(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for number in (3, 1, 2):
            journal.add(Done(number, f"p{number}", film(number)))
        journal.add(Done(4, failed="film 4: is empty"))
        assert [said for _, said in journal.predictions()] == [film(1), film(2), film(3)]
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
