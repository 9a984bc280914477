"""Detections as objects that a PACS keeps beside the film: what is found, drawn over it, and burnt into a copy.

A Structured Report (TID 1500, PS3.16) names each finding with a code, a closed polyline and a certainty; a Grayscale
Softcopy Presentation State (PS3.3 A.33.1) shows the same boxes on the film itself; a Secondary Capture (A.8.1) shows
them where a viewer knows neither; where asked for, a Parametric Map (A.75) shows what each was read from. Each is a
series of its own in the film's study and carries the film's patient and study, which is what DICOM demands: these
files, and no others of a run, name the patient.

The polylines are in pixels of the film, (column, row), with 0, 0 at the outer corner of the first pixel: SCOORD's
frame (PS3.3 C.18.6.1.2), the presentation state's (C.10.5.1.2) and our boxes' are the same.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.valuerep import DA, TM

from cxr.files import write_whole
from cxr.findings import FindingVocabulary
from cxr.palette import colour
from cxr.read.chest_films import Reason
from cxr.read.dicom import ReadError
from cxr.read.dicom_bytes import dicom_bytes
from cxr.read.silence import SILENT
from cxr.report.algorithm import Algorithm
from cxr.report.dicom_maps import parametric_map
from cxr.report.dicom_origin import NOTICE, origin, polyline
from cxr.report.dicom_report import refusal_report, structured_report
from cxr.report.figures import Marks

_Maker = Callable[[Dataset], Dataset]

_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns")
# Of type 2 in every object (PS3.3 C.7.1.1, C.7.2.1): empty where the film does not know them.
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
# Of these, too, an object may say nothing. What is out of standard it may not say.
_IN_STANDARD: dict[str, Callable[[str], object]] = {
    "PatientSex": hd.PatientSexValues,
    "PatientBirthDate": DA,
    "StudyDate": DA,
    "StudyTime": TM,
}


def write_objects(
    film: Path,
    marks: Marks,
    abnormal: float,
    picture: NDArray[np.uint8],
    algorithm: Algorithm,
    findings: FindingVocabulary,
    stem: Path,
    maps: Mapping[str, NDArray[np.uint16]] = MappingProxyType({}),
) -> None:
    """Write ``<stem>-sr.dcm``, ``-pr.dcm``, ``-sc.dcm``, and ``-pm-<method>.dcm`` for each method of ``maps``.

    Args:
        film: the DICOM file that was read.
        marks: the detections to show, boxes in its pixels.
        abnormal: 0..1, how sure it is that the film has any finding.
        picture: [h, w, 3] RGB, the film with the boxes burnt in.
        algorithm: the detector behind the detections.
        findings: the vocabulary behind the names.
        stem: path of the files without their ends.
        maps: method → a map for each of ``marks``, [M, h, w], 65535 = 1.0, of the whole film at any size.

    Raises ``ReadError`` where the film is no DICOM file or lacks what an object must refer to.
    """
    makers: dict[str, _Maker] = {
        "sr": lambda source: structured_report(source, marks, abnormal, algorithm, findings),
        "pr": lambda source: presentation_state(source, marks, algorithm, findings),
        "sc": lambda source: secondary_capture(source, picture, algorithm),
    }
    for method, some in maps.items():
        makers[f"pm-{method}"] = partial(parametric_map, marks=marks, method=method, maps=some, algorithm=algorithm)
    _write_all(film, makers, stem)


def write_refusal(film: Path, reason: Reason, picture: NDArray[np.uint8], algorithm: Algorithm, stem: Path) -> None:
    """Write ``<stem>-sr.dcm`` and ``-sc.dcm`` of a film that is not assessed, which say so and why.

    There is no presentation state: over the film itself an empty one would look as if nothing had been found. The
    arguments, and the ``ReadError``, are those of ``write_objects``; ``picture`` has the words burnt in.
    """
    makers: dict[str, _Maker] = {
        "sr": lambda source: refusal_report(source, reason, algorithm),
        "sc": lambda source: secondary_capture(source, picture, algorithm),
    }
    _write_all(film, makers, stem)


def _write_all(film: Path, makers: Mapping[str, _Maker], stem: Path) -> None:
    """Write what each maker makes of the film's header, under its kind."""
    logging.getLogger("highdicom").setLevel(logging.WARNING)  # at INFO it logs each film's SOPInstanceUID
    with SILENT.kept():  # pydicom and highdicom quote names and dates that they find odd
        source = _read_source(film)
        for kind, make in makers.items():
            try:
                made = make(source)
                write_whole(stem.with_name(f"{stem.name}-{kind}.dcm"), dicom_bytes(made), flush=False)
            except (ValueError, TypeError, AttributeError, KeyError) as error:  # a header out of standard
                # Not the error's own words: they may quote the patient's name, and this goes into a report
                reason = f"no DICOM {kind} can be made of its header ({type(error).__name__})"
                raise ReadError(f"{film}: {reason}") from error


def presentation_state(
    source: Dataset, marks: Marks, algorithm: Algorithm, findings: FindingVocabulary
) -> hd.pr.GrayscaleSoftcopyPresentationState:
    """Return the boxes as graphics over the film, a layer a finding, each box captioned with its score."""
    layers = {
        name: hd.pr.GraphicLayer(
            f"FINDING{order}",
            order,
            name.replace("_", " ")[:64],
            hd.color.CIELabColor.from_string(colour(findings, name)),
        )
        for order, name in enumerate(dict.fromkeys(marks.findings), start=1)
    }
    drawn = [
        hd.pr.GraphicAnnotation(
            [source],
            layers[name],
            graphic_objects=[hd.pr.GraphicObject("POLYLINE", polyline(source, box), "PIXEL")],
            text_objects=[_caption(source, box, f"{name.replace('_', ' ')} {score:.2f}")],
        )
        for box, name, score in marks.detections()
    ]
    # MONOCHROME1 is not looked at under a presentation state: its presentation LUT inverts (PS3.3 C.11.6.1.2)
    inverse = source.PhotometricInterpretation == "MONOCHROME1"
    made = hd.pr.GrayscaleSoftcopyPresentationState(
        [source],
        content_label="DETECTIONS",
        content_description=NOTICE,
        graphic_annotations=drawn or None,
        graphic_layers=list(layers.values()) or None,
        presentation_lut_transformation=hd.PresentationLUTTransformation("INVERSE" if inverse else "IDENTITY"),
        **origin(source, algorithm, "pr"),
    )
    _take_over(made, source, "Laterality")
    return made


def secondary_capture(source: Dataset, picture: NDArray[np.uint8], algorithm: Algorithm) -> hd.sc.SCImage:
    """Return ``picture`` [h, w, 3] RGB as an image derived from the film."""
    made = hd.sc.SCImage.from_ref_dataset(
        source,
        np.ascontiguousarray(picture),
        "RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # demanded here, and not known where the film does not say: see below
        **origin(source, algorithm, "sc"),
    )
    _take_over(made, source, "Laterality", "PatientOrientation")
    made.ConversionType = "WSD"
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.BurnedInAnnotation = "NO"  # of who the patient is (PS3.3 C.8.6.2); boxes and findings are
    made.DerivationDescription = NOTICE
    made.ImageComments = "; ".join(algorithm.parameters())
    made.SourceImageSequence = [_reference(source)]
    return made


def _read_source(film: Path) -> Dataset:
    """Return a film's header as the objects take it. Raises ``ReadError``."""
    try:
        # A film without preamble and file meta is read too (PS3.10 7.1 asks for them, old archives lack them)
        source = dcmread(film, force=True, stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError) as error:
        raise ReadError(f"{film}: no DICOM objects can be made of it ({type(error).__name__})") from error
    missing = [name for name in _REQUIRED if not source.get(name)]
    if missing:
        raise ReadError(f"{film}: no DICOM objects can be made: its header has no {', '.join(missing)}")
    for name in _MAY_BE_EMPTY:
        if name not in source:
            setattr(source, name, "")
    for name, kind in _IN_STANDARD.items():
        try:
            if value := str(source[name].value or ""):
                kind(value)
        except ValueError:  # such as a sex of "U": highdicom would make no object at all
            setattr(source, name, "")
    source.decode()  # names in Big5 or GB18030 become text, to be written again in Unicode
    source.SpecificCharacterSet = "ISO_IR 192"
    return source


def _take_over(made: Dataset, source: Dataset, *names: str) -> None:
    """Say what the film says: these may be empty where it says nothing, but may not be absent, nor guessed."""
    for name in names:
        setattr(made, name, source.get(name) or None)


def _caption(source: Dataset, box: NDArray[np.float32], text: str) -> hd.pr.TextObject:
    x, y = polyline(source, box)[0]
    return hd.pr.TextObject(text, "PIXEL", anchor_point=(float(x), float(y)), anchor_point_visible=False)


def _reference(source: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return reference
