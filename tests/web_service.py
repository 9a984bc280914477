"""A service without a detector: a queue and an intake in a folder, and answers that a test gives itself."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.uid import UID, ComputedRadiographyImageStorage
from starlette.testclient import TestClient

from cxr.detect.prediction import NotAssessed, Prediction
from cxr.findings import Finding, FindingVocabulary
from cxr.measure.intervals import Estimate
from cxr.measure.operating_point import OperatingPoint
from cxr.measure.promises import KeptPromises
from cxr.phantom.course_layout import chest_image, uid
from cxr.read.chest_films import Reason
from cxr.report.algorithm import Algorithm
from cxr.report.journal import Done, as_plain
from cxr.serve.counters import Counters
from cxr.serve.doors import Limits
from cxr.serve.intake import Intake
from cxr.serve.queue import Queue, QueuedFilm
from cxr.serve.status_page import Places
from cxr.serve.web import Service, build_app

TOKEN = "0123456789abcdef"  # noqa: S105
POINT = OperatingPoint(0.4, 0.99, Estimate(1.0, 0.9, 1.0, 40), Estimate(0.5, 0.4, 0.6, 40), 80, 40, 70, "val", False)


def film(
    name: str = "one", sop_class: UID = ComputedRadiographyImageStorage, modality: str = "CR", **changes: str
) -> bytes:
    """The bytes of a small film; films of one name are of one patient and one study, and the same one."""
    dicom = chest_image(sop_class, uid(name, "instance"), "H12345678", np.arange(64 * 48).reshape(64, 48) % 4096)
    dicom.StudyInstanceUID, dicom.SeriesInstanceUID = uid(name, "study"), uid(name, "series")
    dicom.Modality, dicom.ViewPosition, dicom.PhotometricInterpretation = modality, "PA", "MONOCHROME2"
    for keyword, value in changes.items():
        setattr(dicom, keyword, value)
    content = BytesIO()
    dicom.save_as(content, enforce_file_format=True)
    return content.getvalue()


def service(
    folder: Path,
    language: str = "en",
    point: OperatingPoint | None = POINT,
    free_mb: float = 0,
    promises: KeptPromises | None = None,
) -> Service:
    """A service whose queue is in ``folder``; films of up to 1 MB."""
    queue = Queue(folder)
    findings = FindingVocabulary([Finding("nodule", "結節"), Finding("effusion", "肋膜積液")])
    algorithm = Algorithm("0.1.0", "ab" * 32, 0.3, point, promises=promises)
    intake = Intake(folder, queue, 1, free_mb)
    places = Places(["DICOM CXR@127.0.0.1:11112"], ["CR1@10.0.0.7"], ["PACS"])
    return Service(folder, queue, intake, Counters(), algorithm, findings, lambda: True, language, places=places)


def limits(requests: int = 4, silence: float = 60, wait: float = 0) -> Limits:
    return Limits(2**20, requests, silence, wait)


def client(served: Service, token: str | None = None, allowed: Limits | None = None) -> TestClient:
    """A client on this machine; with a token of the service it sends it."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    app = build_app(served, token, allowed or limits())
    return TestClient(app, "http://127.0.0.1:8000", headers=headers, follow_redirects=False)


def answer(served: Service, queued: QueuedFilm, scores: Sequence[float] = (0.9, 0.2), abnormal: float = 0.4) -> None:
    """Answer a film as a detector would: a nodule of each score."""
    boxes = tuple((1.0, 2.0, 10.0 + n, 20.5) for n in range(len(scores)))
    scored = {"nodule": max(scores, default=0.0), "effusion": 0.1}
    names = ("nodule",) * len(scores)
    said = Prediction(0, queued.study, queued.patient, 48, 64, boxes, names, tuple(scores), scored, abnormal)
    served.queue.has_read(queued.number, as_plain(Done(0, queued.name, prediction=said)))


def refuse_to_assess(served: Service, queued: QueuedFilm, reason: Reason) -> None:
    """Answer a film as one that is no frontal chest film."""
    said = NotAssessed(0, queued.study, queued.patient, 48, 64, reason)
    served.queue.has_read(queued.number, as_plain(Done(0, queued.name, not_assessed=said)))
