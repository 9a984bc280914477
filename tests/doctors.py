"""Measurement reports as a doctor's viewer writes them, made with highdicom."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
from highdicom.sr import CodedConcept
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

CARDIOMEGALY = CodedConcept("8186001", "SCT", "Cardiomegaly")
SCOLIOSIS = CodedConcept("298382003", "SCT", "Scoliosis deformity of spine")
PRESENCE, ABSENT = CodedConcept("705057003", "SCT", "Presence"), CodedConcept("2667000", "SCT", "Absent")
_MAY_BE_EMPTY = ("PatientID", "PatientName", "PatientSex", "PatientBirthDate", "AccessionNumber", "StudyID")
_MAY_BE_EMPTY += ("StudyDate", "StudyTime", "ReferringPhysicianName")


@dataclass(frozen=True)
class Region:
    """A region that a doctor draws; ``tracking`` is that of the box of ours that it was made of."""

    code: CodedConcept | None
    points: Sequence[tuple[float, float]]
    kind: str = "POLYLINE"
    tracking: str = ""
    absent: bool = False


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]


def write_doctors_report(
    film: Path,
    out: Path,
    regions: Sequence[Region],
    name: str = "Chen^Mei-Ling",
    time: str = "",
    complete: bool = True,
    replaces: Path | None = None,
) -> Path:
    """Write the report of a person on a film; ``replaces`` is the report that the doctor opened and corrected."""
    source = dcmread(film, stop_before_pixels=True)
    for keyword in _MAY_BE_EMPTY:
        if keyword not in source:
            setattr(source, keyword, "")
    person = hd.sr.PersonObserverIdentifyingAttributes(name=name)
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_person_context=hd.sr.ObserverContext(codes.DCM.Person, person)
        ),
        procedure_reported=CodedConcept("399208008", "SCT", "Plain chest X-ray"),
        imaging_measurements=[_group(source, region) for region in regions] or [_whole(source)],
    )
    made = hd.sr.Comprehensive3DSR(
        evidence=[source], content=report, series_instance_uid=hd.UID(), series_number=1, sop_instance_uid=hd.UID(),
        instance_number=1, manufacturer="A viewer", is_complete=complete,
        previous_versions=[dcmread(replaces)] if replaces else None,
    )  # fmt: skip
    made.SpecificCharacterSet = "ISO_IR 192"
    if time:
        made.ContentDate, made.ContentTime = time[:8], time[8:]
    made.save_as(out, enforce_file_format=True)
    return out


def _group(source: Dataset, region: Region) -> hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    image = hd.sr.SourceImageForRegion.from_source_image(source)
    evaluations = [hd.sr.QualitativeEvaluation(PRESENCE, ABSENT)] if region.absent else None
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(region.tracking or hd.UID(), "region"),
        referenced_region=hd.sr.ImageRegion(region.kind, np.array(region.points, float), image),
        finding_type=region.code,
        qualitative_evaluations=evaluations,
    )


def _whole(source: Dataset) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """Return a group without region and finding: TID 1500 wants one at least."""
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "film"),
        source_images=[hd.sr.SourceImageForMeasurementGroup.from_source_image(source)],
    )
