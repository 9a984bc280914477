"""NaN within a detector is no film without findings: it is found in the layers, for the film it belongs to."""

import pytest
import torch
from torch import Tensor, nn

from cxr.config.models import builder
from cxr.detect.finite import detect_finite, watched
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary

SIZE = 64
FAINT, BRIGHT = torch.full((1, SIZE, SIZE), 0.25), torch.full((1, SIZE, SIZE), 0.75)


def of(findings: FindingVocabulary, name: str = "fasterrcnn_tiny") -> DetectionTask:
    torch.manual_seed(0)
    return DetectionTask(findings, builder(name, anchors__image_size=SIZE), torch.optim.SGD).eval()


def targets(count: int) -> list[dict[str, Tensor]]:
    return [{"scale": torch.ones(2), "size": torch.tensor([SIZE, SIZE])} for _ in range(count)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "layer", ["backbone", "rpn.head.cls_logits", "rpn.head.bbox_pred", "roi_heads.box_predictor.cls_score"]
)
def test_a_detector_that_computes_nan_says_nothing(vocabulary: FindingVocabulary, layer: str, value: float) -> None:
    task = of(vocabulary)
    assert detect_finite(task, [FAINT], targets(1)) != [None]
    part = task.detector.get_submodule(layer)
    next(part.parameters()).data.flatten()[0] = value
    answer = task.detect([FAINT], targets(1))[0]
    assert torch.isfinite(answer["abnormal"])  # what the answer alone says: nothing wrong
    assert detect_finite(task, [FAINT], targets(1)) == [None]


def test_heads_without_regions_are_watched_too(vocabulary: FindingVocabulary) -> None:
    task = of(vocabulary, "retinanet")
    assert detect_finite(task, [FAINT], targets(1)) != [None]
    task.detector.head.classification_head.cls_logits.bias.data[0] = float("nan")
    assert detect_finite(task, [FAINT], targets(1)) == [None]


def test_only_the_film_with_nan_is_lost(vocabulary: FindingVocabulary) -> None:
    task = of(vocabulary)

    def spoil(module: nn.Module, inputs: tuple[Tensor], output: dict[str, Tensor]) -> None:
        for n, image in enumerate(inputs[0]):
            if image.mean() > inputs[0].new_tensor(0.0):  # normalised: the bright film
                next(iter(output.values()))[n, 0, 0, 0] = float("nan")

    whole = detect_finite(task, [FAINT, FAINT], targets(2))
    task.detector.backbone.register_forward_hook(spoil)
    mean = task.detector.transform([FAINT])[0].tensors.mean()
    assert mean < 0 < task.detector.transform([BRIGHT])[0].tensors.mean()
    first, lost, last = detect_finite(task, [FAINT, BRIGHT, FAINT], targets(3))
    assert lost is None
    for answer in (first, last):
        assert answer is not None
        assert whole[0] is not None
        torch.testing.assert_close(answer["abnormal"], whole[0]["abnormal"])


def test_no_hook_stays(vocabulary: FindingVocabulary) -> None:
    task = of(vocabulary)
    before = [len(module._forward_hooks) for module in task.detector.modules()]
    with watched(task.detector) as watch:
        task.detector([FAINT])
    assert watch.finite
    assert [len(module._forward_hooks) for module in task.detector.modules()] == before
