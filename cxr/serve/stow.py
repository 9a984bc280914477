"""STOW-RS (PS3.18 10.5): films in a multipart body, and the answer that says of each whether it is kept."""

from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID

from cxr.read.radiograph import ReadError
from cxr.read.tags import open_tags

CONTENT_TYPE = "application/dicom+json"
NOT_UNDERSTOOD, ANOTHER_STUDY = 0xC000, 0xA900  # PS3.4 B.2.3, PS3.18 I.2
_UIDS = ["SOPClassUID", "SOPInstanceUID"]


class StoreAnswer:
    """The answer to one request, grown film by film (PS3.18 10.5.3)."""

    def __init__(self) -> None:
        self._taken: list[Dataset] = []
        self._failed: list[Dataset] = []
        self._unknown: list[Dataset] = []  # of which not even the UIDs can be read

    def taken(self, film: Dataset) -> None:
        """Note that a film is kept."""
        film.RetrieveURL = ""  # films are not given back
        self._taken.append(film)

    def failed(self, film: Dataset | None, status: int) -> None:
        """Note that a film is not kept, with the status that a C-STORE would have had; None for what is no film."""
        item = film or Dataset()
        item.FailureReason = status
        (self._unknown if film is None else self._failed).append(item)

    @property
    def status(self) -> int:
        """Return the HTTP status: 200 where all are kept, 202 for some, 409 for none, 400 where none came."""
        failures = len(self._failed) + len(self._unknown)
        if not self._taken:
            return 409 if failures else 400
        return 202 if failures else 200

    def as_json(self) -> dict[str, Any]:
        """Return the answer in the JSON of PS3.18 F."""
        answer = Dataset()
        answer.RetrieveURL = ""
        if self._taken:
            answer.ReferencedSOPSequence = self._taken
        if self._failed:
            answer.FailedSOPSequence = self._failed
        if self._unknown:
            answer.OtherFailuresSequence = self._unknown
        return answer.to_json_dict()


def reference(data: bytes) -> Dataset | None:
    """Return the item of a sequence that says which film this is; None where the film does not say so."""
    try:
        with open_tags(Path("film"), _UIDS, data) as tags:
            uids = [UID(tags.text(name)) for name in _UIDS]
    except ReadError:
        return None
    if not all(uid.is_valid for uid in uids):
        return None
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = uids
    return item


def is_of_study(data: bytes, study: str) -> bool:
    """Return whether a film, of which there is a ``reference``, is of the study with this UID."""
    with open_tags(Path("film"), ["StudyInstanceUID"], data) as tags:
        return tags.text("StudyInstanceUID") == study
