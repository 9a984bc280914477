"""STOW-RS (PS3.18 10.5): films in a multipart body, and the answer that says of each whether it is kept."""

from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID

from cxr.read.radiograph import ReadError
from cxr.read.tags import open_tags

CONTENT_TYPE = "application/dicom+json"
_UIDS = ["SOPClassUID", "SOPInstanceUID"]


class StoreAnswer:
    """The answer to one request, grown film by film (PS3.18 10.5.3)."""

    def __init__(self) -> None:
        self._taken: list[Dataset] = []
        self._failed: list[Dataset] = []
        self._unknown: list[Dataset] = []  # of which not even the UIDs can be read

    def taken(self, data: bytes) -> None:
        """Note that a film is kept."""
        item = _reference(data) or Dataset()
        item.RetrieveURL = ""  # films are not given back
        self._taken.append(item)

    def failed(self, data: bytes, status: int) -> None:
        """Note that a film is not kept, with the status that a C-STORE would have had."""
        known = _reference(data)
        item = known or Dataset()
        item.FailureReason = status
        (self._failed if known else self._unknown).append(item)

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


def _reference(data: bytes) -> Dataset | None:
    """Return which film this is; None where it does not say so."""
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
