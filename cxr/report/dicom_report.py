"""Structured reports of a film (TID 1500, PS3.16): its findings, or that it was not assessed and why."""

from collections.abc import Sequence
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes

from cxr.detect.prediction import six_digits
from cxr.read.chest_films import Reason
from cxr.report.algorithm import Algorithm
from cxr.report.dicom_codes import (
    PRIVATE_SCHEME,
    REASON_NOT_ASSESSED,
    finding_code,
    finding_site,
    private_scheme,
    refusal_code,
)
from cxr.report.dicom_origin import MAKER, derived_uid, origin, polyline
from cxr.report.figures import Marks

_PLAIN_X_RAY_OF_CHEST = CodedConcept("399208008", "SCT", "Plain chest X-ray")
_PLAIN_X_RAY = CodedConcept("168537006", "SCT", "Plain radiography")
_IMAGING = CodedConcept("363679005", "SCT", "Imaging")
_PROCEDURES = {"other_part": _PLAIN_X_RAY, "unlike": _PLAIN_X_RAY, "other_kind": _IMAGING}  # else of the chest


def structured_report(source: Dataset, marks: Marks, abnormal: float, algorithm: Algorithm) -> hd.sr.ComprehensiveSR:
    """Return the findings as a measurement report (TID 1500).

    One group says how surely the film is abnormal (TID 1501), so that a film without findings has a report too; then
    one a finding (TID 1410): its code, site, closed polyline, and the detector's score as a certainty in percent.
    """
    point = algorithm.operating_point
    sure = six_digits(abnormal, point.threshold if point else None)  # on its side of the threshold in the parameters
    whole = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracked(source, algorithm, "film"),
        finding_type=codes.SCT.Abnormal,
        algorithm_id=_identification(algorithm),
        measurements=[_certainty(sure)],
        source_images=[hd.sr.SourceImageForMeasurementGroup.from_source_image(source)],
    )
    regions = [
        _region(source, box, name, score, algorithm, number)
        for number, (box, name, score) in enumerate(marks.detections(), start=1)
    ]
    private = any(finding_code(name).scheme_designator == PRIVATE_SCHEME for name in marks.findings)
    return _report(source, [whole, *regions], private, algorithm, _PLAIN_X_RAY_OF_CHEST)


def refusal_report(source: Dataset, reason: Reason, algorithm: Algorithm) -> hd.sr.ComprehensiveSR:
    """Return a measurement report (TID 1500) that says that the film is not assessed, and why.

    Its one group (TID 1501) has no measurement. It says what became of the detections (PS3.16 CID 6042: not attempted,
    or failed) and the reason, which has no code in the standard and so a private one, and stands in words, too.
    """
    failed = reason.cause == "not_finite"
    outcome = codes.DCM.Failed if failed else codes.DCM.NotAttempted
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracked(source, algorithm, "film"),
        algorithm_id=_identification(algorithm, f"not assessed: {reason.text}"),
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(codes.DCM.SummaryOfDetections, outcome),
            hd.sr.QualitativeEvaluation(REASON_NOT_ASSESSED, refusal_code(reason)),
        ],
        source_images=[hd.sr.SourceImageForMeasurementGroup.from_source_image(source)],
    )
    procedure = _PROCEDURES.get(reason.cause, _PLAIN_X_RAY_OF_CHEST)
    return _report(source, [group], True, algorithm, procedure)


def _identification(algorithm: Algorithm, *more: str) -> hd.sr.AlgorithmIdentification:
    parameters = [*algorithm.parameters(), *more]
    return hd.sr.AlgorithmIdentification(MAKER, algorithm.version, parameters=parameters, manufacturer=MAKER)


def _report(
    source: Dataset, groups: Sequence[Any], private: bool, algorithm: Algorithm, procedure: CodedConcept
) -> hd.sr.ComprehensiveSR:
    """Return the report around groups of measurements; ``private``: some of its codes are."""
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=_device(algorithm), name=MAKER, manufacturer_name=MAKER, model_name="detector",
        serial_number=algorithm.digest,
    )  # fmt: skip
    observer = hd.sr.ObserverContext(codes.DCM.Device, device)
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=procedure,
        imaging_measurements=groups,
    )
    return hd.sr.ComprehensiveSR(
        evidence=[source],
        content=report,
        is_complete=True,
        coding_schemes=[private_scheme()] if private else None,
        **origin(source, algorithm, "sr"),
    )


def _device(algorithm: Algorithm) -> hd.UID:
    """Return the model's own UID: the same checkpoint has the same one everywhere."""
    return derived_uid("model", algorithm.digest)


def _tracked(source: Dataset, algorithm: Algorithm, name: str) -> hd.sr.TrackingIdentifier:
    """Return what a group of measurements is tracked by: its name, and a UID of film, algorithm and name."""
    uid = derived_uid("tracked", str(source.SOPInstanceUID), algorithm.identity(), name)
    return hd.sr.TrackingIdentifier(uid, name)


def _certainty(score: float) -> hd.sr.Measurement:
    return hd.sr.Measurement(codes.DCM.CertaintyOfFinding, round(100 * score, 4), codes.UCUM.Percent)


def _region(
    source: Dataset, box: NDArray[np.float32], name: str, score: float, algorithm: Algorithm, number: int
) -> hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    site = finding_site(name)
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracked(source, algorithm, f"{name.replace('_', ' ')} {number}"),
        referenced_region=hd.sr.ImageRegion(
            "POLYLINE", polyline(source, box), hd.sr.SourceImageForRegion.from_source_image(source)
        ),
        finding_type=finding_code(name),
        finding_sites=[hd.sr.FindingSite(site)] if site else None,
        algorithm_id=_identification(algorithm),
        measurements=[_certainty(score)],
    )
