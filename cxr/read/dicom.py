"""Files → films: DICOM by PS3.10, with or without its preamble, and pictures, told apart by content.

Only the elements in ``_HEADER`` are read. Names, dates and institutions never leave the file; the identifiers that
are needed to keep a patient's films together leave it as pseudonyms.
"""

from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom.uid import ExplicitVRBigEndian

from cxr.read.decode import PixelLayout, decode
from cxr.read.picture import is_picture, picture_size, read_picture
from cxr.read.radiograph import Radiograph, ReadError, Window, pseudonym
from cxr.read.tags import MAX_BYTES, Tags, looks_like_dicom, open_tags

__all__ = [
    "Header",
    "Radiograph",
    "ReadError",
    "Window",
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
    "PresentationIntentType", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelIntensityRelationship",
    "PixelSpacing", "ImagerPixelSpacing", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "LUTDescriptor", "LUTData",
]
# fmt: on
_PIXELS = ["PixelData", "FloatPixelData", "DoubleFloatPixelData"]


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


def read_film(path: Path | str) -> Radiograph:
    """Return a film from a DICOM, PNG, JPEG or TIFF file, told apart by content. Raises ``ReadError``."""
    return parse_film(Path(path), file_bytes(Path(path)))


def parse_film(path: Path, data: bytes) -> Radiograph:
    """Return the film in ``data``, the content of the file ``path``. Raises ``ReadError``."""
    # DICOM first: its preamble may hold a TIFF header, so that one file serves both kinds of reader (PS3.10 7.1)
    return read_picture(path, data) if is_picture(data) and not looks_like_dicom(data) else _parse_dicom(path, data)


def read_dicom(path: Path | str) -> Radiograph:
    """Return a single-frame grayscale DICOM film. Raises ``ReadError``."""
    return _parse_dicom(Path(path), file_bytes(Path(path)))


def read_header(path: Path | str) -> Header:
    """Return size and pseudonyms of a film without reading its pixels. Raises ``ReadError``."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(132)
            file.seek(0)
            if not is_picture(start) or looks_like_dicom(start):
                with open_tags(path, file, _HEADER) as tags:
                    return _header(tags)
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened: {error.strerror}") from error
    data = file_bytes(path)
    study = pseudonym(blake2b(data).hexdigest())
    return Header(*picture_size(path, data), study=study, patient=study)


def _header(tags: Tags) -> Header:
    study, patient = _pseudonyms(tags)
    return Header(
        tags.integer("Rows"),
        tags.integer("Columns"),
        study,
        patient,
        modality=tags.text("Modality"),
        body_part=tags.text("BodyPartExamined"),
        view_position=tags.text("ViewPosition"),
    )


def find_dicoms(folder: Path | str) -> list[Path]:
    """Return the DICOM files under ``folder``, sorted; known by content, so names and extensions do not matter."""
    found = []
    for path in Path(folder).rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                if looks_like_dicom(file.read(132)):
                    found.append(path)
    return sorted(found)


def file_bytes(path: Path) -> bytes:
    """Return the content of a file of a film's size. Raises ``ReadError``."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ReadError(f"{path}: is a folder, expected a file")
        if size > MAX_BYTES:
            raise ReadError(f"{path}: has {size:,} bytes, expected at most {MAX_BYTES:,} for one film")
        data = path.read_bytes()
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened: {error.strerror}") from error
    if not data:
        raise ReadError(f"{path}: is empty")
    return data


def _parse_dicom(path: Path, data: bytes) -> Radiograph:
    with open_tags(path, BytesIO(data), [*_HEADER, *_PIXELS]) as tags:
        study, patient = _pseudonyms(tags)
        signed = tags.integer("PixelRepresentation", 0) == 1
        modality_luts = tags.luts("ModalityLUTSequence", signed)
        slope, intercept = (tags.number("RescaleSlope", 1.0), tags.number("RescaleIntercept", 0.0))
        if slope == 0:
            raise ReadError(f"{path}: RescaleSlope is 0, expected a slope that keeps the picture")
        return Radiograph(
            path=path,
            pixels=_pixels(tags, signed),
            photometric_interpretation=tags.text("PhotometricInterpretation"),
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
            view_position=tags.text("ViewPosition"),
            pixel_intensity_relationship=tags.text("PixelIntensityRelationship"),
            presentation_intent=tags.text("PresentationIntentType"),
            spacing_mm=tags.spacing(),
            sop_instance=tags.text("SOPInstanceUID"),
        )


def _pixels(tags: Tags, signed: bool) -> NDArray[Any]:
    """Check that this is one grayscale frame of a size that its bytes can hold, and decode it."""
    photometric, frames = tags.text("PhotometricInterpretation"), tags.integer("NumberOfFrames", 1)
    samples = tags.integer("SamplesPerPixel", 1)
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ReadError(
            f"{tags.path}: PhotometricInterpretation is {photometric!r} with {samples} samples a pixel, "
            "expected MONOCHROME1 or MONOCHROME2 with 1"
        )
    if frames != 1:
        raise ReadError(f"{tags.path}: NumberOfFrames is {frames}, expected 1")
    if "PixelData" not in tags.dataset:
        other = next((name for name in _PIXELS if name in tags.dataset), None)
        raise ReadError(f"{tags.path}: has {f'{other}, expected integer' if other else 'no'} Pixel Data")
    syntax, element = tags.syntax, tags.dataset["PixelData"]
    if element.is_undefined_length and not syntax.is_encapsulated:
        raise ReadError(f"{tags.path}: {syntax.name} ({syntax}): pixel data are compressed, expected uncompressed ones")
    try:
        layout = PixelLayout(
            rows=tags.integer("Rows"),
            columns=tags.integer("Columns"),
            bits_allocated=tags.integer("BitsAllocated"),
            bits_stored=tags.integer("BitsStored"),
            high_bit=tags.integer("HighBit", tags.integer("BitsStored") - 1),
            signed=signed,
        )
        return decode(element.value or b"", syntax, layout, syntax == ExplicitVRBigEndian and element.VR == "OW")
    except ReadError:
        raise
    except ValueError as error:
        raise ReadError(f"{tags.path}: {syntax.name} ({syntax}): {error}") from error


def _pseudonyms(tags: Tags) -> tuple[str, str]:
    """Return pseudonyms of study and patient; what the file does not identify stands for itself."""
    study = tags.text("StudyInstanceUID") or tags.text("SOPInstanceUID")
    study = pseudonym(study or blake2b(file_bytes(tags.path)).hexdigest())
    patient = tags.text("PatientID")
    return study, pseudonym(patient) if patient else study
