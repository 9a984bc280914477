"""AblationCAM against grad-cam's: seconds and likeness, side by side, in one run.

    python benchmarks/ablation.py --out ablation.json [--films 10] [--size 256]
    make bench: --out {json} --films 3

Films are drawn by the phantom; detectors are those of conf/model with random weights, their class layer scaled up so
that scores move. Same film, same pyramid level, same channels, same ablation value, same score: the log-odds of one
class at one box, its region held fixed. grad-cam runs the whole detector, regions and detections and all, once a
channel in batches of 32; ours ablates behind the backbone. (With its usual target, the detection of best IoU, grad-cam
reads the score of another box as soon as an ablation moves the boxes.) Correlation is Pearson's of the two maps
ReLU(sum of weight × channel) on the level's cells, a film at a time.
"""

import argparse
import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam import AblationCAM
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from cxr.config.models import build
from cxr.detect.candidates import Candidate
from cxr.explain.ablation import VALUES, by_loop, constants, in_closed_form
from cxr.explain.reading import FilmReading
from cxr.phantom.films import draw_phantom

TARGETS = {"closed form": 300, "loop": 50}


class Whole(nn.Module):
    """The whole detector, as grad-cam calls it, with a batch: gives the log-odds [B, 1] of one box."""

    def __init__(self, reading: FilmReading, candidate: Candidate) -> None:
        super().__init__()
        self.detector = reading.detector
        self.reading, self.candidate = reading, candidate

    def forward(self, batch: Tensor) -> Tensor:
        images, _ = self.detector.transform(list(batch))
        pyramid = self.detector.backbone(images.tensors)
        regions, _ = self.detector.rpn(images, pyramid)
        self.detector.roi_heads(pyramid, regions, images.image_sizes)  # what every forward of grad-cam's does as well
        return self.reading.heads.log_odds(list(pyramid.values())[self.candidate.level], self.candidate)[:, None]


class Constant(AblationLayer):
    """grad-cam's ablation with a value of ours for each channel."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def __call__(self, x: Tensor) -> Tensor:
        for row, channel in enumerate(self.indices[: len(self.activations)]):
            self.activations[row, channel] = self.values[channel]
        return self.activations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("ablation.json"), help="figures as JSON")
    parser.add_argument("--films", type=int, default=10)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--models", nargs="+", default=["fasterrcnn_mobilenet"])
    parser.add_argument("--value", choices=VALUES, default="mean", help="what an ablated channel is set to")
    given = parser.parse_args()
    rows = [compare(model, given.films, given.size, given.value) for model in given.models]
    given.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    report(rows)


def compare(model: str, films: int, size: int, value: str) -> dict[str, Any]:
    torch.manual_seed(0)
    detector = build(model, 8, anchors__image_size=size)
    detector.roi_heads.box_predictor.cls_score.weight.data.mul_(20)
    times: dict[str, list[float]] = {"grad-cam": [], "loop": [], "closed form": []}
    likeness: dict[str, list[float]] = {"loop": [], "closed form": []}
    for seed in range(films):
        reading = FilmReading(detector, film(seed, size))
        candidate = reading.candidates.strongest()
        level = reading.level(candidate)
        values = constants(level[0], value)
        odds = reading.heads.log_odds(level, candidate).detach()
        ours: dict[str, Callable[[], Tensor]] = {
            "loop": lambda r=reading, lv=level, v=values, c=candidate: by_loop(r, lv, v, c, 32),
            "closed form": lambda r=reading, lv=level, v=values, c=candidate: in_closed_form(r.heads, lv, v, c),
        }
        seconds, theirs = timed(lambda r=reading, c=candidate, v=values: grad_cam(r, c, v))
        times["grad-cam"].append(seconds)
        for way, ablate in ours.items():
            with torch.no_grad():
                ablate()  # warm
                seconds, without = timed(ablate)
            times[way].append(seconds)
            likeness[way].append(correlation((odds - without).numpy(), theirs, level[0].numpy()))
    medians = {way: statistics.median(some) for way, some in times.items()}
    return {
        "model": model,
        "size": size,
        "films": films,
        "value": value,
        "channels": level.shape[1],
        "seconds": medians,
        "times as fast": {way: medians["grad-cam"] / medians[way] for way in likeness},
        "lowest correlation": {way: min(some) for way, some in likeness.items()},
        "mean correlation": {way: statistics.fmean(some) for way, some in likeness.items()},
    }


def film(seed: int, size: int) -> Tensor:
    pixels = draw_phantom(np.random.default_rng(seed), size).pixels.astype(np.float32)
    return torch.from_numpy(1 - pixels / pixels.max())[None]


def grad_cam(reading: FilmReading, candidate: Candidate, values: Tensor) -> np.ndarray[Any, Any]:
    """Return grad-cam's weight of each channel of the level a box was read from."""
    layer = reading.detector.backbone.fpn.layer_blocks[candidate.level]
    cam = AblationCAM(Whole(reading, candidate), [layer], batch_size=32, ablation_layer=Constant(values))
    target = ClassifierOutputTarget(0)
    level = reading.level(candidate).numpy()
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        return np.asarray(cam.get_cam_weights(reading.image[None], layer, [target], level, None)[0])


def correlation(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any], level: np.ndarray[Any, Any]) -> float:
    maps = [np.maximum(np.einsum("c,chw->hw", weights, level), 0).ravel() for weights in (ours, theirs)]
    return float(np.corrcoef(*maps)[0, 1])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    out = work()
    return time.perf_counter() - start, out


def report(rows: list[dict[str, Any]]) -> None:
    table = Table(
        "detector", "way", "s a box", "times as fast", "correlation", title="AblationCAM, all channels of a level"
    )
    for row in rows:
        table.add_row(f"{row['model']}, {row['size']} px", "grad-cam", f"{row['seconds']['grad-cam']:.2f}", "1", "")
        for way in ("loop", "closed form"):
            low, mean = row["lowest correlation"][way], row["mean correlation"][way]
            met = "" if row["times as fast"][way] >= TARGETS[way] else f" (under {TARGETS[way]})"
            table.add_row(
                "",
                way,
                f"{row['seconds'][way]:.4f}",
                f"{row['times as fast'][way]:.0f}{met}",
                f"{mean:.4f}, lowest {low:.4f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
