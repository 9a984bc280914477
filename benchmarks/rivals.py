"""Our recipes and what else people train: the same films, the same minutes of the same cores, the same scores.

    python benchmarks/rivals.py [FOLDER of annotations.coco.json] --minutes 5 [--yolo yolov8n.pt] [--coco FILE.pth]

Without a folder on films that the phantom draws. The films are decoded once and written as pictures of ``--size``
pixels with one split, so that every detector sees the same. Each rival trains as its makers say, in its own program:
ultralytics YOLOv8n with its own settings and its own limit of time (extra ``yolo``, AGPL-3.0), torchvision's reference
Faster R-CNN with the optimizer, steps and mirroring of its reference script, and the recipes of this project with as
many epochs as fit, which two epochs before measure. Training minutes count without starting and without the test.
``--yolo`` and ``--coco`` add the two rivals from weights of a file.

All are scored on the test films by pycocotools, with intervals over patients. What is done is kept in ``--out``: the
same command goes on after a kill. Quiet machine, please: no other process that computes.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from benchmarks.machine import machine
from benchmarks.rival_scores import scores
from benchmarks.training import ROOT, Batch, films_of, forever, loader, step
from cxr.data.film_data import FilmDataModule
from cxr.detect.inference import film_results
from cxr.files import write_json
from cxr.measure.kept_results import as_plain, from_plain
from cxr.measure.results import FilmResult
from cxr.runs.checkpoint import read_checkpoint
from cxr.runs.restore import load_task

SPLITS = ("train", "val", "test")
OURS = {"cxr tiny": "course_cpu", "cxr efficientnet_lite0": "course_imagenet"}
EPOCH = re.compile(r"epoch \d+ of \d+\s+([\d.]+) s")
BATCH = 4

Detect = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""A picture uint8 [H, W] → boxes [N, 4] xyxy, labels [N] in 1..K, scores [N]."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, help="folder of annotations.coco.json")
    parser.add_argument("--minutes", type=float, default=5.0, help="that each may train")
    parser.add_argument("--size", type=int, default=256, help="longest side of the films, pixels")
    parser.add_argument("--yolo", type=Path, help="a .pt of ultralytics to start from, too")
    parser.add_argument("--coco", type=Path, help="torchvision's fasterrcnn_resnet50_fpn_coco .pth to start from, too")
    parser.add_argument("--out", type=Path, default=Path("outputs/rivals"), help="folder that keeps what is done")
    given = parser.parse_args()
    if given.root is not None and not (given.root / "annotations.coco.json").is_file():
        parser.error(f"{given.root} holds no annotations.coco.json")
    given.out = given.out.absolute()
    given.out.mkdir(parents=True, exist_ok=True)
    films = Films(given.root, given.out / "films", given.size)
    done = {}
    for name, rival in rivals(given, films).items():
        done[name] = kept(given.out / f"{name.replace(' ', '_')}.json", rival)
    show(done, given.minutes)
    write_json(given.out / "rivals.json", {"machine": machine(), "minutes": given.minutes, "rivals": done})


class Films:
    """The films as pictures of one size with one split, for every rival: a COCO json, and what ultralytics reads."""

    def __init__(self, root: Path | None, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        data = films_of(root, folder, size, val_fraction=0.1)
        self.names = data.findings.names
        rows = [row for split in SPLITS for row in written(data, split, folder)]
        categories = [{"id": i, "name": name} for i, name in enumerate(self.names, start=1)]
        images = [{"id": i, **image} for i, (image, _) in enumerate(rows)]
        marks = [{"image_id": i, **mark} for i, (_, of_image) in enumerate(rows) for mark in of_image]
        annotations = [{"id": i, **mark} for i, mark in enumerate(marks, start=1)]
        table = {"images": images, "annotations": annotations, "categories": categories}
        write_json(folder / "annotations.coco.json", table)
        self.data = films_of(folder, folder, size)  # from the pictures, as every rival sees them
        yolo = {
            "path": str(folder),
            **{split: f"images/{split}" for split in SPLITS},
            "names": dict(enumerate(self.names)),
        }
        (folder / "films.yaml").write_text(yaml.safe_dump(yolo), encoding="utf-8")

    @property
    def pictures(self) -> list[Path]:
        """The test films."""
        return [film.path for film in self.data.films["test"]]

    def results(self, detect: Detect) -> list[FilmResult]:
        """Return what a rival says of the test films; the score of a film is that of its surest box."""
        results = []
        for film in self.data.films["test"]:
            boxes, labels, scores = detect(cv2.imread(str(film.path), cv2.IMREAD_GRAYSCALE))
            best = [max(scores[labels == k], default=0.0) for k in range(1, len(self.names) + 1)]
            truth = np.array([self.data.findings.index(name) for name in film.findings], np.int64)
            results.append(
                FilmResult(
                    film.study, film.patient, (film.height, film.width), film.boxes, truth, boxes, labels, scores,
                    np.array(best, np.float32), float(max(best)),
                )
            )  # fmt: skip
        return results


def written(data: FilmDataModule, split: str, folder: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Write the films of a split as pictures, with ultralytics' text beside each; yield what a COCO json says of it."""
    dataset = data.dataset(split)
    for i, film in enumerate(dataset.films):
        image, target = dataset[i]
        height, width = image.shape[-2:]
        path = folder / "images" / split / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), (image[0].numpy() * 255).round().astype(np.uint8))
        marks = list(zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True))
        lines = (
            f"{label - 1} {(x0 + x1) / 2 / width} {(y0 + y1) / 2 / height} {(x1 - x0) / width} {(y1 - y0) / height}"
            for (x0, y0, x1, y1), label in marks
        )
        text = folder / "labels" / split / f"{i:05d}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("\n".join(lines), encoding="utf-8")
        yield (
            {"file_name": str(path.relative_to(folder)), "height": height, "width": width, "split": split,
             "patient": film.patient},
            [{"category_id": label, "iscrowd": 0, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
             for (x0, y0, x1, y1), label in marks],
        )  # fmt: skip


def rivals(given: argparse.Namespace, films: Films) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return each rival by its name: called, it trains, detects, and gives its results with seconds and films."""
    yolo = partial(ultralytics, films, given.minutes, given.out)
    torchvision = partial(torchvision_reference, films, given.minutes)
    every = {"ultralytics yolov8n": partial(yolo, "yolov8n.yaml"), "torchvision reference": torchvision}
    if given.yolo:
        every["ultralytics from weights"] = partial(yolo, str(given.yolo.absolute()))
    if given.coco:
        every["torchvision from COCO"] = partial(torchvision, given.coco)
    return every | {name: partial(ours, films, given.minutes, given.out, recipe) for name, recipe in OURS.items()}


def ultralytics(films: Films, minutes: float, out: Path, start: str) -> dict[str, Any]:
    """Train ultralytics' detector as its users do."""
    from ultralytics import YOLO

    model = YOLO(start)
    clock = time.perf_counter()
    model.train(
        data=str(films.folder / "films.yaml"), imgsz=films.size, time=minutes / 60, device="cpu", workers=0,
        plots=False, verbose=False, project=str(out / "ultralytics"), name=Path(start).stem, exist_ok=True, seed=0,
    )  # fmt: skip
    seconds = time.perf_counter() - clock

    def detect(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        boxes = model.predict(cv2.merge([picture] * 3), imgsz=films.size, conf=0.001, device="cpu", verbose=False)[
            0
        ].boxes
        return boxes.xyxy.numpy(), boxes.cls.numpy().astype(np.int64) + 1, boxes.conf.numpy()

    epochs = sum(1 for _ in (out / "ultralytics" / Path(start).stem / "results.csv").open()) - 1
    return answered(films, detect, seconds, epochs)


def torchvision_reference(films: Films, minutes: float, weights: Path | None = None) -> dict[str, Any]:
    """Train torchvision's Faster R-CNN as references/detection/train.py does: SGD, two falls, mirrored films.

    Its learning rate of .02 is for 16 films a step, and falls to a tenth at 16/26 and 22/26 of the training.
    """
    torch.manual_seed(0)
    size = {"min_size": films.size, "max_size": films.size, "box_score_thresh": 0.001}
    classes = len(films.names) + 1
    if weights is None:
        model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=classes, **size)
    else:
        model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91, **size)
        model.load_state_dict(torch.load(weights, weights_only=True))
        features = model.roi_heads.box_predictor.cls_score.in_features
        model.roi_heads.box_predictor = FastRCNNPredictor(features, classes)
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.02 * BATCH / 16, momentum=0.9, weight_decay=1e-4
    )
    batches, spent, steps = forever(loader(films.data, "train", shuffle=True, batch=BATCH)), 0.0, 0
    while spent < 60 * minutes:
        clock = time.perf_counter()
        share = spent / (60 * minutes)
        fall = 0.1 ** sum(share >= milestone / 26 for milestone in (16, 22))
        optimizer.param_groups[0]["lr"] = 0.02 * BATCH / 16 * fall * min(1.0, (steps + 1) / 100)
        step(model.train(), optimizer, mirrored(next(batches)))
        steps += 1
        spent += time.perf_counter() - clock
    model.eval()

    @torch.inference_mode()
    def detect(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        (answer,) = model([torch.from_numpy(picture)[None].float() / 255])
        return answer["boxes"].numpy(), answer["labels"].numpy(), answer["scores"].numpy()

    return answered(films, detect, spent, steps * BATCH / len(films.data.films["train"]))


def mirrored(batch: Batch) -> Batch:
    """Return the films of a batch, each mirrored left to right with a chance of a half."""
    images, targets = [], []
    for image, target in zip(*batch, strict=True):
        if torch.rand(1).item() < 0.5:
            width = image.shape[-1]
            left, top, right, bottom = target["boxes"].unbind(-1)
            target = {**target, "boxes": torch.stack([width - right, top, width - left, bottom], -1)}
            image = image.flip(-1)
        images.append(image)
        targets.append(target)
    return images, targets


def ours(films: Films, minutes: float, out: Path, experiment: str) -> dict[str, Any]:
    """Train a recipe of this project with as many epochs as the minutes hold, and restore its best checkpoint."""
    findings = ",".join(f"{{name:{name}}}" for name in films.names)
    command = [
        "train.py", f"experiment={experiment}", "data=coco", f"data.root={films.folder}", "intensity=voi",
        f"data.size={films.size}", f"data.cache={out / 'cache'}", f"findings.findings=[{findings}]",
    ]  # fmt: skip
    probe = epoch_seconds(command, 3, out / f"{experiment}_probe")
    epochs = max(1, math.floor(60 * minutes / statistics.median(probe[1:])))
    folder = out / experiment
    seconds = sum(epoch_seconds(command, epochs, folder))
    checkpoint = read_checkpoint(str(folder / "checkpoints" / "best.ckpt"))
    task = load_task(checkpoint)
    clock = time.perf_counter()
    results = list(film_results(task, films.data.dataset("test"), batch_size=1))
    per_second = len(results) / (time.perf_counter() - clock)
    return plain(results, seconds, epochs, per_second)


def epoch_seconds(command: Sequence[str], epochs: int, folder: Path) -> list[float]:
    """Run train.py and return the seconds of each epoch that it prints."""
    words = [sys.executable, *command, f"trainer.max_epochs={epochs}", f"hydra.run.dir={folder}"]
    done = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return [float(seconds) for seconds in EPOCH.findall(done.stdout)]


def answered(films: Films, detect: Detect, seconds: float, epochs: float) -> dict[str, Any]:
    """Return what a rival says of the test films, one after another, and how fast."""
    detect(cv2.imread(str(films.pictures[0]), cv2.IMREAD_GRAYSCALE))  # the first one is slow
    clock = time.perf_counter()
    results = films.results(detect)
    return plain(results, seconds, epochs, len(results) / (time.perf_counter() - clock))


def plain(results: Sequence[FilmResult], seconds: float, epochs: float, per_second: float) -> dict[str, Any]:
    return {
        "seconds": seconds, "epochs": epochs, "films a second": per_second,
        "results": [as_plain(result) for result in results],
    }  # fmt: skip


def kept(path: Path, rival: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a rival, trained where the file does not hold it yet."""
    if not path.exists():
        write_json(path, rival())
    answer = json.loads(path.read_text(encoding="utf-8"))
    figures = scores([from_plain(result) for result in answer.pop("results")])
    return {**answer, **figures}


def show(done: dict[str, dict[str, Any]], minutes: float) -> None:
    names = [name for name, value in next(iter(done.values())).items() if isinstance(value, list)]
    table = Table("detector", "seconds", "epochs", "films/s", *names, title=f"{minutes:g} minutes of training each")
    for rival, row in done.items():
        figures = ("{:.3f} ({:.2f} to {:.2f})".format(*row[name]) for name in names)
        plain_words = (f"{row['seconds']:.0f}", f"{row['epochs']:.0f}", f"{row['films a second']:.0f}")
        table.add_row(rival, *plain_words, *figures)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
