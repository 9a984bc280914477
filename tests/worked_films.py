"""A detector that has learnt nothing at work on the films of a queue, for the tests of a service."""

import threading
from collections.abc import Callable
from pathlib import Path

import torch

from cxr.config.models import builder
from cxr.data.inputs import Decode
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary
from cxr.read.intensity import Intensity, VoiWindow
from cxr.report.algorithm import Algorithm
from cxr.report.film_files import FilmFiles
from cxr.serve.counters import Counters
from cxr.serve.intake import Intake
from cxr.serve.queue import Queue, State
from cxr.serve.work import Tools, Work

SIZE = 64


def small_work(folder: Path, vocabulary: FindingVocabulary) -> Work:
    """The work on a queue in a folder, by a detector of 64 px."""
    torch.manual_seed(0)
    model = builder("fasterrcnn_tiny", anchors__image_size=SIZE, score_thresh=0.0)
    task = DetectionTask(vocabulary, model, torch.optim.SGD).eval()
    queue = Queue(folder)
    files = FilmFiles(folder, vocabulary, Algorithm("0.1", "ab", 0.3), False, True, small=True)
    tools = Tools(task, Decode(Intensity([VoiWindow()]), SIZE), files, batch=2, workers=1)
    return Work(queue, Intake(folder, queue, 1, 0), tools, ["PACS"], Counters())


def done(work: Work, until: Callable[[], bool], seconds: float = 240) -> None:
    """Work until something holds."""

    def watch() -> None:
        with work.queue.changed:
            held.append(work.queue.changed.wait_for(until, seconds))
        work.stop()

    held: list[bool] = []
    watcher = threading.Thread(target=watch)
    watcher.start()
    work.run()
    watcher.join()
    assert held == [True]


def nothing_waits(work: Work) -> Callable[[], bool]:
    """Whether no film waits for the detector or for its objects."""

    def nothing() -> bool:
        counts = work.queue.counts()  # asked once: a film that is put off between two questions would be in neither
        return counts[State.RECEIVED] == counts[State.READ] == 0

    return nothing


def kinds(work: Work, name: str) -> set[str]:
    """The kinds of objects that a film has."""
    return {path.stem.removeprefix(f"{name}-") for path in work.objects.glob(f"{name}-*")}
