"""Reads films from DICOM files (PS3.10, with or without a preamble) and from pictures; the content shows which it is.

Of a DICOM header only the elements in ``_HEADER`` are read, and for a digest those in ``_KEPT``. Names, dates and
institutions never leave the file. The identifiers that keep a patient's films together become pseudonyms.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from cxr.read.decode import PixelLayout, check_data, decode
from cxr.read.files import content_digest, file_bytes, files_below, first_bytes
from cxr.read.part10 import PixelElement, looks_like_dicom
from cxr.read.picture import is_picture, picture_size, read_picture
from cxr.read.radiograph import Radiograph, ReadError, Window, pseudonym
from cxr.read.tags import Tags, open_tags

__all__ = [
    "Arrival",
    "Header",
    "IncompleteError",
    "Radiograph",
    "ReadError",
    "Window",
    "check_film",
    "file_bytes",
    "find_dicoms",
    "parse_film",
    "pseudonym",
    "read_dicom",
    "read_film",
    "read_header",
]

# fmt: off
_HEADER = [
    "SOPInstanceUID", "StudyInstanceUID", "PatientID", "Modality", "BodyPartExamined", "ViewPosition",
    "ViewCodeSequence", "CodeMeaning", "PatientOrientation", "PresentationIntentType", "Rows", "Columns",
    "SamplesPerPixel", "NumberOfFrames", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelIntensityRelationship", "PixelSpacing", "ImagerPixelSpacing", "RescaleSlope",
    "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
    "LUTDescriptor", "LUTData",
]
# fmt: on
# Beside the pixels, what objects about a film say of it: a film whose name was corrected is not the film that was here.
_KEPT = ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "PatientName"]
_KEPT_DIGEST = 20  # bytes


@dataclass(frozen=True)
class Header:
    """What is known of a film without its pixels; the fields are those of ``Radiograph``."""

    rows: int
    columns: int
    study: str
    patient: str
    modality: str = ""
    body_part: str = ""
    view_position: str = ""
    row_direction: str = ""


class IncompleteError(ReadError):
    """The error of a film whose pixels are damaged or not all there."""


@dataclass(frozen=True)
class Arrival:
    """What a film is known by that has just come in.

    Args:
        instance: SOPInstanceUID, or a digest of a picture, which has none. It leads to the patient: never show it.
        digest: of what makes the film this very one: its pixels, whose they are, and of which study and series.
        study, patient: pseudonyms.
        sop_class: SOPClassUID, "" of a picture.
        modality: Modality, "" where absent.
        picture: whether it is no DICOM file but a picture.
    """

    instance: str = field(repr=False)
    digest: str
    study: str
    patient: str
    sop_class: str = ""
    modality: str = ""
    picture: bool = False


def read_film(path: Path | str) -> Radiograph:
    """Return the film in a DICOM, PNG, JPEG or TIFF file; its content shows which it is. Raises ``ReadError``."""
    return parse_film(Path(path), file_bytes(Path(path)))


def parse_film(path: Path, data: bytes) -> Radiograph:
    """Return the film in ``data``, the content of the file ``path``. Raises ``ReadError``."""
    # DICOM first: its preamble may hold a TIFF header, so that one file serves both kinds of reader (PS3.10 7.1)
    return read_picture(path, data) if is_picture(data) and not looks_like_dicom(data) else _parse_dicom(path, data)


def check_film(path: Path, data: bytes) -> Arrival:
    """Return what a film is known by that has come in as ``data``. Raises ``ReadError``.

    Of a film whose pixels are damaged or not all there, it is an ``IncompleteError``. No DICOM film is decoded, but for
    one in RLE: nothing marks the end of that.
    """
    if is_picture(data) and not looks_like_dicom(data):
        picture = read_picture(path, data)  # these are few and small, and nothing else says whether one is whole
        content = blake2b(data, digest_size=_KEPT_DIGEST).hexdigest()
        return Arrival(content, content, picture.study, picture.patient, picture=True)
    with open_tags(path, [*_HEADER, *_KEPT], data) as tags, _pixel_errors(tags):
        element, layout = _one_frame(tags, tags.integer("PixelRepresentation", 0) == 1)
        try:
            pixels = check_data(element, tags.syntax, layout)
            if tags.syntax == RLELossless:
                decode(element, tags.syntax, layout)
        except ValueError as error:
            raise IncompleteError(f"{path}: {tags.syntax.name} ({tags.syntax}): {error}") from error
        digest = blake2b(digest_size=_KEPT_DIGEST)
        for name in _KEPT:
            digest.update(_as_stored(tags, name) + b"\0")
        digest.update(pixels if isinstance(pixels, memoryview) else pixels.stream)
        study, patient = _pseudonyms(tags, lambda: blake2b(data).hexdigest())
        instance, kind = tags.text("SOPInstanceUID"), tags.text("SOPClassUID")
        return Arrival(instance, digest.hexdigest(), study, patient, kind, tags.code("Modality"))


def _as_stored(tags: Tags, name: str) -> bytes:
    """Return the bytes of a text without its padding, in whatever character set they are; b"" where absent."""
    if name not in tags.dataset:
        return b""
    value = tags.dataset.get_item(name).value
    return value.rstrip(b"\0 ") if isinstance(value, bytes) else str(value or "").encode(errors="replace")


def read_dicom(path: Path | str) -> Radiograph:
    """Return a single-frame grayscale DICOM film. Raises ``ReadError``."""
    return _parse_dicom(Path(path), file_bytes(Path(path)))


def read_header(path: Path | str) -> Header:
    """Return what is known of a film without reading its pixels. Raises ``ReadError``."""
    path = Path(path)
    start = first_bytes(path)
    if not is_picture(start) or looks_like_dicom(start):
        with open_tags(path, _HEADER) as tags:
            return _header(tags)
    data = file_bytes(path)
    study = pseudonym(blake2b(data).hexdigest())
    return Header(*picture_size(path, data), study=study, patient=study)


def _header(tags: Tags) -> Header:
    study, patient = _pseudonyms(tags, lambda: content_digest(tags.path))
    return Header(
        tags.integer("Rows"),
        tags.integer("Columns"),
        study,
        patient,
        modality=tags.text("Modality"),
        body_part=tags.text("BodyPartExamined"),
        view_position=_view(tags),
        row_direction=tags.text("PatientOrientation"),
    )


def _view(tags: Tags) -> str:
    """Return ViewPosition; where it is absent, the meaning of the view's code, which films of the class DX may have."""
    codes = tags.dataset.get("ViewCodeSequence")
    coded = str(codes[0].get("CodeMeaning") or "").strip() if isinstance(codes, Sequence) and codes else ""
    return tags.text("ViewPosition") or coded


def find_dicoms(folder: Path | str) -> list[Path]:
    """Return the DICOM files under ``folder``, sorted. Their content decides, not their names.

    A file that cannot be opened is returned too, since it may be a film: reading it raises the reason.
    """
    return sorted(path for path, start in files_below(Path(folder)) if start is None or looks_like_dicom(start))


def _parse_dicom(path: Path, data: bytes) -> Radiograph:
    with open_tags(path, _HEADER, data) as tags:
        study, patient = _pseudonyms(tags, lambda: blake2b(data).hexdigest())
        signed = tags.integer("PixelRepresentation", 0) == 1
        modality_luts = tags.luts("ModalityLUTSequence", signed)
        slope, intercept = (tags.number("RescaleSlope", 1.0), tags.number("RescaleIntercept", 0.0))
        if slope == 0:
            raise ReadError(f"{path}: RescaleSlope is 0, expected a slope that keeps the picture")
        return Radiograph(
            path=path,
            pixels=_pixels(tags, signed),
            photometric_interpretation=tags.code("PhotometricInterpretation"),
            bits_stored=tags.integer("BitsStored"),
            study=study,
            patient=patient,
            slope=slope,
            intercept=intercept,
            modality_lut=modality_luts[0] if modality_luts else None,
            voi_luts=tags.luts("VOILUTSequence", signed or intercept < 0),
            windows=tags.windows(),
            modality=tags.text("Modality"),
            body_part=tags.text("BodyPartExamined"),
            view_position=_view(tags),
            row_direction=tags.text("PatientOrientation"),
            pixel_intensity_relationship=tags.text("PixelIntensityRelationship"),
            presentation_intent=tags.text("PresentationIntentType"),
            spacing_mm=tags.spacing(),
            sop_instance=tags.text("SOPInstanceUID"),
        )


def _pixels(tags: Tags, signed: bool) -> NDArray[Any]:
    """Check that this is one grayscale frame of a size that its bytes can hold, and decode it."""
    with _pixel_errors(tags):
        element, layout = _one_frame(tags, signed)
        return decode(element, tags.syntax, layout)


def _one_frame(tags: Tags, signed: bool) -> tuple[PixelElement, PixelLayout]:
    """Return the pixel data of a film and their layout. Raises ``ReadError``, and ``ValueError`` of the layout."""
    photometric, frames = tags.code("PhotometricInterpretation"), tags.integer("NumberOfFrames", 1)
    samples = tags.integer("SamplesPerPixel", 1)
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ReadError(
            f"{tags.path}: PhotometricInterpretation is {photometric!r} with {samples} samples a pixel, "
            "expected MONOCHROME1 or MONOCHROME2 with 1"
        )
    if frames != 1:
        raise ReadError(f"{tags.path}: NumberOfFrames is {frames}, expected 1")
    element = tags.pixels
    if element is None or element.name != "PixelData":
        raise ReadError(f"{tags.path}: has {f'{element.name}, expected integer' if element else 'no'} Pixel Data")
    return element, PixelLayout(
        rows=tags.integer("Rows"),
        columns=tags.integer("Columns"),
        bits_allocated=tags.integer("BitsAllocated"),
        bits_stored=tags.integer("BitsStored"),
        high_bit=tags.integer("HighBit", tags.integer("BitsStored") - 1),
        signed=signed,
    )


@contextmanager
def _pixel_errors(tags: Tags) -> Iterator[None]:
    """Turn an error about the pixels into a ``ReadError`` that names file and transfer syntax."""
    try:
        yield
    except ReadError:
        raise
    except ValueError as error:
        raise ReadError(f"{tags.path}: {tags.syntax.name} ({tags.syntax}): {error}") from error
    except MemoryError as error:
        raise ReadError(
            f"{tags.path}: {tags.syntax.name} ({tags.syntax}): there is not enough memory to decode it"
        ) from error


def _pseudonyms(tags: Tags, content: Callable[[], str]) -> tuple[str, str]:
    """Return pseudonyms of study and patient. Where identifiers are missing, the hash ``content()`` is used."""
    study = pseudonym(tags.text("StudyInstanceUID") or tags.text("SOPInstanceUID") or content())
    patient = tags.text("PatientID")
    return study, pseudonym(patient) if patient else study
