"""Faster R-CNN R50-FPN on a GPU: this project in bfloat16 against torchvision's reference loop with AMP, in one run.

    python benchmarks/gpu.py [--size 1024] [--batch 8] [--films 128] [--steps 300] [--weights FILE] [--json FILE]
    python benchmarks/gpu.py --device cpu --size 128 --films 8 --steps 3 --batch 2      does it run? no figure of a CPU
    make bench: --json {json}

Both train on the same drawn films, read by the same loaders, for equal steps with the same optimizer, learning rate and
warm-up, from the same published weights (``--weights``: torchvision's fasterrcnn_resnet50_fpn COCO .pth) or from random
ones. torchvision's loop is that of its references/detection/engine.py: autocast (float16 on a GPU), a gradient scaler,
its own 512 regions and 2,000 proposals, told to leave the size of the films alone. Told of each: films a second (median
step, the first tenth left out), how busy the GPU was (nvidia-smi, five times a second), peak memory of torch's
allocator, AP on the same test films, and films a second of inference. Beside it inference of our detector as the graph
that it is exported as, traced. Where there is no GPU nothing is measured.
"""

import argparse
import contextlib
import importlib.util
import itertools
import json
import math
import shutil
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from cxr.config.chatter import silence_libraries
from cxr.config.models import builder
from cxr.data.film_data import FilmDataModule
from cxr.data.sources.phantom import read_phantom
from cxr.detect.detector import Detector
from cxr.detect.foreign import Foreign
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary
from cxr.learn import schedules
from cxr.read.intensity import Intensity, LogWindow
from cxr.runs import precision

ROOT = Path(__file__).parents[1]
LR_A_FILM = 0.02 / 16  # torchvision's reference: 0.02 for 8 GPUs with 2 films each


@dataclass
class Outcome:
    """What one contender took and reached."""

    films_per_second: float
    busy_percent: float | None
    memory_gib: float | None
    inference_films_per_second: float
    map_50: float
    map: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", type=int, default=1024, help="longest side of a film, px")
    parser.add_argument("--batch", type=int, default=8, help="films a step")
    parser.add_argument("--films", type=int, default=128, help="drawn to train on; a quarter as many to test on")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--weights", type=Path, help="torchvision's fasterrcnn_resnet50_fpn COCO weights, a .pth")
    parser.add_argument("--folder", type=Path, help="where the films are drawn and kept; none: a temporary one")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("not run: no GPU")
        return
    silence_libraries()
    warnings.filterwarnings("ignore", module="lightning")
    with tempfile.TemporaryDirectory() as place:
        data = films(given, given.folder or Path(place))
        reference, detector = trained(reference_loop, data, given), trained(our_loop, data, given)
        exported = of_export(detector[1], data, given)
    figures = {
        "device": torch.cuda.get_device_name() if given.device == "cuda" else "cpu: no figures, only that it runs",
        "settings": {key: getattr(given, key) for key in ("size", "batch", "films", "steps")},
        "weights": "random" if given.weights is None else "COCO",
        "torchvision": asdict(reference[0]),
        "cxr": asdict(detector[0]),
        "cxr / torchvision": {
            key: getattr(detector[0], key) / getattr(reference[0], key)
            for key in ("films_per_second", "inference_films_per_second")
        },
        "exported_films_per_second": exported,
    }
    show(figures)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def films(given: argparse.Namespace, folder: Path) -> FilmDataModule:
    recipe = yaml.safe_load((ROOT / "conf" / "findings" / "eda.yaml").read_text(encoding="utf-8"))
    drawn = partial(read_phantom, films=given.films, test_films=max(2, given.films // 4), size=given.size)
    data = FilmDataModule(
        folder / f"drawn-{given.size}-{given.films}",
        drawn,
        FindingVocabulary(recipe["findings"]),
        Intensity([LogWindow()]),
        size=given.size,
        cache=folder / "films",
        batch_size=given.batch,
        val_fraction=0.0,
    )
    data.prepare_data()
    data.setup()
    return data


Loop = Callable[[FilmDataModule, argparse.Namespace, list[float]], nn.Module]


def trained(loop: Loop, data: FilmDataModule, given: argparse.Namespace) -> tuple[Outcome, nn.Module]:
    """Train one contender and measure it; the ends of its steps go into a list."""
    torch.manual_seed(0)
    on_gpu = given.device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    ends: list[float] = []
    with busy_percent(on_gpu) as busy:
        detector = loop(data, given, ends).to(given.device)
    memory = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
    seconds = [after - before for before, after in itertools.pairwise(ends)][len(ends) // 10 :]
    contender = detector if isinstance(detector, Detector) else Foreign(detector, data.findings.num_classes)
    task = DetectionTask(data.findings, lambda num_classes: contender, sgd(given))
    (scores,) = quiet_trainer(given).test(task, data.test_dataloader(), verbose=False)
    outcome = Outcome(
        given.batch / statistics.median(seconds),
        statistics.mean(busy) if busy else None,
        memory,
        inferred(detector.eval(), data, given),
        scores["test/map_50"],
        scores["test/map"],
    )
    return outcome, detector


def sgd(given: argparse.Namespace) -> Callable[..., torch.optim.Optimizer]:
    return partial(torch.optim.SGD, lr=LR_A_FILM * given.batch, momentum=0.9, weight_decay=1e-4)


def warm_up(given: argparse.Namespace) -> Callable[..., Any]:
    return partial(schedules.constant, warmup_steps=max(1, given.steps // 5))


def reference_loop(data: FilmDataModule, given: argparse.Namespace, ends: list[float]) -> nn.Module:
    """Train as torchvision's references/detection/engine.py does, with AMP."""
    detector = reference_detector(data.findings.num_classes, given).to(given.device).train()
    optimizer = sgd(given)([p for p in detector.parameters() if p.requires_grad])
    schedule = warm_up(given)(optimizer, total_steps=given.steps, steps_per_epoch=given.steps)
    dtype = torch.float16 if given.device == "cuda" else torch.bfloat16
    scaler = torch.amp.GradScaler(given.device, enabled=given.device == "cuda")
    for images, targets in itertools.islice(forever(data), given.steps):
        on_device = [image.to(given.device, non_blocking=True) for image in images]
        boxes = [{key: one[key].to(given.device, non_blocking=True) for key in ("boxes", "labels")} for one in targets]
        with torch.autocast(given.device, dtype):
            loss = sum(detector(on_device, boxes).values())
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"torchvision's loop: the loss is {loss.item()}")
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        ends.append(time.perf_counter())
    return detector


def reference_detector(num_classes: int, given: argparse.Namespace) -> nn.Module:
    size = {"min_size": given.size, "max_size": given.size, "box_score_thresh": 0.01}
    if given.weights is None:
        return fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=num_classes, **size)
    detector = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, trainable_backbone_layers=3, **size)
    detector.load_state_dict(torch.load(given.weights, weights_only=True), strict=False)
    detector.roi_heads.box_predictor = FastRCNNPredictor(1024, num_classes)
    return detector


class Ends(L.Callback):
    """Notes when each step ends."""

    def __init__(self, ends: list[float]) -> None:
        self.ends = ends

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())


def our_loop(data: FilmDataModule, given: argparse.Namespace, ends: list[float]) -> nn.Module:
    """Train as train.py does."""
    weights = None if given.weights is None else str(given.weights)
    model = builder("fasterrcnn", anchors__image_size=given.size, weights=weights)
    task = DetectionTask(data.findings, model, sgd(given), warm_up(given))
    quiet_trainer(given, [Ends(ends)]).fit(task, data.train_dataloader())
    return task.detector


def quiet_trainer(given: argparse.Namespace, callbacks: list[L.Callback] | None = None) -> L.Trainer:
    return L.Trainer(
        max_steps=given.steps,
        max_epochs=-1,
        accelerator="gpu" if given.device == "cuda" else "cpu",
        devices=1,
        precision=precision.BFLOAT16 if given.device == "cuda" else precision.faster(),
        gradient_clip_val=10.0,
        logger=False,
        callbacks=callbacks or [],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def forever(data: FilmDataModule) -> Iterator[Any]:
    loader = data.train_dataloader()
    return itertools.chain.from_iterable(loader for _ in itertools.count())


@torch.no_grad()
def inferred(detector: nn.Module, data: FilmDataModule, given: argparse.Namespace) -> float:
    """Return the films a second of the detector alone, in bfloat16 on a GPU, its films there already."""
    images = [image.to(given.device) for image in next(iter(data.test_dataloader()))[0]]

    def once() -> None:
        with torch.autocast(given.device, torch.bfloat16, enabled=given.device == "cuda"):
            detector(images)

    return len(images) / median_s(once, given)


def of_export(detector: nn.Module, data: FilmDataModule, given: argparse.Namespace) -> float | str:
    """Return the films a second of our detector as an exported graph, traced, in float32; or why not."""
    if importlib.util.find_spec("cxr.export") is None:
        return "not measured: this version has no cxr.export"
    graph: nn.Module = importlib.import_module("cxr.export.graph").Graph(detector, given.size).eval()
    images = next(iter(data.test_dataloader()))[0]
    sizes = torch.tensor([image.shape[-2:] for image in images], device=given.device)
    canvas = torch.zeros(len(images), 1, graph.side, graph.side, device=given.device)
    for place, image in zip(canvas, images, strict=True):
        place[:, : image.shape[-2], : image.shape[-1]] = image
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its own tracing old
        traced = torch.jit.trace(graph.to(given.device), (canvas, sizes), check_trace=False)
        return len(images) / median_s(lambda: traced(canvas, sizes), given)


def median_s(once: Callable[[], Any], given: argparse.Namespace) -> float:
    seconds = []
    for _ in range(23 if given.device == "cuda" else 4):
        start = time.perf_counter()
        once()
        if given.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:])


@contextlib.contextmanager
def busy_percent(on_gpu: bool) -> Iterator[list[float]]:
    """Fill a list with how busy the GPU was, percent, five times a second; it stays empty without nvidia-smi."""
    busy: list[float] = []
    tool = shutil.which("nvidia-smi") if on_gpu else None
    if tool is None:
        yield busy
        return
    words = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200", "-i", "0"]
    with tempfile.TemporaryFile("w+") as lines, subprocess.Popen([tool, *words], stdout=lines) as watch:  # noqa: S603
        try:
            yield busy
        finally:
            watch.terminate()
            watch.wait()
            lines.seek(0)
            busy += [float(line) for line in lines if line.strip().isdigit()]


def show(figures: dict[str, Any]) -> None:
    settings = figures["settings"]
    title = f"{figures['device']}: {settings['size']} px, {settings['batch']} films a step, {settings['steps']} steps"
    table = Table("", "torchvision", "cxr", title=f"{title}, {figures['weights']} weights", title_justify="left")
    for key in figures["cxr"]:
        values = (figures[name][key] for name in ("torchvision", "cxr"))
        table.add_row(key.replace("_", " "), *("–" if value is None else f"{value:.3g}" for value in values))
    exported = figures["exported_films_per_second"]
    told = exported if isinstance(exported, str) else f"{exported:.3g}"
    table.add_row("exported, inference films per second", "", told)
    Console().print(table)


if __name__ == "__main__":
    main()
