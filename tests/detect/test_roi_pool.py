import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from cxr.config.models import build
from cxr.detect.roi_pool import SeparableRoIAlign

SIZE = (256, 192)


def maps(generator):
    return {
        str(i): torch.rand(3, 8, SIZE[0] // s, SIZE[1] // s, generator=generator).requires_grad_()
        for i, s in enumerate((8, 16, 32))
    }


def regions(generator, n):
    corners = torch.rand(n, 2, 2, generator=generator).sort(1).values.flatten(1)
    return corners * torch.tensor([192.0, 256.0, 192.0, 256.0])


@pytest.mark.parametrize("canonical_scale", [224, 64])
def test_equals_torchvision_with_gradients(canonical_scale):
    generator = torch.Generator().manual_seed(0)
    features = maps(generator)
    border = torch.tensor([[0.0, 0.0, 192.0, 256.0], [190.0, 250.0, 192.0, 256.0], [10.0, 10.0, 11.0, 10.5]])
    boxes = [regions(generator, 40), torch.zeros(0, 4), torch.cat([border, regions(generator, 5)])]
    theirs = MultiScaleRoIAlign(["0", "1", "2"], 7, 2, canonical_scale=canonical_scale)(features, boxes, [SIZE] * 3)
    ours = SeparableRoIAlign((8, 16, 32), 7, canonical_scale)(features, boxes, [SIZE] * 3)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    direction = torch.rand(theirs.shape, generator=generator)
    for mine, other in zip(
        torch.autograd.grad(ours, list(features.values()), direction, allow_unused=True),
        torch.autograd.grad(theirs, list(features.values()), direction, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(mine, torch.zeros_like(mine) if other is None else other, rtol=1e-5, atol=1e-5)


def test_no_regions_at_all():
    generator = torch.Generator().manual_seed(0)
    pooled = SeparableRoIAlign((8, 16, 32))(maps(generator), [torch.zeros(0, 4)] * 3, [SIZE] * 3)
    assert pooled.shape == (0, 8, 7, 7)


@pytest.mark.parametrize("name", ["fasterrcnn", "fasterrcnn_v2", "fasterrcnn_mobilenet", "fasterrcnn_tiny"])
def test_a_broad_film_first_changes_nothing_of_the_films_after_it(name):
    torch.manual_seed(0)
    settings = {"anchors__image_size": 96, "proposals__post_nms_top_n": 30, "score_thresh": 0}
    detector = build(name, 8, **settings).eval()
    upright, broad = torch.rand(1, 96, 80), torch.rand(1, 40, 96)
    with torch.no_grad():
        alone = detector([upright])[0]
        fresh = build(name, 8, **settings).eval()
        fresh.load_state_dict(detector.state_dict())
        fresh([broad])
        after = fresh([upright])[0]
    torch.testing.assert_close(after, alone, rtol=0, atol=0)
