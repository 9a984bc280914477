"""A graph gives what the detector gives, in PyTorch already: the same boxes, film by film, whatever is beside it."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from cxr.export.graph import Graph, UnsupportedError
from cxr.export.norm import ChannelsLastNorm, with_channels_last_norms, with_equal_parameters_shared
from cxr.export.suppression import ABSENT, best, suppressed
from cxr.export.two_stage import CellPool, RegionPool

from .conftest import NAMES, SIDE


def on_canvas(films: list[Tensor], side: int = SIDE) -> tuple[Tensor, Tensor]:
    canvas = torch.zeros(len(films), 1, side, side)
    for place, film in zip(canvas, films, strict=True):
        place[:, : film.shape[1], : film.shape[2]] = film
    return canvas, torch.tensor([film.shape[1:] for film in films])


def assert_alike(answer: dict[str, Tensor], boxes: Tensor, labels: Tensor, scores: Tensor) -> None:
    """Every detection of a film is there, and no other; detections with equal scores may stand in another order."""
    there = labels > 0
    kept = answer["labels"] > 0
    assert int(there.sum()) == int(kept.sum())
    assert all(first >= second for first, second in pairwise(scores[there].tolist()))
    used = torch.zeros(int(there.sum()), dtype=torch.bool)
    for box, label, score in zip(*(answer[name][kept] for name in ("boxes", "labels", "scores")), strict=True):
        apart = (
            (boxes[there] - box).abs().amax(1) + 1e4 * (scores[there] - score).abs() + 1e6 * (labels[there] != label)
        )
        apart[used] = torch.inf
        assert apart.min() < 0.01
        used[apart.argmin()] = True


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_it_gives_what_the_detector_gives(name: str, build: Callable[..., nn.Module], films: list[Tensor]) -> None:
    detector = build(name, image_head=True)
    graph = Graph(detector, SIDE).eval()
    some = films[:3]  # of the empty one many boxes tie
    boxes, labels, scores, image_scores = graph(*on_canvas(some))
    answers = detector(some)
    assert sum(len(one["boxes"]) for one in answers) > 20
    for n, one in enumerate(answers):
        assert_alike(one, boxes[n], labels[n], scores[n])
    pyramid = detector.backbone(detector.transform(some)[0].tensors)
    torch.testing.assert_close(image_scores, detector.image_head(pyramid).sigmoid())
    assert graph.outputs == ("boxes", "labels", "scores", "image_scores")


@torch.no_grad()
def test_any_canvas_will_do_and_what_is_absent_is_zero(build: Callable[..., nn.Module], films: list[Tensor]) -> None:
    detector = build("fasterrcnn_tiny", score_thresh=0.4)
    graph = Graph(detector, SIDE).eval()
    for side in (SIDE, SIDE + 64):
        boxes, labels, scores = graph(*on_canvas(films[:3], side))
        canvases = [torch.nn.functional.pad(film, (0, side - film.shape[2], 0, side - film.shape[1])) for film in films]
        assert boxes.shape == (3, 100, 4)
        assert (labels == 0).any()
        assert (scores[labels == 0] == 0).all()
        assert (boxes[labels == 0] == 0).all()
        if side == SIDE:
            continue
        sizes = torch.full((3, 2), side)
        whole = graph(torch.stack(canvases[:3]), sizes)
        for n, one in enumerate(detector(canvases[:3])):
            assert_alike(one, *(value[n] for value in whole))


@torch.no_grad()
def test_a_film_that_is_not_finite_is_not_one_without_findings(
    build: Callable[..., nn.Module], films: list[Tensor]
) -> None:
    graph = Graph(build("fasterrcnn_tiny"), SIDE).eval()
    canvas, sizes = on_canvas(films[:3])
    usual = graph(canvas, sizes)[2]
    canvas[1, 0, 3, 3] = torch.nan
    scores = graph(canvas, sizes)[2]
    assert scores[1].isnan().all()
    torch.testing.assert_close(scores[[0, 2]], usual[[0, 2]], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("fasterrcnn_tiny", "backbone"),
        ("fasterrcnn_tiny", "rpn.head.cls_logits"),
        ("fasterrcnn_tiny", "rpn.head.bbox_pred"),
        ("fasterrcnn_tiny", "roi_heads.box_predictor.cls_score"),
        ("fasterrcnn_tiny", "roi_heads.box_predictor.bbox_pred"),
        ("fasterrcnn_tiny", "image_head"),
        ("retinanet", "head.classification_head.cls_logits"),
        ("fcos", "head.regression_head.bbox_ctrness"),
        ("ssdlite", "head.regression_head"),
        ("yolov8", "head.cv3.0.2"),
        ("rtdetr", "head"),
    ],
)
@torch.no_grad()
def test_neither_is_one_of_which_a_layer_computes_nan(
    name: str, layer: str, build: Callable[..., nn.Module], films: list[Tensor]
) -> None:
    detector = build(name, image_head=True)
    graph = Graph(detector, SIDE).eval()
    some = on_canvas(films[:2])
    assert graph(*some)[2].isfinite().all()
    for parameter in detector.get_submodule(layer).parameters():
        parameter.flatten()[0] = torch.nan
    assert graph(*some)[2].isnan().all()


def test_a_detector_of_another_kind_is_named() -> None:
    detector = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2)
    with pytest.raises(UnsupportedError, match="MaskRCNN has no graph; those that have are Faster R-CNN"):
        Graph(detector, SIDE)


@torch.no_grad()
def test_pooling_cells_after_the_first_layer_is_pooling_before_it(build: Callable[..., nn.Module]) -> None:
    detector = build("fasterrcnn_mobilenet", anchors__image_size=128)
    cells = Graph(detector, 128).detections.pool
    assert type(cells) is CellPool  # 16 cells, 200 regions
    assert type(Graph(detector, 512).detections.pool) is RegionPool  # 256 cells
    regions = RegionPool(detector, cells.names, cells.strides)
    pyramid = detector.backbone(torch.rand(2, 3, 128, 128))
    corners = torch.rand(2, 30, 2, 2, generator=torch.Generator().manual_seed(0)).sort(2).values * 128
    boxes = torch.cat(
        [corners.flatten(2), torch.tensor([[[0.0, 0, 128, 128], [127, 127, 128, 128]]]).expand(2, -1, -1)], 1
    )
    torch.testing.assert_close(cells(pyramid, boxes), regions(pyramid, boxes), atol=1e-4, rtol=1e-4)


def test_suppression_leaves_the_stronger_of_two_within_its_group() -> None:
    # IoU of the first two 90 / 110; the third lies apart
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]]])
    scores = torch.tensor([[[0.5, 0.9, 0.1], [0.5, ABSENT, 0.1]]])  # two findings share the boxes
    kept = suppressed(boxes, scores, iou=0.8, most=5)
    assert kept.tolist() == [[[ABSENT, pytest.approx(0.9), pytest.approx(0.1)], [0.5, ABSENT, pytest.approx(0.1)]]]
    assert (suppressed(boxes, scores, iou=0.82, most=5) == scores).all()  # 90 / 110 = .818
    assert suppressed(boxes, scores, iou=0.8, most=1)[0, 0].tolist() == [ABSENT, pytest.approx(0.9), ABSENT]


def test_the_best_are_filled_up_with_what_is_absent() -> None:
    values, places = best(torch.tensor([[0.2, ABSENT, 0.7]]), 4)
    assert values.tolist() == [[pytest.approx(0.7), pytest.approx(0.2), ABSENT, ABSENT]]
    assert places.tolist() == [[2, 0, 0, 0]]


def test_the_norm_for_maps_with_channels_last_is_group_norm() -> None:
    norm = nn.GroupNorm(3, 12)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    maps = torch.randn(2, 12, 5, 7, generator=torch.Generator().manual_seed(0)) + 3
    torch.testing.assert_close(ChannelsLastNorm(norm)(maps), norm(maps), atol=1e-5, rtol=1e-5)
    part = nn.Sequential(norm)
    both = nn.ModuleList([part, part])  # a part that stands in two places is wrapped once
    with_channels_last_norms(both)
    assert isinstance(part[0], ChannelsLastNorm)
    assert part[0].norm is norm


def test_equal_parameters_become_one() -> None:
    layers = nn.Sequential(nn.GroupNorm(2, 8), nn.GroupNorm(2, 8), nn.GroupNorm(1, 4))
    nn.init.constant_(layers[1].bias, 2.0)
    with_equal_parameters_shared(layers)
    assert layers[0].weight is layers[1].weight
    assert layers[0].bias is not layers[1].bias
    assert layers[2].weight is not layers[0].weight
