"""What other programs make of an exported detector: what the detector says, for other batches and canvases too."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cxr.detect.finite import detect_finite
from cxr.detect.task import DetectionTask
from cxr.export.card import Card
from cxr.export.compare import compare
from cxr.export.detector import ExportedDetector, open_exported
from cxr.export.files import NEEDS, write_files
from cxr.export.graph import Graph
from cxr.findings import FindingVocabulary

from .conftest import NAMES, SIDE

FINDINGS = FindingVocabulary([{"name": name} for name in ("heart", "spine", "cap")])
Pair = tuple[DetectionTask, ExportedDetector]


@pytest.fixture(scope="module")
def export(build: Callable[..., nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    """Return a task and what it was exported to, made once; its image head is fused with the boxes.

    One weight of the layer ``spoilt`` is NaN.
    """

    @functools.cache
    def make(name: str, to: str, spoilt: str = "") -> Pair:
        for package in NEEDS[to]:
            pytest.importorskip(package, reason="extra export")
        detector = build(name, image_head=True)
        detector.image_head.box_weight.fill_(0.25)
        detector.image_head.film_weight.fill_(0.5)
        if spoilt:  # one weight of this layer
            next(detector.get_submodule(spoilt).parameters()).data.flatten()[0] = torch.nan
        task = DetectionTask(FINDINGS, lambda num_classes: detector, torch.optim.SGD).eval()
        graph = Graph(detector, SIDE).eval()
        folder = tmp_path_factory.mktemp(f"{name}-{to}")
        files = write_files(graph, to, folder)
        card = Card(
            to, {path.name: "" for path in files}, name, "", FINDINGS.as_dict(), SIDE, 1, 32, graph.outputs, {}, None,
            graph.score_thresh, graph.detections_per_img, 0.25, 0.5, None, {}, {"folder": str(folder)},
        )  # fmt: skip
        assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in files)
        return task, open_exported(folder, card, callers=1, threads=1)

    return make


def assert_same(pair: Pair, films: list[Tensor]) -> None:
    """The task and the network say the same of the films, fused, in original pixels."""
    targets = [{"scale": torch.tensor([0.5, 0.5]), "size": 2 * torch.tensor(film.shape[1:])} for film in films]
    for one, other in zip(*(detector.detect(films, targets) for detector in pair), strict=True):
        assert len(one["boxes"]) == len(other["boxes"])
        torch.testing.assert_close(other["finding_scores"], one["finding_scores"], atol=1e-4, rtol=0)
        torch.testing.assert_close(other["abnormal"], one["abnormal"], atol=1e-4, rtol=0)
        best = int(one["scores"].argmax())
        apart = (other["boxes"] - one["boxes"][best]).abs().amax(1)
        assert apart[other["labels"] == one["labels"][best]].min() < 0.2


@pytest.mark.parametrize("to", ["onnx", "openvino", "torch"])
def test_the_small_detector_says_the_same_in_every_runtime(
    to: str, export: Callable[..., Pair], films: list[Tensor]
) -> None:
    pair = export("fasterrcnn_tiny", to)
    assert_same(pair, films[:3])
    assert_same(pair, films[:1])  # another batch
    result = compare(*pair, (SIDE, SIDE + 32), films=6)
    assert result.alike, result
    assert result.films == 7


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "fasterrcnn_tiny"])
def test_every_detector_says_the_same_as_onnx(name: str, export: Callable[..., Pair], films: list[Tensor]) -> None:
    pair = export(name, "onnx")
    assert_same(pair, films[:3])
    result = compare(*pair, (SIDE, 64), films=4)
    assert result.alike, result


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet", "ssdlite", "rtdetr"])
def test_so_do_those_of_other_kinds_in_openvino(name: str, export: Callable[..., Pair], films: list[Tensor]) -> None:
    pair = export(name, "openvino")
    assert_same(pair, films[:3])
    result = compare(*pair, (SIDE, 64), films=4)
    assert result.alike, result


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_film_that_is_not_finite_gets_no_score(to: str, export: Callable[..., Pair], films: list[Tensor]) -> None:
    _, network = export("fasterrcnn_tiny", to)
    broken = films[1].clone()
    broken[0, 5, 5] = torch.nan
    some = [films[0], broken, films[2]]
    targets = [{"scale": torch.ones(2), "size": torch.tensor(film.shape[1:])} for film in some]
    first, middle, last = network.detect(some, targets)
    usual = network.detect(films[:3], targets)
    assert middle["abnormal"].isnan()
    assert middle["finding_scores"].isnan().all()
    assert len(middle["boxes"]) == 0
    for film, alone in ((first, usual[0]), (last, usual[2])):  # what is said of the others is what it was
        assert len(alone["boxes"]) > 0
        torch.testing.assert_close(film, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("layer", ["backbone", "roi_heads.box_predictor.cls_score"])
def test_of_layers_that_compute_nan_nothing_is_said(
    to: str, layer: str, export: Callable[..., Pair], films: list[Tensor]
) -> None:
    task, network = export("fasterrcnn_tiny", to, layer)
    targets = [{"scale": torch.ones(2), "size": torch.tensor(film.shape[1:])} for film in films[:2]]
    assert detect_finite(task, films[:2], targets) == [None, None]
    if (to, layer) == ("openvino", "backbone"):  # max(NaN, 0) is 0 there: the next ReLU hides it (docs/export.md)
        assert not compare(task, network, (SIDE, 64), films=2).alike
    else:
        assert detect_finite(network, films[:2], targets) == [None, None]  # type: ignore[arg-type]


def test_a_batch_of_another_size_is_told_of_alike(export: Callable[..., Pair], films: list[Tensor]) -> None:
    task, network = export("fasterrcnn_tiny", "openvino")
    card = network.card
    pair = task, open_exported(Path(card.compared["folder"]), card, callers=1, threads=1, batch=2)
    for batch in (films[:1], films[:2], films[1:2], films[:3], [film[:, :60, :60] for film in films[:2]]):
        assert_same(pair, batch)  # before the network is compiled for two films, for two, filled up, for any


def test_a_film_of_other_channels_is_refused(export: Callable[..., Pair]) -> None:
    _, network = export("fasterrcnn_tiny", "onnx")
    with pytest.raises(ValueError, match=r"shape \(3, 64, 64\), and this network takes 1 channels"):
        network.detect([torch.zeros(3, 64, 64)], [{}])


def test_several_threads_hear_nothing_of_one_another(export: Callable[..., Pair], films: list[Tensor]) -> None:
    _, network = export("fasterrcnn_tiny", "openvino")
    batches = [films[:1], films[1:2], films[2:3]] * 4

    def strongest(batch: list[Tensor]) -> float:
        target = {"scale": torch.ones(2), "size": torch.tensor(batch[0].shape[1:])}
        return float(network.detect(batch, [target])[0]["scores"].max())

    alone = [strongest(batch) for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(strongest, batches))
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len({round(score, 4) for score in alone}) == 3
