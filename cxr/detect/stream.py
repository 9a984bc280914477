"""Films from files to detections, one after another: decoding, inference and writing overlap, and no film is kept."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from cxr.data.inputs import Decode, Decoded, Input
from cxr.detect.prediction import Prediction
from cxr.detect.task import DetectionTask
from cxr.detect.transform import whole_canvas
from cxr.read.dicom import ReadError
from cxr.read.workers import ahead, streamed

Look = Callable[[Prediction, Tensor], None]


def predict_films(
    task: DetectionTask, films: Iterable[Input], decode: Decode, batch: int, workers: int, look: Look | None = None
) -> Iterator[tuple[Input, Prediction | ReadError]]:
    """Yield each film with what the detector says of it, or why it could not be read, in the order they are done.

    ``workers`` processes decode at most a few batches ahead of the detector, and the detector, in a thread, a few ahead
    of whoever consumes: at no time are more films in memory, however many there are. What is said of a film does not
    depend on the others (``whole_canvas``).

    ``look``, if given, is called in the detector's thread with each film's prediction and its image [1, h, w] float32
    in 0..1 on the detector's device, before the film is yielded; then one film waits at most, so that what ``look``
    keeps of them is not much.
    """
    whole_canvas(task.detector, decode.size)
    decoded = ahead(streamed(decode, films, workers), limit=2 * batch)
    yield from ahead(_detected(task, decoded, batch, look), limit=1 if look else 4 * batch)


def _detected(
    task: DetectionTask, decoded: Iterable[tuple[Input, Decoded | ReadError]], batch: int, look: Look | None
) -> Iterator[tuple[Input, Prediction | ReadError]]:
    waiting: list[tuple[Input, Decoded]] = []
    for film, outcome in decoded:
        if isinstance(outcome, ReadError):
            yield film, outcome
            continue
        waiting.append((film, outcome))
        if len(waiting) == batch:
            yield from _predict(task, waiting, look)
            waiting.clear()
    if waiting:
        yield from _predict(task, waiting, look)


def _predict(
    task: DetectionTask, films: list[tuple[Input, Decoded]], look: Look | None
) -> Iterator[tuple[Input, Prediction]]:
    samples = [sample(decoded) for _, decoded in films]
    images = [image.to(task.device) for image, _ in samples]
    targets = [{key: value.to(task.device) for key, value in target.items()} for _, target in samples]
    found = task.detect(images, targets)
    for (film, decoded), image, said in zip(films, images, found, strict=True):
        prediction = _plain(task.findings.names, film, decoded, {key: value.cpu() for key, value in said.items()})
        if look is not None:
            look(prediction, image)
        yield film, prediction


def sample(film: Decoded) -> tuple[Tensor, dict[str, Tensor]]:
    """Return image [1, h, w] float32 in 0..1 and the target that ``DetectionTask.detect`` reads."""
    image = np.multiply(film.pixels, np.float32(1 / 65535), dtype=np.float32)  # as RadiographDataset does, to the bit
    height, width = film.pixels.shape
    return torch.from_numpy(image)[None], {
        "scale": torch.tensor([width / film.width, height / film.height], dtype=torch.float32),
        "size": torch.tensor([film.height, film.width]),
    }


def _plain(names: tuple[str, ...], film: Input, decoded: Decoded, found: dict[str, Tensor]) -> Prediction:
    order = torch.argsort(found["scores"], descending=True, stable=True)
    boxes = [[round(side, 2) for side in box] for box in found["boxes"][order].double().tolist()]
    return Prediction(
        number=film.number,
        study=decoded.study,
        patient=decoded.patient,
        width=decoded.width,
        height=decoded.height,
        boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes),
        findings=tuple(names[label - 1] for label in found["labels"][order].tolist()),
        scores=tuple(round(score, 6) for score in found["scores"][order].tolist()),
        finding_scores=dict(zip(names, found["finding_scores"].tolist(), strict=True)),
        abnormal=float(found["abnormal"]),  # to the last bit: it is held against the operating point
    )
