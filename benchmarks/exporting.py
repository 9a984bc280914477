"""Exported networks against PyTorch, detector by detector: films a second in turns, and the largest differences.

    python benchmarks/exporting.py [--detectors fasterrcnn_mobilenet fasterrcnn_tiny] [--runtimes onnx openvino]
    python benchmarks/exporting.py --checkpoint outputs/…/checkpoints/best.ckpt
    make bench: --detectors fasterrcnn_mobilenet fasterrcnn_tiny --films 96 --compared 24 --journal --json {json}

Films are drawn by the phantom, written as DICOM and read before the clock starts. As predict.py does, as many threads
as there are cores detect side by side, each a batch at a time, for PyTorch and for every runtime alike. All take turns,
so that whatever else the machine does meets each, and the ratio is the median of the turns. "journal" is the share of a
runtime's speed that is left on predict.py's whole way, from the files to the journal; these two take turns as well.

Without a checkpoint the weights are random: with frozen statistics where the published weights have such, as after
model.weights=DEFAULT, with GroupNorm for the detectors that learn from random numbers; the class scores are shifted so
that a film has some thirty detections, as after training. Quiet machine, please.
"""

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from cxr.data.inputs import Decode, Input, read_inputs
from cxr.phantom.films import write_course_layout
from cxr.read.intensity import Intensity, VoiWindow
from cxr.read.workers import stand_by, usable_cores

# What needs torch is imported where it is used: a process that reads films imports this file too.
if TYPE_CHECKING:
    from torch import Tensor, nn

    from cxr.detect.task import DetectionTask
    from cxr.export.detector import ExportedDetector

DETECTORS = (
    *("fasterrcnn_mobilenet", "fasterrcnn_tiny", "ssdlite", "fasterrcnn", "fasterrcnn_v2", "retinanet", "fcos"),
    *("yolov8", "rtdetr"),
)
FROZEN = ("fasterrcnn_mobilenet", "ssdlite", "fasterrcnn", "fasterrcnn_v2", "retinanet", "fcos")
FINDINGS = 7
BATCH = 8
DETECTIONS = 30  # a film
DRAWN_PX = 512
STANDING_BY_S = 2.0  # less than what importing torch and restoring a checkpoint take
_SCORES = re.compile(
    r"cls_score$|classification_head\.cls_logits$|\.module_list\.\d+\.1$|cv3\.\d\.2$|class_embed\.\d+$"
)

Samples = "list[tuple[Tensor, dict[str, Tensor]]]"


def built(name: str, size: int, images: "Sequence[Tensor]", folder: Path) -> "DetectionTask":
    """Return a detector of random weights that says as much of a film as a trained one."""
    import torch

    from cxr.config.models import builder
    from cxr.detect.task import DetectionTask
    from cxr.findings import FindingVocabulary

    torch.manual_seed(0)
    sized = {} if name in ("fcos", "ssdlite", "yolov8", "rtdetr") else {"anchors__image_size": size}
    weights = None
    if name in FROZEN:
        weights = str(folder / f"{name}.pth")
        torch.save(_with_statistics(builder(name, **sized), images), weights)
    findings = FindingVocabulary([{"name": f"finding_{n}"} for n in range(FINDINGS)])
    task = DetectionTask(findings, builder(name, weights=weights, **sized), torch.optim.SGD).eval()
    _calm(task, images[:4])
    return task


def _batch_norm(state: object) -> "Callable[[int], nn.Module]":
    from torch import nn

    return partial(nn.BatchNorm2d, momentum=None)


def _with_statistics(build: "Callable[..., nn.Module]", images: "Sequence[Tensor]") -> dict[str, "Tensor"]:
    """Return random weights with BatchNorm and the statistics of some films, as published weights are."""
    import torch
    from torch import nn

    from cxr.detect import backbones, faster_rcnn, one_stage

    with ExitStack() as patched:
        for module in (backbones, faster_rcnn, one_stage):
            patched.enter_context(patch.object(module, "norm_for", _batch_norm))
        detector = build(num_classes=FINDINGS + 1)
    detector.eval()
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    with torch.no_grad():
        detector(list(images[:BATCH]))
    return detector.state_dict()


def _calm(task: "DetectionTask", images: "Sequence[Tensor]") -> None:
    """Spread the class scores, and lower them until a film has about ``DETECTIONS``."""
    import torch

    detector: Any = task.detector
    layers = [module for name, module in detector.named_modules() if _SCORES.search(name)]
    deviations: list[float] = []
    hooks = [layer.register_forward_hook(lambda _, __, out: deviations.append(float(out.std()))) for layer in layers]
    with torch.no_grad():
        detector(list(images))
    for hook in hooks:
        hook.remove()
    for layer in layers:
        layer.weight.data *= 1 / max(statistics.median(deviations), 1e-3)
    background = hasattr(detector, "roi_heads") or type(detector).__name__ == "_SSD"  # a softmax, whose class 0 it is
    usual = [layer.bias.data.clone() for layer in layers]
    low, high = -10.0, 30.0
    for _ in range(12):
        shift = (low + high) / 2
        for layer, bias in zip(layers, usual, strict=True):
            layer.bias.data = bias - shift
            if background:
                layer.bias.data.view(-1, FINDINGS + 1)[:, 0] += shift
        with torch.no_grad():
            found = statistics.mean(len(one["boxes"]) for one in detector(list(images)))
        low, high = (shift, high) if found > DETECTIONS else (low, shift)


def exported(task: "DetectionTask", name: str, to: str, size: int, folder: Path) -> "ExportedDetector":
    """Return the network that export.py would write, opened as predict.py opens it."""
    import torch

    from cxr.export.card import Card
    from cxr.export.detector import open_exported
    from cxr.export.files import write_files
    from cxr.export.graph import Graph

    graph = Graph(task.detector, size).eval()
    place = folder / f"{name}-{to}"
    place.mkdir()
    files = write_files(graph, to, place)
    head = task.image_head
    card = Card(
        to, {path.name: "" for path in files}, name, "", task.findings.as_dict(), size, 1, 32, graph.outputs, {}, None,
        graph.score_thresh, graph.detections_per_img, 0.0 if head is None else float(head.box_weight),
        0.0 if head is None else float(head.film_weight), None, {},
    )  # fmt: skip
    threads = torch.get_num_threads()
    return open_exported(place, card, threads, threads, BATCH)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let each of several threads compute on its own, as predict.py does."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seconds(detector: Any, samples: Any, threads: int) -> float:
    """Return the seconds that ``threads`` threads need for all films."""
    import torch

    def detect(batch: Any) -> None:
        torch.set_num_threads(1)
        images, targets = zip(*batch, strict=True)
        detector.detect(list(images), list(targets))

    batches = [samples[start : start + BATCH] for start in range(0, len(samples), BATCH)]
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        list(pool.map(detect, batches))
        return time.perf_counter() - start


def journal_seconds(detector: Any, films: Sequence[Input], decode: Decode) -> float:
    """Return the seconds from files to a whole journal, processes standing by."""
    from cxr.detect.stream import predict_films
    from cxr.read.dicom import ReadError
    from cxr.report.journal import Done, Journal

    stand_by(Decode.__module__, usable_cores())
    time.sleep(STANDING_BY_S)
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:
        start = time.perf_counter()
        for film, said in predict_films(detector, films, decode, BATCH, usable_cores()):
            if isinstance(said, ReadError):
                raise said
            journal.add(Done(film.number, journal.name(said), said))
        return time.perf_counter() - start


def journal_share(
    detector: Any, samples: Any, films: Sequence[Input], decode: Decode, threads: int, turns: int
) -> float:
    """Return how much of its speed a detector keeps from files to journal; 1: reading and writing cost nothing."""
    shares = []
    for _ in range(turns):
        with one_thread_each():
            alone = seconds(detector, samples, threads)
        shares.append(alone / journal_seconds(detector, films, decode))
    return statistics.median(shares)


def measured(name: str, task: "DetectionTask", words: argparse.Namespace, films: Sequence[Input], folder: Path) -> Any:
    """Return a row for each runtime."""
    import torch

    from cxr.detect.stream import sample
    from cxr.export.compare import compare

    size, threads = words.size, torch.get_num_threads()
    decode = Decode(Intensity([VoiWindow()]), size)
    samples = [sample(decode(film)) for film in films]
    networks: dict[str, Any] = {to: exported(task, name, to, size, folder) for to in words.runtimes}
    differences = {to: compare(task, one, (size, size * 3 // 4), words.compared) for to, one in networks.items()}
    with one_thread_each():
        everyone = {"eager": task, **networks}
        for one in everyone.values():
            seconds(one, samples[: 2 * BATCH * threads], threads)
        turns = [{to: seconds(one, samples, threads) for to, one in everyone.items()} for _ in range(words.turns)]
    torch.set_num_threads(threads)
    for to, one in networks.items():
        share = journal_share(one, samples, films, decode, threads, words.turns) if words.journal else None
        yield {
            "detector": name,
            "runtime": to,
            "eager_films_per_s": len(films) / statistics.median(turn["eager"] for turn in turns),
            "films_per_s": len(films) / statistics.median(turn[to] for turn in turns),
            "ratio": statistics.median(turn["eager"] / turn[to] for turn in turns),
            "journal_ratio": share,
            "compared": differences[to].as_dict(),
            "alike": differences[to].alike,
        }


def shown(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the rows as a table."""
    table = Table()
    for heading in ("detector", "runtime", "eager", "films/s", "ratio", "journal", "boxes, px", "scores", "rounding"):
        table.add_column(heading, justify="left" if heading in ("detector", "runtime") else "right")
    for row in rows:
        compared = row["compared"]
        table.add_row(
            row["detector"], row["runtime"], f"{row['eager_films_per_s']:.1f}", f"{row['films_per_s']:.1f}",
            f"{row['ratio']:.2f}", "" if row["journal_ratio"] is None else f"{row['journal_ratio']:.2f}",
            f"{compared['box_px']:.1e}", f"{compared['score']:.1e}" + ("" if row["alike"] else " refused"),
            f"{compared['undecided']} of {compared['detections']}",
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectors", nargs="+", default=DETECTORS, choices=DETECTORS, metavar="NAME")
    parser.add_argument("--runtimes", nargs="+", default=["onnx", "openvino"], choices=["onnx", "openvino"])
    parser.add_argument("--checkpoint", type=Path, help="of train.py, instead of random weights")
    parser.add_argument("--films", type=int, default=48, help="a turn")
    parser.add_argument("--compared", type=int, default=120, help="films that the differences are of")
    parser.add_argument("--size", type=int, default=256, help="longest side of a film, px")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--journal", action="store_true", help="also from files to journal; wants some hundred films")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    words = parser.parse_args()
    from cxr.export.files import missing_packages

    if missing := {name for to in words.runtimes for name in missing_packages(to)}:
        print(f"not run: no {' and no '.join(sorted(missing))}; pip install 'cxr[export]'")
        return
    console, rows = Console(width=120), []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_course_layout(folder / "films", films=1, test_films=words.films, size=DRAWN_PX, seed=0)
        films = read_inputs(folder / "films" / "test")[: words.films]
        for name, task in tasks(words, films, folder):
            rows += measured(name, task, words, films, folder)
            print(f"{name} done", file=sys.stderr, flush=True)
            if words.json:  # after each: a detector may take long, and a run may be cut off
                words.json.write_text(json.dumps({"cores": os.cpu_count(), "size": words.size, "rows": rows}, indent=1))
    console.print(f"{words.size} px, batches of {BATCH}, {usable_cores()} cores")
    console.print(shown(rows))


def tasks(words: argparse.Namespace, films: Sequence[Input], folder: Path) -> "Iterator[tuple[str, DetectionTask]]":
    """Yield the detectors to measure, one in memory at a time."""
    if words.checkpoint:
        from cxr.runs.checkpoint import read_checkpoint
        from cxr.runs.restore import load_task

        checkpoint = read_checkpoint(words.checkpoint)
        words.size = checkpoint.size
        yield str(checkpoint.config["model"]["_target_"]).rpartition(".")[2], load_task(checkpoint)
        return
    from cxr.detect.stream import sample

    decode = Decode(Intensity([VoiWindow()]), words.size)
    images = [sample(decode(film))[0] for film in films[:BATCH]]
    for name in words.detectors:
        yield name, built(name, words.size, images, folder)


if __name__ == "__main__":
    main()
