"""An archive that takes objects by STOW-RS (PS3.18 10.5)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset, dcmread

from cxr.serve.archive import DAMAGED, Pledge, Stored
from cxr.serve.tls import Tls

_REFUSED = (400, 409, 413, 415, 422)  # HTTP status of what is wrong with objects, not with the archive
_CHUNK = 2**28  # bytes: a request is sent whole, with its length


class WebArchive:
    """A DICOMweb server that takes objects.

    Args:
        url: of its DICOMweb services; a user and password in it are sent as such, and told nowhere.
        silence: seconds for which it may be silent.
        tls: our certificate and who must have signed the server's; None: whom the machine trusts.
    """

    def __init__(self, url: str, silence: float, tls: Tls | None) -> None:
        logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL + 1)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{parts.hostname or url!r} is no URL of an archive, as https://pacs/dicom-web")
        bare = parts.netloc.rpartition("@")[2]
        self.name = urlunsplit((parts.scheme, bare, parts.path.rstrip("/"), "", ""))
        session = requests.Session()
        if parts.username is not None:
            session.auth = (unquote(parts.username), unquote(parts.password or ""))
        if tls is not None:
            session.cert = (str(tls.certificate), str(tls.key))
            session.verify = True if tls.ca is None else str(tls.ca)
        self._client = DICOMwebClient(self.name, session=session, chunk_size=_CHUNK, timeout=silence)
        self._client.set_http_retry_params(retry=False)  # that is our own business

    def store(self, files: Sequence[Path], pledge: Pledge) -> Stored:
        """Offer ``files`` in one request; see ``Archive``. STOW-RS knows no commitment."""
        made: dict[int, Dataset] = {}
        for place, path in enumerate(files):
            try:
                made[place] = dcmread(path)
                made[place].SOPInstanceUID  # noqa: B018 - whether it has one
            except Exception:  # whatever a file that was cut short makes pydicom raise
                made.pop(place, None)
        refusals, broken = self._offered(list(made.values())) if made else ({}, "")
        if broken:
            return Stored(broken=broken)
        said = [
            refusals.get(str(made[place].SOPInstanceUID), "") if place in made else DAMAGED
            for place in range(len(files))
        ]
        return Stored(said)

    def _offered(self, made: list[Dataset]) -> tuple[dict[str, str], str]:
        """Return SOPInstanceUID → why it was not taken, and why the archive cannot be spoken with, "" where it can.

        Objects that are refused together, as by a proxy that lets no large request through, are offered one by one.
        """
        try:
            return _refusals(self._client.store_instances(made)), ""
        except requests.HTTPError as error:
            status = 0 if error.response is None else error.response.status_code
        except (requests.RequestException, ValueError, KeyError) as error:
            return {}, f"cannot be reached ({type(error).__name__})"
        if status not in _REFUSED:
            return {}, f"answered with HTTP {status}"
        if len(made) == 1:
            return {str(made[0].SOPInstanceUID): f"refused with HTTP {status}"}, ""
        refusals: dict[str, str] = {}
        for one in made:
            refused, broken = self._offered([one])
            if broken:
                return {}, broken
            refusals |= refused
        return refusals, ""


def _refusals(answer: Dataset) -> dict[str, str]:
    """Return SOPInstanceUID → why it was not taken, of the answer to a request (PS3.18 table I.1-1)."""
    failed = answer.get("FailedSOPSequence") or []
    return {
        str(one.ReferencedSOPInstanceUID): f"refused with reason 0x{int(one.get('FailureReason') or 0):04X}"
        for one in failed
    }
