"""Which films a detector of chest films may assess: frontal films of the chest with enough pixels, like its training's.

A detector gives an answer for every picture, even for one of a foot. A film that this rule refuses is "not assessed":
no detection is reported for it, and it is never put aside as normal. The first part of the rule is what the file
states. A header may be wrong, and a PNG or JPEG has none, so the second part looks at the pixels (``KnownFilms``).
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from cxr.read.known_films import KnownFilms, Likeness, likeness
from cxr.read.preprocessing import RADIOGRAPH

Cause = Literal["too_small", "other_kind", "other_part", "lateral", "inverted", "turned", "unlike", "not_finite"]

# BodyPartExamined is free text in practice ("PORT CHEST", "CHEST_TO_PELVIS", "Thorax PA"): a value with one of these
# words means the chest. PS3.16 Annex L has CHEST, CHESTABDOMEN, CHESTABDPELVIS, NECKCHEST, …, LUNG and RIB; hospitals
# add THORAX, TORAX and 胸部. The table in conf/intensity/by_modality.yaml takes the standard's words, too.
_CHEST = ("CHEST", "THORAX", "TORAX", "LUNG", "RIB", "胸")
_WITHIN_CHEST = ("胸椎", "胸骨")  # thoracic spine and sternum: their films are of bones, at another exposure
# Terms of PS3.16 Annex L for other body parts. A reason repeats only these: any other text may be a person's name.
_OTHER_PARTS = re.compile(
    "ABDOMEN(PELVIS)?|ANKLE|AORTA|ARM|BACK|BLADDER|BRAIN|BREAST|CALCANEUS|CALF|CLAVICLE|COCCYX|COLON|ELBOW|ESOPHAGUS"
    "|EXTREMITY|EYE|FACE|FEMUR|FINGER|FOOT|FOREARM|HAND|HEAD|HEADNECK|HEART|HIP|HUMERUS|JAW|KIDNEY|KNEE|LEG|LIVER"
    "|MANDIBLE|MAXILLA|MEDIASTINUM|NECK|NOSE|ORBIT|PATELLA|PELVIS|RADIUS|SCAPULA|SCJOINT|SHOULDER|SINUS|SKULL"
    "|(C|CT|T|TL|L|LS|S)?SPINE|STERNUM|STOMACH|THIGH|THUMB|TIBIA|TOE|ULNA|WHOLEBODY|WRIST|ZYGOMA"
)
# ViewPosition (PS3.3 C.8.7.1.1.3, C.8.11.5): LL and RL are lateral, LLO and RLO lateral oblique views; ML and LM are
# the lateral views of mammography. LLD and RLD mean that the patient lies on one side: the beam is horizontal and the
# film is a frontal one, so these are assessed. LAO, RAO, LPO and RPO are oblique views. Hospitals add L_LAT, OBLIQUE, …
_LATERAL = frozenset({"LL", "RL", "LLO", "RLO", "ML", "LM", "LAO", "RAO", "LPO", "RPO"})
_SAYS_LATERAL = re.compile("LAT|OBL")
_SAYS_SOMETHING_ELSE = re.compile("FLAT|PLATE|BILAT(ERAL)?|.*DECUB.*")  # "AP FLAT": the patient lies on the back
# Modality (PS3.3 C.7.3.1.1.1) of films that are radiographs, and of others that a reason repeats by name.
_RADIOGRAPHS = frozenset({"CR", "DX", "RG", "DR", ""})
_OTHER_KINDS = re.compile("CT|MR|MG|US|PT|NM|XA|RF|IO|PX|ES|XC|OT|SC|SR|PR|DOC|SEG|OP|GM|SM|ECG")


@dataclass(frozen=True)
class Reason:
    """Why a film is not assessed: a cause for programs, and a text for people in which nobody is named."""

    cause: Cause
    text: str


NOT_FINITE = Reason("not_finite", "the detector's answer is not finite: NaN or infinity in its layers or its scores")


@dataclass(frozen=True)
class ChestFilms:
    """The rule that says which films a detector may assess.

    Args:
        size: longest side, in pixels, of the picture that the detector takes.
        kind: kind of the films it was trained on (``Preprocessing.kind``), None where that is not known. CT and MR
            slices show other body parts and have no ViewPosition: of them only the number of pixels is checked.
        known: what is known of the pixels of its training films; of an ensemble, that of each member. Without any,
            films are judged by their headers alone.
    """

    size: int
    kind: str | None = None
    known: tuple[KnownFilms, ...] = ()

    def refusal(
        self,
        rows: int,
        columns: int,
        body_part: str,
        view_position: str,
        modality: str = "",
        row_direction: str = "",
    ) -> Reason | None:
        """Return why a film is not assessed by what its file states, or None if it may be assessed.

        A film has too few pixels if its longest side is shorter than half of ``size`` (it would be enlarged more than
        twice), or if its shortest side is shorter than a quarter of it (it is only a strip of a film).

        Args:
            rows: height of the original film.
            columns: width of the original film.
            body_part: BodyPartExamined of the file, "" where it has none.
            view_position: ViewPosition, likewise.
            modality: Modality, likewise.
            row_direction: first value of PatientOrientation, likewise: to which side of the patient the rows run.
        """
        if max(rows, columns) < self.size / 2 or min(rows, columns) < self.size / 4:
            return Reason("too_small", f"{columns} x {rows} px are too few for a detector of {self.size} px")
        if self.kind not in (None, RADIOGRAPH):
            return None
        return self._other_kind(modality) or _other_part(body_part) or _lateral(view_position, row_direction)

    def refusal_by_pixels(self, pixels: NDArray[Any]) -> Reason | None:
        """Return why a film is not assessed by what it looks like, or None if it may be.

        Args:
            pixels: [h, w] or [h, w, C], as the detector takes the film: after the intensity, air dark.
        """
        if not self.known or self.kind not in (None, RADIOGRAPH):
            return None
        return _unlike(likeness(self.known, pixels))

    def _other_kind(self, modality: str) -> Reason | None:
        stated = modality.strip().upper()
        if self.kind is None or stated in _RADIOGRAPHS:
            return None
        named = stated if _OTHER_KINDS.fullmatch(stated) else "another one"
        return Reason("other_kind", f"Modality is {named}, not that of a radiograph")


def _other_part(body_part: str) -> Reason | None:
    part = _letters(body_part)
    if not part or (any(word in part for word in _CHEST) and not any(word in part for word in _WITHIN_CHEST)):
        return None
    named = f"is {part}" if _OTHER_PARTS.fullmatch(part) else "names another part"
    return Reason("other_part", f"BodyPartExamined {named}, not the chest")


def _lateral(view_position: str, row_direction: str) -> Reason | None:
    """Return that a film is a lateral one. Where it states no view, the direction of its rows may tell.

    On a frontal film the rows run to the patient's left or right, on a lateral one to the front or the back (PS3.3
    C.7.6.1.1.1).
    """
    view = _letters(view_position)
    if view in _LATERAL or _SAYS_LATERAL.search(_SAYS_SOMETHING_ELSE.sub("", view)):
        named = view if view in _LATERAL else "oblique" if "OBL" in view else "lateral"
        return Reason("lateral", f"ViewPosition is {named}, not frontal")
    if not view and (direction := row_direction.strip().upper()) in ("A", "P"):
        return Reason("lateral", f"PatientOrientation begins with {direction}: the view is not frontal")
    return None


def _unlike(found: Likeness) -> Reason | None:
    if found.turned:
        return Reason("turned", f"the film lies turned by {found.turned} degrees")
    if found.inverted:
        return Reason("inverted", "its pixels are inverted against what its header states: air is bright")
    if found.distance > 1:
        far = f"{found.distance:.2f} times the distance that is allowed"
        return Reason("unlike", f"it does not look like the films that the detector was trained on: {far}")
    return None


def _letters(value: str) -> str:
    """Return the letters of a value in upper case and without accents: "Chest_to pelvis" becomes CHESTTOPELVIS."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", value.upper()) if letter.isalpha())
