"""Films of an archive that speaks DICOMweb: which ones it has (QIDO-RS), and each when it is wanted (WADO-RS).

UIDs lead to patients. So no error and no line of a log has one: they name the archive, and what it answered. The
client is that of the package dicomweb-client (extra ``serve``), which is imported when the archive is first asked.
"""

import functools
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cxr.data.archive_query import Query
from cxr.read.radiograph import pseudonym

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient
    from requests import HTTPError, PreparedRequest

_STUDY, _SERIES, _INSTANCE, _MODALITY = "0020000D", "0020000E", "00080018", "00080060"
_PAGE = 500  # studies asked for at once
_TIMEOUT_S = (10.0, 60.0)  # to connect, and between two pieces of an answer
_PAUSES_S = (1, 2, 4, 8, 16, 32)
_TRIES_OF_A_FAULT = 3  # of an answer 500: a film whose file is damaged in the archive gives it each time
_LATER = (408, 425, 429, 500, 502, 503, 504)  # answers after which the same question may get another answer
_UNTRUSTED = "its certificate is not trusted here; REQUESTS_CA_BUNDLE=FILE names the authority that signed it"
_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)


class ArchiveError(Exception):
    """The archive does not answer, or does not let us in. No film can be had from it now."""


class ArchiveAwayError(ArchiveError):
    """The archive does not answer now, although it was asked again and again."""


class NotRetrievedError(Exception):
    """The archive answers, and does not give this instance."""


class Instance(NamedTuple):
    """One film of an archive: the URL of the archive's service, and the UIDs by which it finds the film.

    As a string it is a pseudonym.
    """

    archive: str
    study: str
    series: str
    sop: str

    def __str__(self) -> str:
        return f"instance {pseudonym(self.sop)}"

    @property
    def url(self) -> str:
        """The URL of the film."""
        return f"{self.archive}/studies/{self.study}/series/{self.series}/instances/{self.sop}"


@dataclass(frozen=True)
class Archive:
    """An archive at ``url``.

    Args:
        url: of its DICOMweb service, http:// or https://, as ``service_url`` returns it.
        token: a file with a bearer token. It is read at each request, so that the token may be renewed in the
            meantime. Without one, user and password come from ~/.netrc where that names the host.
    """

    url: str
    token: Path | None = None

    def instances(self, query: Query) -> Iterator[Instance]:
        """Yield the films that ``query`` wants, each once, in the order of their UIDs. Raises ``ArchiveError``.

        Studies are asked for in pages, as an archive may have millions. The few series of a study and the few films of
        a series are asked for at once.
        """
        for study in sorted(self._studies(query)):
            series = self._ask(lambda client, uid: client.search_for_series(uid), study)
            of_films = {_value(one, _SERIES) for one in series if _value(one, _MODALITY) in query.modalities}
            for uid in sorted(of_films):
                found = self._ask(lambda client, *uids: client.search_for_instances(*uids), study, uid)
                yield from (
                    Instance(self.url, study, uid, sop) for sop in sorted({_value(one, _INSTANCE) for one in found})
                )

    def retrieve(self, film: Instance) -> bytes:
        """Return the DICOM file of a film, in the transfer syntax in which the archive keeps it.

        Raises ``NotRetrievedError`` where the archive does not give this film, and ``ArchiveError`` where it gives
        none: where it does not answer, or wants to know who asks.
        """
        import requests

        try:
            return _patiently(lambda: _file(_client(self), film), self.url)
        except requests.HTTPError as error:
            status = _status(error)
            if status == 401:
                raise ArchiveError(_refusal(self.url, status)) from None
            raise NotRetrievedError(f"the archive answers {status}") from None
        except ArchiveError:
            if not self._answers():
                raise
            raise NotRetrievedError("the archive answers other questions, and not the one for this film") from None
        except requests.RequestException as error:
            raise NotRetrievedError(f"the archive's answer cannot be read ({type(error).__name__})") from None
        except OSError:  # of the file with the token
            raise
        except Exception as error:  # of pydicom: the bytes are no DICOM file; their text may quote a patient's name
            raise NotRetrievedError(f"what the archive gives is no DICOM file ({type(error).__name__})") from None

    def _studies(self, query: Query) -> set[str]:
        """Return the studies of ``query.shard`` with a series of one of the modalities."""
        studies = set()
        for modality in query.modalities:
            filters = {"ModalitiesInStudy": modality} | ({"StudyDate": query.dates} if query.dates else {})
            for found in self._pages(filters):
                study = _value(found, _STUDY)
                if query.shard.holds(study):
                    studies.add(study)
        return studies

    def _pages(self, filters: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Yield the studies of all pages. An archive may give fewer than are asked for: only an empty page ends it.

        Raises ``ArchiveError`` for an archive that gives as many as were asked for, and the same ones again: it has
        more, and cannot be made to tell them.
        """
        offset, before = 0, list[dict[str, Any]]()
        while True:
            page = self._ask(
                lambda client, offset: client.search_for_studies(limit=_PAGE, offset=offset, search_filters=filters),
                offset,
            )
            if page and page == before and len(page) == _PAGE:
                raise ArchiveError(
                    f"{self.url} gives the same {_PAGE} studies again when it is asked for the next ones: those behind"
                    " them cannot be listed; ask for fewer days at once (dates)"
                )
            if not page or page == before:  # the same again: this archive has no pages and has told all
                return
            yield from page
            offset, before = offset + len(page), page

    def _ask(self, question: Callable[..., list[dict[str, Any]]], *about: Any) -> list[dict[str, Any]]:
        """Return what the archive answers to a question (QIDO-RS). Raises ``ArchiveError``."""
        import requests

        try:
            return _patiently(lambda: question(_client(self), *about), self.url)
        except requests.HTTPError as error:
            raise ArchiveError(_refusal(self.url, _status(error))) from None
        except ValueError:  # of JSON
            raise ArchiveError(f"{self.url} does not answer in DICOM JSON; is this the address of DICOMweb?") from None

    def _answers(self) -> bool:
        """Return whether the archive answers a short question, asked once."""
        import requests

        try:
            _client(self).search_for_studies(limit=1)
        except (requests.RequestException, ValueError):
            return False
        return True


@functools.cache
def _client(archive: Archive) -> "DICOMwebClient":
    """Return the client of an archive, one for each process."""
    import requests
    from dicomweb_client import DICOMwebClient

    for name in ("dicomweb_client", "urllib3"):  # they log the UIDs of what is asked for
        logging.getLogger(name).setLevel(logging.CRITICAL)
    session = requests.Session()
    if archive.token is not None:
        session.auth = functools.partial(_with_token, archive.token)
    # any text may be a UID: old archives do not hold to the standard
    client = DICOMwebClient(archive.url, session=session, permissive_uid=True, timeout=_TIMEOUT_S)
    client.set_http_retry_params(retry=False)  # it does not ask again where a connection breaks, as ``_patiently`` does
    return client


def _with_token(token: Path, request: "PreparedRequest") -> "PreparedRequest":
    request.headers["Authorization"] = f"Bearer {token.read_text(encoding='ascii').strip()}"
    return request


def _file(client: "DICOMwebClient", film: Instance) -> bytes:
    """Return the file of a film: its data set as it came, written again. The pixels are not touched."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes names and dates that it finds odd
        dataset = client.retrieve_instance(film.study, film.series, film.sop, media_types=(("application/dicom", "*"),))
        file = BytesIO()
        dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _patiently(call: Callable[[], _Answer], url: str) -> _Answer:
    """Return what ``call`` returns. It is called again, after growing pauses, while the archive is busy or away.

    Raises ``ArchiveAwayError`` where that does not help, and ``HTTPError`` for an answer that will not change.
    """
    import requests

    for tries in count():
        try:
            return call()
        except requests.HTTPError as error:
            status = _status(error)
            if status not in _LATER or (status == 500 and tries + 1 == _TRIES_OF_A_FAULT):
                raise
            trouble = f"answers {status}"
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ArchiveError(f"{url}: {_UNTRUSTED}") from None
            trouble = "does not answer (SSLError)"
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            trouble = f"does not answer ({type(error).__name__})"
        if tries == len(_PAUSES_S):
            raise ArchiveAwayError(f"{url} {trouble}, also after {tries + 1} tries in {sum(_PAUSES_S)} s")
        _log.warning("%s %s; it is asked again in %d s", url, trouble, _PAUSES_S[tries])
        time.sleep(_PAUSES_S[tries])
    raise AssertionError("never reached")


def _status(error: "HTTPError") -> int:
    return 0 if error.response is None else error.response.status_code


def _refusal(url: str, status: int) -> str:
    if status in (401, 403):
        return f"{url} answers {status}: it does not let us in; type token=FILE, or name its host in ~/.netrc"
    return f"{url} answers {status}; is this the address of DICOMweb?"


def _value(found: dict[str, Any], tag: str) -> str:
    """Return the first value of an element of DICOM JSON, "" where there is none."""
    values = found.get(tag, {}).get("Value") or [""]
    return str(values[0])
