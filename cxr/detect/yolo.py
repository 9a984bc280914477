"""YOLOv8 as a ``Detector``.

Network, assignment and losses are those of the package ultralytics. This file joins them to films and decodes boxes.
The package is AGPL-3.0. It is the extra ``yolo`` and is imported in the builder only: without ``model=yolov8`` nothing
of it runs.
"""

import importlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image

from cxr.detect.detector import Boxes, Detector, Pyramid, Targets, finish
from cxr.detect.heads import Heads, YoloHeads
from cxr.detect.labelled import labelled_logits
from cxr.detect.module_pickle import read_module_state
from cxr.learn.weights import State, norm_for, read_weights, renormalised

Size = Literal["n", "s", "m", "l", "x"]

STRIDES = (8, 16, 32)
BINS = 16  # bins of the distribution of a side's distance from the point, in strides (reg_max)
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}  # ultralytics' weights of the three losses
DETECT = 22  # the last layer of yolov8.yaml: the head
LEVELS = (15, 18, 21)  # the layers that the head reads
CANDIDATES = 1000  # boxes of a film that go into suppression

MISSING = (
    "model=yolov8 needs ultralytics: pip install 'cxr[yolo]'. Its licence is AGPL-3.0, not this project's: whoever"
    " passes on a program that holds it, or lets others use one over a network, has to offer them the whole program's"
    " source under the same licence; ultralytics sells another licence. model=rtdetr (Apache-2.0) and torchvision's"
    " detectors ask nothing of the kind"
)


def yolov8(
    num_classes: int,
    *,
    size: Size = "n",
    weights: str | None = None,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    score_thresh: float = 0.01,
    nms_thresh: float = 0.6,
    detections_per_img: int = 100,
    image_head: bool = False,
) -> "YOLOv8":
    """YOLOv8 (Jocher 2023, github.com/ultralytics/ultralytics): no anchors, task-aligned assignment, CIoU and DFL.

    Without weights its BatchNorm layers become GroupNorm, with them they are frozen (``cxr.learn.weights.norm_for``).

    Args:
        num_classes: findings + background.
        size: depth and width, 3.2 (n), 11 (s), 26 (m), 44 (l) or 68 (x) million weights.
        weights: a .pt of ultralytics, read without running code; a .pth or .ckpt of this project; or None. Nothing is
            downloaded.
        mean: of each channel of the stem. YOLO's weights want films in 0..1 as they are. Where these weights have a
            stem of three channels and ``mean`` has one, the three are added up, as if the film were repeated.
        std: of each channel, likewise.
        score_thresh: detections below are dropped.
        nms_thresh: of two boxes of one finding with a larger IoU the weaker is dropped.
        detections_per_img: the best so many are kept.
        image_head: a classifier of the whole film beside the boxes (``cxr.detect.image_head``).

    Raises:
        ImportError: ultralytics is not installed; the message has the command to type, and the licence.
        WeightsError: the file does not hold weights of this size.
    """
    if size not in get_args(Size):
        raise ValueError(f"model.size is {size!r}, expected one of {', '.join(get_args(Size))}")
    state = _read(weights)
    with _ultralytics():
        network = _network(size, num_classes - 1, len(mean), state)
    renormalised(network, norm_for(state))
    layers = list(network)
    detector = YOLOv8(layers[:DETECT], layers[DETECT], score_thresh, nms_thresh, detections_per_img)
    finish(detector, num_classes, mean, std, image_head, False, state, weights)
    return detector


class YOLOv8(Detector):
    """A backbone that gives a pyramid of strides 8, 16 and 32, and ultralytics' head on it.

    Args:
        layers: all layers of ultralytics' network but the last.
        head: the last layer, ``Detect``.
        score_thresh: detections below are dropped.
        nms_thresh: of two boxes of one finding with a larger IoU the weaker is dropped.
        detections_per_img: the best so many are kept.
    """

    # the last convolutions of the class branches
    fresh: ClassVar[tuple[str, ...]] = tuple(f"head.cv3.{level}.2." for level in range(len(STRIDES)))

    def __init__(
        self,
        layers: Sequence[nn.Module],
        head: nn.Module,
        score_thresh: float,
        nms_thresh: float,
        detections_per_img: int,
    ) -> None:
        super().__init__()
        self.backbone = YoloPyramid(layers)
        self.head: Any = head
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.detections_per_img = detections_per_img

    def heads(self) -> Heads:
        """Return the heads behind the pyramid."""
        return YoloHeads(self)

    def boxes_of(self, pyramid: Pyramid) -> list[Boxes]:
        """Return the boxes of each film."""
        levels = list(pyramid.maps.values())
        offsets, logits = self.predictions(levels)
        films = zip(self.boxes_on_canvas(offsets, levels), logits, pyramid.images.image_sizes, strict=True)
        return [self._detections(*of_film) for of_film in films]

    def losses_of(self, pyramid: Pyramid, targets: Targets) -> dict[str, Tensor]:
        """Return loss_box, loss_cls and loss_dfl."""
        levels = list(pyramid.maps.values())
        offsets, logits = self.predictions(levels)
        return self._losses(offsets, logits, levels, targets)

    def predictions(self, levels: Sequence[Tensor], first: int = 0) -> tuple[Tensor, Tensor]:
        """Return the sides' distributions [B, A, 4 · 16] and the class logits [B, A, K] of levels, float32.

        ``first`` is the number of the first level; each has its own layers. A counts the points level by level, row by
        row.
        """
        predictions = []
        for layers in (self.head.cv2, self.head.cv3):
            maps = [layers[first + i](level) for i, level in enumerate(levels)]
            predictions.append(torch.cat([some.flatten(2) for some in maps], 2).transpose(1, 2).float())
        return predictions[0], predictions[1]

    def boxes_on_canvas(self, offsets: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Return the boxes [B, A, 4] xyxy in the network frame of distributions [B, A, 4 · 16].

        A side's distance from its point is the mean of its distribution over 0 to 15 strides (Li 2020, DFL, eq. 3).
        """
        points, strides = _points(levels)
        sides = offsets.view(*offsets.shape[:2], 4, BINS).softmax(3) @ torch.arange(BINS, device=offsets.device).float()
        return torch.cat([points - sides[..., :2], points + sides[..., 2:]], 2) * strides

    def _detections(self, boxes: Tensor, logits: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        scores, flat = logits.sigmoid().flatten().topk(min(CANDIDATES, logits.numel()))
        points, labels = flat // logits.shape[1], flat % logits.shape[1] + 1
        kept = scores >= self.score_thresh
        scores, labels, boxes = scores[kept], labels[kept], clip_boxes_to_image(boxes[points[kept]], size)
        best = batched_nms(boxes, scores, labels, self.nms_thresh)[: self.detections_per_img]
        return {"boxes": boxes[best], "labels": labels[best], "scores": scores[best]}

    def _losses(self, offsets: Tensor, logits: Tensor, levels: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        """Return ultralytics' three losses, each over the summed target scores of the batch's points (at least 1).

        ultralytics multiplies them by the number of films. Here they are not: a larger batch has no larger losses.
        """
        from ultralytics.utils.loss import v8DetectionLoss  # the builder has imported the package already

        height, width = (side * STRIDES[0] for side in levels[0].shape[2:])
        scale = offsets.new_tensor([width, height, width, height])
        x0, y0, x1, y1 = (torch.cat([t["boxes"] for t in targets]) / scale).unbind(1)
        films = torch.arange(len(targets), device=offsets.device)
        batch: dict[str, Any] = {
            "batch_idx": films.repeat_interleave(torch.tensor([len(t["boxes"]) for t in targets], device=films.device)),
            "cls": torch.cat([t["labels"] for t in targets]) - 1,
            "bboxes": torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], 1),
        }
        predicted: dict[str, Any] = {
            "boxes": offsets.transpose(1, 2),
            "scores": labelled_logits(logits, targets, background=False).transpose(1, 2),
            "feats": [offsets.new_zeros(1, 1, *level.shape[2:]) for level in levels],  # the loss reads only their sizes
        }
        with torch.autocast(offsets.device.type, enabled=False):
            total, _ = v8DetectionLoss(self._as_ultralytics()).loss(predicted, batch)
        box, cls, dfl = total / len(targets)
        return {"loss_box": box, "loss_cls": cls, "loss_dfl": dfl}

    def _as_ultralytics(self) -> Any:
        """Return the attributes that ultralytics' loss reads from its model."""
        return SimpleNamespace(parameters=self.parameters, args=SimpleNamespace(**GAINS), model=[self.head])


class YoloPyramid(nn.Module):
    """The layers between film and head. Each reads the layer before it, or those that ultralytics' yaml names."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.body = nn.ModuleList(layers)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """Return the maps "0", "1", "2" (strides 8, 16, 32) of a batch [B, C, H, W]."""
        outputs: list[Tensor] = []
        for layer in self.body:
            read: Any = layer.f  # -1: the layer before; a list: several
            if isinstance(read, list):
                batch = layer([batch if number == -1 else outputs[number] for number in read])
            else:
                batch = layer(batch)
            outputs.append(batch)
        return {str(i): outputs[number] for i, number in enumerate(LEVELS)}


def _points(levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the centres [A, 2] x, y of all cells, in strides, and the stride [A, 1] of each."""
    points, strides = [], []
    for level, stride in zip(levels, STRIDES, strict=True):
        y, x = (torch.arange(side, device=level.device) + 0.5 for side in level.shape[2:])
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack([columns, rows], 2).view(-1, 2))
        strides.append(torch.full_like(points[-1][:, :1], stride))
    return torch.cat(points), torch.cat(strides)


def _read(weights: str | None) -> State | None:
    """Return the state dict of the file ``weights``, with the names of layers in this project."""
    if weights is None or not weights.endswith(".pt"):
        return read_weights(weights, None)
    names = {f"model.{DETECT}.": "head.", "model.": "backbone.body."}
    state = {}
    for key, value in read_module_state(weights).items():
        theirs = next((name for name in names if key.startswith(name)), "")
        state[names.get(theirs, "") + key.removeprefix(theirs)] = value
    return state


def _network(size: Size, findings: int, channels: int, state: State | None) -> nn.Sequential:
    """Return ultralytics' layers with random numbers.

    The hidden width of the class branch follows from the number of classes a network was made for. With weights, it is
    that of the weights, so that only the very last convolutions start anew.
    """
    tasks, detect = (importlib.import_module(f"ultralytics.nn.{name}") for name in ("tasks", "modules.head"))
    width = None if state is None else state.get("head.cv3.0.0.conv.weight")
    network = tasks.DetectionModel(f"yolov8{size}.yaml", ch=channels, nc=len(width) if width is not None else findings)
    head: Any = network.model[DETECT]
    if not isinstance(head, detect.Detect) or head.stride.tolist() != list(STRIDES):
        raise RuntimeError("this ultralytics builds another YOLOv8; install the version of constraints.txt")
    if head.nc != findings:
        for branch in head.cv3:
            branch[-1] = nn.Conv2d(branch[-1].in_channels, findings, 1)
        head.nc = findings
        head.no = findings + 4 * head.reg_max
        head.bias_init()
    layers: nn.Sequential = network.model
    return layers


@contextmanager
def _ultralytics() -> Iterator[None]:
    """Import ultralytics without its side effects, and keep it silent.

    On import it looks for the internet and writes a settings file, stops OpenCV's threads, replaces ``torch.save`` and
    sets the environment, print options and warning filters. Here it is offline, its settings are in a folder that is
    deleted, and all else is put back.
    """
    save, threads, filters = torch.save, cv2.getNumThreads(), warnings.filters[:]
    environment, printing = dict(os.environ), np.get_printoptions()
    profile = vars(torch._tensor_str.PRINT_OPTS).copy()
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"YOLO_CONFIG_DIR": folder, "YOLO_OFFLINE": "1", "YOLO_VERBOSE": "false"}
            os.environ |= {"YOLO_AUTOINSTALL": "false", "OMP_NUM_THREADS": environment.get("OMP_NUM_THREADS", "1")}
            try:
                importlib.import_module("ultralytics.nn.tasks")
                importlib.import_module("ultralytics.utils.loss")
            except ImportError as error:
                raise ImportError(MISSING) from error
            yield
    finally:
        torch.save = save
        cv2.setNumThreads(threads)
        os.environ.clear()
        os.environ.update(environment)
        np.set_printoptions(**printing)
        vars(torch._tensor_str.PRINT_OPTS).update(profile)
        warnings.filters[:] = filters  # type: ignore[index]
