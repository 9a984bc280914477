"""Runs a detector over files, one after another: decoding, inference and writing overlap, and no film is kept."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from cxr.data.dataset import channels_first
from cxr.data.inputs import Decoded, Input, Refused
from cxr.detect.film_detector import FilmDetector
from cxr.detect.finite import detect_finite
from cxr.detect.prediction import NotAssessed, Prediction
from cxr.read.chest_films import NOT_FINITE, Reason
from cxr.read.dicom import ReadError
from cxr.read.workers import ahead, streamed

Look = Callable[[Prediction, Tensor], None]
Read = Callable[[Input], Decoded | Refused]
Outcome = Prediction | NotAssessed | ReadError

SIDE_BY_SIDE = 4  # batches in the detector at once; the part of a batch in Python itself runs in one thread at a time


def predict_films(
    task: FilmDetector, films: Iterable[Input], decode: Read, batch: int, workers: int, look: Look | None = None
) -> Generator[tuple[Input, Outcome], None, None]:
    """Yield each film with its prediction, or the reason why it has none, in the order they are done.

    A film that cannot be read has its ``ReadError``. One that is no film for this detector (``ChestFilms``), or for
    which the detector computes NaN or infinity, is ``NotAssessed``.

    ``workers`` processes decode at most a few batches ahead of the detector. The detector is at most a few batches
    ahead of the caller. So memory does not grow with the number of films. The prediction of a film does not depend on
    the others. On a CPU several batches are in the detector at once, each on its share of the cores. Threads that need
    not wait for one another do 1.4 to 1.7 times as much (two cores, ``fasterrcnn_tiny``).

    ``look``, if given, is called for each film before it is yielded, with its prediction and its image [1, h, w]
    float32 in 0..1 on the detector's device. It is called in the detector's thread. There is then only one such thread,
    and at most one film waits, so that ``look`` need not keep many.
    """
    task.detector.eval()
    threads = torch.get_num_threads()
    side_by_side = min(SIDE_BY_SIDE, threads) if look is None and task.device.type == "cpu" else 1
    decoded = _Batches(ahead(streamed(decode, films, workers), limit=2 * batch * side_by_side), batch)
    detecting = [_detected(task, decoded, look, threads // side_by_side) for _ in range(side_by_side)]
    try:
        yield from ahead(*detecting, limit=1 if look else 4 * batch)
    finally:
        torch.set_num_threads(threads)  # this setting belongs partly to the process, not to the thread


class _Batches:
    """Decoded films in lists of up to ``size``, for threads that share them."""

    def __init__(self, decoded: Iterator[tuple[Input, Decoded | Refused | ReadError]], size: int) -> None:
        self._decoded, self._size = decoded, size
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[list[tuple[Input, Decoded | Refused | ReadError]]]:
        while taken := self._take():
            yield taken

    def _take(self) -> list[tuple[Input, Decoded | Refused | ReadError]]:
        with self._lock:
            return list(islice(self._decoded, self._size))


def _detected(
    task: FilmDetector, batches: _Batches, look: Look | None, threads: int
) -> Iterator[tuple[Input, Outcome]]:
    torch.set_num_threads(threads)
    for taken in batches:
        read: list[tuple[Input, Decoded]] = []
        for film, outcome in taken:
            if isinstance(outcome, ReadError):
                yield film, outcome
            elif isinstance(outcome, Refused):
                yield film, _not_assessed(film, outcome, outcome.reason)
            else:
                read.append((film, outcome))
        if read:
            yield from _predict(task, read, look)


def _predict(
    task: FilmDetector, films: list[tuple[Input, Decoded]], look: Look | None
) -> Iterator[tuple[Input, Prediction | NotAssessed]]:
    samples = [sample(decoded) for _, decoded in films]
    images = [image.to(task.device) for image, _ in samples]
    targets = [{key: value.to(task.device) for key, value in target.items()} for _, target in samples]
    detections = detect_finite(task, images, targets)
    for (film, decoded), image, answer in zip(films, images, detections, strict=True):
        if answer is None:
            yield film, _not_assessed(film, decoded, NOT_FINITE)
            continue
        prediction = _plain(task.findings.names, film, decoded, {key: value.cpu() for key, value in answer.items()})
        if look is not None:
            look(prediction, image)
        yield film, prediction


def _not_assessed(film: Input, read: Decoded | Refused, reason: Reason) -> NotAssessed:
    seen = (read.sop_instance, read.statistics)
    return NotAssessed(film.number, read.study, read.patient, read.width, read.height, reason, *seen)


def sample(film: Decoded) -> tuple[Tensor, dict[str, Tensor]]:
    """Return image [C, h, w] float32 in 0..1 and the target that ``DetectionTask.detect`` reads."""
    image = np.multiply(film.pixels, np.float32(1 / 65535), dtype=np.float32)  # as RadiographDataset does, to the bit
    height, width = film.pixels.shape[:2]
    return channels_first(image), {
        "scale": torch.tensor([width / film.width, height / film.height], dtype=torch.float32),
        "size": torch.tensor([film.height, film.width]),
    }


def _plain(names: tuple[str, ...], film: Input, decoded: Decoded, answer: dict[str, Tensor]) -> Prediction:
    order = torch.argsort(answer["scores"], descending=True, stable=True)
    boxes = [[round(side, 2) for side in box] for box in answer["boxes"][order].double().tolist()]
    return Prediction(
        number=film.number,
        study=decoded.study,
        patient=decoded.patient,
        width=decoded.width,
        height=decoded.height,
        boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes),
        findings=tuple(names[label - 1] for label in answer["labels"][order].tolist()),
        scores=tuple(round(score, 6) for score in answer["scores"][order].tolist()),
        finding_scores=dict(zip(names, answer["finding_scores"].tolist(), strict=True)),
        abnormal=float(answer["abnormal"]),
        sop_instance=decoded.sop_instance,
        disagreement=tuple(round(value, 6) for value in answer["disagreement"][order].tolist())
        if "disagreement" in answer
        else (),
        statistics=decoded.statistics,
    )
