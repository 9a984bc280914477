"""An archive that speaks DICOMweb: what it is asked, and what is done about its answers. A made-up server answers."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from cxr.data import archive as module
from cxr.data.archive import Archive, ArchiveAwayError, ArchiveError, Instance, NotRetrievedError
from cxr.data.archive_query import Query, service_url, wrong_dates
from cxr.data.shards import Shard

requests = pytest.importorskip("requests", reason="the extra is not installed: pip install 'cxr[serve]'")

URL = "http://pacs:8042/dicom-web"
ALL = Shard()
FILM = Instance(URL, "1.2", "1.2.3", "1.2.3.4")


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("dicomweb://127.0.0.1:8042/dicom-web", "http://127.0.0.1:8042/dicom-web"),
        ("dicomwebs://pacs.example/dcm4chee-arc/aets/DCM4CHEE/rs/", "https://pacs.example/dcm4chee-arc/aets/DCM4CHEE/rs"),
        ("films/2020", None),
        ("dicomweb", None),
    ],
)  # fmt: skip
def test_the_scheme_says_whether_it_is_http_or_https(typed: str, url: str | None) -> None:
    assert service_url(typed) == url


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("https://pacs/rs", "dicomwebs://HOST"),
        ("http://pacs/rs", "dicomweb://HOST"),
        ("dicomweb:///rs", "no address"),
        ("dicomweb://pacs:80/rs?token=geheim", "no address"),
        ("dicomweb://pacs:port/rs", "no address"),
        ("dicomwebs://me:geheim@pacs/rs", "netrc"),
    ],
)
def test_what_is_no_address_is_told_without_its_password(typed: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        service_url(typed)
    assert "me:geheim" not in str(error.value)


def test_dates_are_days_or_ranges_of_days() -> None:
    assert [wrong_dates(dates) for dates in ("20200131", "20200101-20201231", "20200101-", "-20201231")] == [None] * 4
    for dates in ("", "-", "2020", "20200231", "2020-01-31", "20200131-20200101-", "20201231-20200101", "today"):
        assert wrong_dates(dates), dates


@dataclass
class Server:
    """Answers as an archive does, from study → series → (modality, instances)."""

    studies: dict[str, dict[str, tuple[str, list[str]]]]
    page: int = 500  # it never gives more studies at once
    pages: bool = True  # whether it knows what an offset is
    asked: list[Any] = field(default_factory=list)

    def search_for_studies(self, limit: int, offset: int = 0, search_filters: Any = None) -> list[Any]:
        self.asked.append((dict(search_filters or {}), offset))
        wanted = (search_filters or {})["ModalitiesInStudy"]
        found = [{"0020000D": {"Value": [study]}} for study, series in self.studies.items()
                 if wanted in {modality for modality, _ in series.values()}]  # fmt: skip
        return found[offset:][: min(limit, self.page)] if self.pages else found

    def search_for_series(self, study: str) -> list[Any]:
        return [
            {"0020000E": {"Value": [uid]}, "00080060": {"Value": [modality]}}
            for uid, (modality, _) in self.studies[study].items()
        ]

    def search_for_instances(self, study: str, series: str) -> list[Any]:
        return [{"00080018": {"Value": [uid]}} for uid in self.studies[study][series][1]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Archive]:
    """Have a made-up client answer for the archive, and note pauses instead of sleeping."""

    def of(server: Any) -> Archive:
        monkeypatch.setattr(module, "_client", lambda archive: server)
        return Archive(URL)

    return of


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    noted: list[float] = []
    monkeypatch.setattr(module.time, "sleep", noted.append)
    return noted


def uids(films: Iterator[Instance]) -> list[tuple[str, str, str]]:
    return [(film.study, film.series, film.sop) for film in films]


def test_films_of_the_dates_and_modalities_come_once_in_the_order_of_their_uids(serve: Any) -> None:
    server = Server({
        "1.9": {"1.9.1": ("CR", ["b", "a"])},
        "1.1": {"1.1.2": ("CR", ["c"]), "1.1.1": ("DX", ["d"]), "1.1.3": ("SR", ["e"])},
        "1.5": {"1.5.1": ("CT", ["f"])},
    })  # fmt: skip
    films = uids(serve(server).instances(Query("20200101-20201231", ("CR", "DX"), ALL)))
    assert films == [("1.1", "1.1.1", "d"), ("1.1", "1.1.2", "c"), ("1.9", "1.9.1", "a"), ("1.9", "1.9.1", "b")]
    assert [filters for filters, offset in server.asked if offset == 0] == [
        {"ModalitiesInStudy": "CR", "StudyDate": "20200101-20201231"},
        {"ModalitiesInStudy": "DX", "StudyDate": "20200101-20201231"},
    ]
    serve(server)
    server.asked.clear()
    list(Archive(URL).instances(Query("", ("CR",), ALL)))
    assert server.asked[0] == ({"ModalitiesInStudy": "CR"}, 0)  # without dates none are asked for


@pytest.mark.parametrize("pages", [True, False])
def test_an_archive_that_gives_few_at_once_is_asked_until_it_has_no_more(serve: Any, pages: bool) -> None:
    studies = {f"1.{n}": {f"1.{n}.1": ("CR", [f"1.{n}.1.1"])} for n in range(10, 45)}
    server = Server(studies, page=10, pages=pages)
    films = list(serve(server).instances(Query("", ("CR",), ALL)))
    assert [film.study for film in films] == list(studies)
    assert [offset for _, offset in server.asked] == ([0, 10, 20, 30, 35] if pages else [0, 35])


def test_an_archive_that_has_more_and_gives_its_first_page_again_is_told_and_no_study_is_lost_in_silence(
    serve: Any,
) -> None:
    """It keeps to the limit, and does not know what an offset is."""

    class FirstPageAlone(Server):
        def search_for_studies(self, limit: int, offset: int = 0, search_filters: Any = None) -> list[Any]:
            return super().search_for_studies(limit, 0, search_filters)

    studies = {f"1.{n}": {f"1.{n}.1": ("CR", [f"1.{n}.1.1"])} for n in range(501)}
    with pytest.raises(ArchiveError, match=r"gives the same 500 studies again.*fewer days at once"):
        list(serve(FirstPageAlone(studies)).instances(Query("", ("CR",), ALL)))
    fewer = dict(list(studies.items())[:499])
    assert len(list(serve(FirstPageAlone(fewer)).instances(Query("", ("CR",), ALL)))) == 499


def test_shards_share_out_studies_and_leave_none_out(serve: Any) -> None:
    studies = {f"1.{n}": {f"1.{n}.1": ("CR", [f"1.{n}.1.1", f"1.{n}.1.2"])} for n in range(10, 45)}
    archive = serve(Server(studies))
    parts = [uids(archive.instances(Query("", ("CR",), Shard(number, 3)))) for number in range(3)]
    assert sorted(film for part in parts for film in part) == uids(archive.instances(Query("", ("CR",), ALL)))
    held = [{study for study, _, _ in part} for part in parts]
    assert all(held)
    assert not held[0] & held[1] and not held[0] & held[2] and not held[1] & held[2]  # noqa: PT018


class Answers:
    """Gives one answer after the other for a film: a status, an error, or what is retrieved."""

    def __init__(self, *answers: Any, search: Any = ()) -> None:
        self.answers, self.search = list(answers), search

    def retrieve_instance(self, *uids: str, media_types: Any) -> Dataset:
        assert media_types == (("application/dicom", "*"),)  # as it is kept: no archive need decode it
        return _give(self.answers.pop(0))

    def search_for_studies(self, **_: Any) -> Any:
        return _give(self.search)


def _give(answer: Any) -> Any:
    if isinstance(answer, int):
        response = requests.Response()
        response.status_code, response.reason, response.url = answer, "why", f"{URL}/studies/1.2"
        response.raise_for_status()
    if isinstance(answer, Exception):
        raise answer
    return answer


def dataset() -> Dataset:
    made = Dataset()
    made.PatientName, made.SOPInstanceUID, made.SOPClassUID = "Lin^Yu-Ting", "1.2.3.4", "1.2.840.10008.5.1.4.1.1.1"
    made.file_meta = Dataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = made.SOPClassUID, "1.2.3.4"
    return made


def test_a_film_comes_as_a_file(serve: Any) -> None:
    data = serve(Answers(dataset())).retrieve(FILM)
    assert dcmread(BytesIO(data)).PatientName == "Lin^Yu-Ting"


def test_an_archive_that_is_busy_or_away_for_a_while_is_asked_again_after_growing_pauses(
    serve: Any, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    away = requests.ConnectionError("HTTPConnectionPool: /studies/1.2/series/1.2.3")
    with caplog.at_level(logging.WARNING):
        serve(Answers(away, 503, requests.Timeout(), 429, dataset())).retrieve(FILM)
    assert pauses == [1, 2, 4, 8]
    assert "1.2.3" not in caplog.text  # UIDs lead to patients
    assert caplog.text.count("asked again") == 4


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_film_that_is_not_given_is_told_at_once_without_its_uids(
    serve: Any, status: int, pauses: list[float]
) -> None:
    with pytest.raises(NotRetrievedError, match=f"answers {status}") as error:
        serve(Answers(status)).retrieve(FILM)
    assert "1.2" not in str(error.value)
    assert pauses == []


def test_a_fault_of_the_archive_is_tried_three_times(serve: Any, pauses: list[float]) -> None:
    with pytest.raises(NotRetrievedError, match="answers 500"):
        serve(Answers(500, 500, 500)).retrieve(FILM)
    assert pauses == [1, 2]


def test_a_film_at_which_the_archive_hangs_does_not_end_the_run_and_an_archive_that_is_gone_does(serve: Any) -> None:
    with pytest.raises(NotRetrievedError, match="answers other questions"):
        serve(Answers(*[requests.Timeout()] * 7, search=[])).retrieve(FILM)
    gone = requests.ConnectionError()
    with pytest.raises(ArchiveAwayError, match=r"does not answer \(ConnectionError\), also after 7 tries in 63 s"):
        serve(Answers(*[gone] * 7, search=gone)).retrieve(FILM)


def test_an_archive_that_wants_to_know_who_asks_ends_the_run(serve: Any) -> None:
    with pytest.raises(ArchiveError, match="does not let us in; type token=FILE"):
        serve(Answers(401)).retrieve(FILM)
    with pytest.raises(ArchiveError, match="does not let us in"):
        list(serve(Answers(search=403)).instances(Query("", ("CR",), ALL)))
    with pytest.raises(ArchiveError, match="is this the address of DICOMweb"):
        list(serve(Answers(search=404)).instances(Query("", ("CR",), ALL)))


def test_bytes_that_are_no_dicom_file_are_told_without_their_words(serve: Any) -> None:
    with pytest.raises(NotRetrievedError, match=r"no DICOM file \(ValueError\)") as error:
        serve(Answers(ValueError("Lin^Yu-Ting is no value"))).retrieve(FILM)
    assert "Lin" not in str(error.value)


def test_a_token_is_read_at_each_request_and_wins_over_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dicomweb_client", reason="the extra is not installed: pip install 'cxr[serve]'")
    (tmp_path / "netrc").write_text("machine pacs login me password geheim\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "token").write_text("first\n")
    session = module._client(Archive(URL, tmp_path / "token"))._session
    seen = []
    for token in ("first", "second"):
        (tmp_path / "token").write_text(f"{token}\n")
        seen.append(session.prepare_request(requests.Request("GET", URL)).headers["Authorization"])
    assert seen == ["Bearer first", "Bearer second"]
    by_name = module._client(Archive(URL))._session.prepare_request(requests.Request("GET", URL))
    assert by_name.headers["Authorization"].startswith("Basic ")
    assert "geheim" not in repr(Archive(URL, tmp_path / "token"))
