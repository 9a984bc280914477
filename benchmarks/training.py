"""The shipped recipes against torchvision's defaults, and the price of the Lightning loop: side by side, in one run.

    python benchmarks/training.py [FOLDER of annotations.coco.json] --seconds 100
    make bench: --seconds 60 --json {json}

Without a folder on 240 films that the phantom draws. Every detector trains for the same seconds of its own time, in
turns of two seconds, so that whatever else the machine does meets all of them alike; then each is scored on the same
test films. Same films (256 px, a quarter of the patients for testing), batch, optimizer, schedule and precision for
all (bfloat16 where this processor is faster in it, ``cxr.runs.precision``, else float32); torchvision's detector is
told to leave the size of the films alone. The loops are compared step by step: after each of Lightning's, a plain loop
does one with its own copy of the detector. Quiet machine, please: no other process that computes.
"""

import argparse
import copy
import itertools
import json
import logging
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import torch
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn

from cxr.config.models import builder
from cxr.data.film_data import FilmDataModule
from cxr.data.sources.coco import read_coco
from cxr.data.sources.phantom import read_phantom
from cxr.detect.detector import Detector
from cxr.detect.foreign import Foreign
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary
from cxr.learn import schedules
from cxr.read.intensity import Intensity, LogWindow, VoiWindow
from cxr.runs import precision

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]
ROOT = Path(__file__).parents[1]
SIZE, BATCH, TURN = 256, 8, 2.0
ADAMW = partial(torch.optim.AdamW, lr=1.5e-3, weight_decay=5e-4)


def torchvision_defaults(num_classes: int) -> nn.Module:
    """Return the MobileNetV3 Faster R-CNN as torchvision has it: 512 regions, 2000 proposals, BatchNorm."""
    return fasterrcnn_mobilenet_v3_large_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=num_classes,
        min_size=SIZE,
        max_size=SIZE,
        box_score_thresh=0.01,
    )


CONTENDERS: dict[str, Callable[[int], nn.Module]] = {
    "tiny, shipped": builder("fasterrcnn_tiny"),
    "mobilenet, shipped": builder("fasterrcnn_mobilenet"),
    "mobilenet, torchvision": torchvision_defaults,
}


class Contender:
    """A detector that trains in turns, on a schedule that ends with its time."""

    def __init__(
        self, model: Callable[[int], nn.Module], num_classes: int, batches: Iterator[Batch], seconds: float
    ) -> None:
        torch.manual_seed(0)
        self.detector = model(num_classes).train()
        self.optimizer = ADAMW(self.detector.parameters())
        self.batches, self.seconds = batches, seconds
        self.spent, self.films, self.steps = 0.0, 0, 0

    def turn(self) -> None:
        """Train for two seconds."""
        end = self.spent + TURN
        while self.spent < end:
            start = time.perf_counter()
            rise, fall = (
                min(1.0, (self.steps + 1) / 50),
                0.5 * (1 + math.cos(math.pi * min(1.0, self.spent / self.seconds))),
            )
            self.optimizer.param_groups[0]["lr"] = ADAMW.keywords["lr"] * rise * fall
            batch = next(self.batches)
            step(self.detector, self.optimizer, batch)
            self.films += len(batch[0])
            self.steps += 1
            self.spent += time.perf_counter() - start


def step(detector: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> Tensor:
    """One step as torchvision's reference script has it, with clipping."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision.faster() == precision.BFLOAT16):
        loss = sum(detector(*batch).values())
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"loss is {loss.item()}")
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
    optimizer.step()
    return loss


class PlainLoopBeside(L.Callback):
    """After each step of Lightning does one of a plain loop, and times both."""

    def __init__(self, detector: nn.Module, batches: Iterator[Batch]) -> None:
        self.detector, self.batches = detector.train(), batches
        self.optimizer = ADAMW(detector.parameters())
        self.schedule = schedules.constant(self.optimizer, math.inf, 1, warmup_steps=50)
        self.lightning: list[float] = []
        self.plain: list[float] = []

    def on_train_batch_start(self, *args: Any) -> None:
        """Start the clock of the first step."""
        if not self.plain:
            self.mark = time.perf_counter()

    def on_train_batch_end(self, *args: Any) -> None:
        """Stop Lightning's clock, do a plain step, and start it again."""
        self.lightning.append(time.perf_counter() - self.mark)
        start = time.perf_counter()
        step(self.detector, self.optimizer, next(self.batches))
        self.schedule.step()
        self.mark = time.perf_counter()
        self.plain.append(self.mark - start)


def films_of(root: Path | None, folder: Path, size: int = SIZE, val_fraction: float = 0.0) -> FilmDataModule:
    """Return the films of a COCO table, or drawn ones where there is none, ready to be taken."""
    if root is None:
        recipe = yaml.safe_load((ROOT / "conf" / "findings" / "eda.yaml").read_text(encoding="utf-8"))
        findings, steps = FindingVocabulary(recipe["findings"]), Intensity([LogWindow()])
        read: Any = partial(read_phantom, films=180, test_films=60, size=512)
    else:
        table = json.loads((root / "annotations.coco.json").read_text(encoding="utf-8"))
        findings = FindingVocabulary([{"name": category["name"]} for category in table["categories"]])
        steps, read = Intensity([VoiWindow()]), read_coco
    shares = {"val_fraction": val_fraction, "test_fraction": 0.25}
    data = FilmDataModule(root or folder / "drawn", read, findings, steps, size=size, cache=folder / "films", **shares)
    data.prepare_data()
    data.setup()
    return data


def loader(data: FilmDataModule, split: str, shuffle: bool = False, batch: int = BATCH) -> DataLoader[Any]:
    """Films that lie in memory, so that reading them costs nobody anything."""
    dataset = data.dataset(split)
    films = [dataset[i] for i in range(len(dataset))]
    return DataLoader(films, batch, shuffle, collate_fn=lambda rows: tuple(map(list, zip(*rows, strict=True))))


def forever(films: DataLoader[Any]) -> Iterator[Batch]:
    return itertools.chain.from_iterable(films for _ in itertools.count())


def trainer(folder: str, callback: L.Callback | None = None, steps: int = -1) -> L.Trainer:
    return L.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        precision=precision.faster(),
        gradient_clip_val=10.0,
        logger=TensorBoardLogger(folder),
        log_every_n_steps=10,
        callbacks=[callback] if callback else [],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def race(data: FilmDataModule, seconds: float, folder: str) -> dict[str, dict[str, float]]:
    """Train all contenders in turns and score them."""
    findings = data.findings
    train, test = loader(data, "train", shuffle=True), loader(data, "test")
    running = {
        name: Contender(model, findings.num_classes, forever(train), seconds) for name, model in CONTENDERS.items()
    }
    while any(contender.spent < seconds for contender in running.values()):
        for contender in running.values():
            if contender.spent < seconds:
                contender.turn()
    result = {}
    for name, contender in running.items():
        trained = contender.detector
        detector = trained if isinstance(trained, Detector) else Foreign(trained, findings.num_classes)
        task = DetectionTask(findings, lambda num_classes, detector=detector: detector, ADAMW)
        (figures,) = trainer(folder).validate(task, test, verbose=False)
        result[name] = {
            "films_per_second": contender.films / contender.spent,
            "map_50": figures["val/map_50"],
            "map": figures["val/map"],
            "false_positives_per_normal_film": figures["val/false_positives_per_normal_film"],
        }
    return result


def compare_loops(data: FilmDataModule, seconds: float, folder: str) -> dict[str, float]:
    """Return what a step of each loop costs: medians, and the ratio of step to step."""
    task = DetectionTask(data.findings, builder("fasterrcnn_tiny"), ADAMW, partial(schedules.constant, warmup_steps=50))
    beside = PlainLoopBeside(copy.deepcopy(task.detector), forever(loader(data, "train", shuffle=True)))
    steps = 20 + round(seconds / 0.3)  # a step of both takes about 0.3 s on two cores
    trainer(folder, beside, steps).fit(task, loader(data, "train", shuffle=True))
    lightning, plain = beside.lightning[20:], beside.plain[20:]
    return {
        "steps": len(plain),
        "lightning_ms": 1e3 * statistics.median(lightning),
        "plain_ms": 1e3 * statistics.median(plain),
        "ratio": statistics.median(a / b for a, b in zip(lightning, plain, strict=True)),
        "ratio_of_sums": sum(lightning) / sum(plain),
    }


def show(contenders: dict[str, dict[str, float]], loops: dict[str, float], seconds: float) -> None:
    console = Console()
    table = Table(
        "detector",
        "films/s",
        "× torchvision",
        "AP50",
        "AP",
        "false/normal film",
        title=f"{seconds:g} s of training each",
    )
    base = contenders["mobilenet, torchvision"]["films_per_second"]
    for name, row in contenders.items():
        speed, *figures = row.values()
        table.add_row(name, f"{speed:.1f}", f"{speed / base:.1f}", *(f"{figure:.3f}" for figure in figures))
    console.print(table)
    table = Table("loop", "ms a step", title=f"fasterrcnn_tiny, {loops['steps']} steps of each loop in turns")
    table.add_row("Lightning", f"{loops['lightning_ms']:.1f}")
    table.add_row("plain", f"{loops['plain_ms']:.1f}")
    table.add_row("ratio", f"{loops['ratio']:.3f} (median of steps), {loops['ratio_of_sums']:.3f} (of sums)")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?", help="folder of annotations.coco.json; none: drawn films")
    parser.add_argument("--seconds", type=float, default=100.0, help="of training, for each detector and for the loops")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        data = films_of(args.root, Path(folder))
        loops = compare_loops(data, args.seconds, folder)
        contenders = race(data, args.seconds, folder)
    show(contenders, loops, args.seconds)
    if args.json:
        base = contenders["mobilenet, torchvision"]["films_per_second"]
        figures = {
            "seconds": args.seconds,
            "precision": precision.faster(),
            "detectors": contenders,
            "films a second / torchvision": {n: row["films_per_second"] / base for n, row in contenders.items()},
            "loops": loops,
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
