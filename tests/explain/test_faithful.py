import math

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from cxr.config.models import build, builder
from cxr.explain.faithful import deletion_insertion, randomised, similarity


class TestDeletionInsertion:
    """The toy score is the share of a lesion's pixels that are still the film's own: linear in what is removed."""

    @pytest.fixture
    def film(self):
        return torch.rand((1, 20, 50), generator=torch.Generator().manual_seed(0))

    @pytest.fixture
    def lesion(self):
        lesion = torch.zeros(20, 50)
        lesion[0:2] = 1  # 100 of 1000 pixels, where a raster scan begins
        return lesion

    @pytest.fixture
    def score(self, film, lesion):
        return lambda films: 0.6 * ((films == film) & (lesion > 0)).sum((1, 2, 3)) / 100

    def test_a_perfect_map_of_a_tenth(self, film, lesion, score):
        (areas,) = deletion_insertion(film, lesion[None], score)
        # deletion falls in a line from 1 to 0 at 0.1 of the pixels, insertion rises so; 0.6 of the whole film cancels
        assert areas == pytest.approx({"deletion": 0.05, "insertion": 0.95})

    def test_the_worst_map(self, film, lesion, score):
        (areas,) = deletion_insertion(film, 1 - lesion[None], score)
        # the steps 0.7 and 1 straddle the fall at 0.9: a trapezoid of 0.3 / 2 beyond 0.7
        assert areas == pytest.approx({"deletion": 0.85, "insertion": 0.15})

    @pytest.mark.parametrize("level", [0.0, 0.4])
    def test_a_constant_map_is_no_raster_scan(self, film, lesion, score, level):
        (areas,) = deletion_insertion(film, torch.full((1, 20, 50), level), score)
        assert areas["deletion"] == pytest.approx(0.5, abs=0.05)
        assert areas["insertion"] == pytest.approx(0.5, abs=0.05)

    def test_ties_fall_the_same_way_each_time(self, film, score):
        flat = torch.zeros(2, 20, 50)
        first, second = deletion_insertion(film, flat, score)
        assert first == second == deletion_insertion(film, flat[:1], score)[0]

    def test_more_than_the_whole_film_counts_as_the_whole_film(self, film, lesion):
        def less_is_more(films):
            return torch.where((films == film).flatten(1).all(1), 0.1, 0.9)

        assert deletion_insertion(film, lesion[None], less_is_more) == [pytest.approx({"deletion": 1, "insertion": 1})]

    def test_nothing_to_follow_where_the_whole_film_scores_0(self, film, lesion):
        assert deletion_insertion(film, torch.stack([lesion] * 2), lambda films: torch.zeros(len(films))) == [{}, {}]

    def test_one_call_for_the_ends_and_one_a_map_without_gradient(self, film, lesion, score):
        calls = []

        def watched(films):
            calls.append((tuple(films.shape), torch.is_grad_enabled()))
            return score(films)

        deletion_insertion(film, torch.stack([lesion] * 3), watched)
        assert calls == [((2, 1, 20, 50), False)] + 3 * [((12, 1, 20, 50), False)]

    @pytest.mark.parametrize("side", [64, 256])
    def test_what_is_removed_keeps_the_films_mean_and_loses_its_structures(self, side):
        film = torch.zeros(1, side, side)
        film[:, :, side // 2 :] = 1
        seen = []

        def watched(films):
            seen.append(films)
            return torch.ones(len(films))

        deletion_insertion(film, torch.zeros(1, side, side), watched)
        blurred = seen[0][1, 0]
        assert blurred.mean() == pytest.approx(0.5, abs=1e-3)
        # of a step's cosines (4/π · ½ the first) a Gaussian of half the film keeps exp(-π²/8), of the next 1e-5
        first = 2 / math.pi * math.exp(-(math.pi**2) / 8)
        assert blurred[side // 3].max() - 0.5 == pytest.approx(first, rel=0.02)
        assert 0.5 - blurred[0].min() == pytest.approx(first, rel=0.02)

    def test_few_steps_do_the_work_of_many(self, film, lesion):
        def steep(films):  # gone with a twentieth of the lesion's tenth of the pixels
            kept = ((films == film) & (lesion > 0)).sum((1, 2, 3)) / 100
            return torch.exp(-(1 - kept) / 0.5)

        few, many = (
            deletion_insertion(film, lesion[None], steep, **fractions)[0]
            for fractions in ({}, {"fractions": torch.linspace(0, 1, 201).tolist()})
        )
        assert few == pytest.approx(many, abs=0.01)


class Scaled(nn.Module):
    """A layer with a parameter and no ``reset_parameters``."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.arange(64.0))


class TestRandomised:
    @pytest.mark.parametrize(
        ("make", "order"),
        [
            (
                builder("fasterrcnn_tiny"),
                "roi_heads.box_predictor roi_heads.box_head rpn.head backbone.fpn backbone.body.layer4"
                " backbone.body.layer3 backbone.body.layer2 backbone.body.layer1 backbone.body.stem",
            ),
            (
                builder("retinanet"),
                "head backbone.fpn backbone.body.layer4 backbone.body.layer3 backbone.body.layer2"
                " backbone.body.layer1 backbone.body.bn1 backbone.body.conv1",
            ),
        ],
    )
    def test_forgets_from_the_output_to_the_input_and_nothing_else(self, make, order):
        detector = make(3).eval()
        with torch.no_grad():
            for parameter in detector.parameters():
                parameter.fill_(7.0)  # what no initialisation gives, so that what was not reset can be told
        gone = []
        for name, copied in randomised(detector):
            gone.append(name)
            for key, value in copied.named_parameters():
                assert (value == 7).all().item() is not key.startswith(tuple(f"{part}." for part in gone)), key
        assert gone == order.split()
        assert all((value == 7).all() for value in detector.parameters())

    def test_gives_other_detections_and_leaves_the_stream_of_random_numbers(self):
        torch.manual_seed(0)
        detector = build("fasterrcnn_tiny", 3, anchors__image_size=64, score_thresh=0.0).eval()
        film = torch.rand(1, 64, 64)
        state = torch.get_rng_state()
        with torch.no_grad():
            before = detector([film])[0]["scores"]
            for _, copied in randomised(detector):
                assert not copied.training
                after = copied([film])[0]["scores"]
                assert after.isfinite().all()
                assert not torch.equal(after, before)
        assert torch.equal(torch.get_rng_state(), state)

    def test_the_same_seed_forgets_the_same_way(self):
        detector = nn.ModuleDict({"head": nn.Linear(4, 4), "backbone": nn.Linear(4, 4)})

        def weights(seed):
            return [module.get_submodule(name).weight.clone() for name, module in randomised(detector, seed)]

        first, second = weights(1)
        assert not torch.equal(first, second)  # each part has random numbers of its own
        assert torch.equal(first, weights(1)[0])
        assert not torch.equal(first, weights(2)[0])

    def test_frozen_norms_become_the_identity_and_lone_parameters_are_shuffled(self):
        norm = FrozenBatchNorm2d(2)
        for buffer in norm.buffers():
            buffer.fill_(9.0)
        steps = randomised(nn.ModuleDict({"backbone": nn.ModuleDict({"body": nn.Sequential(norm, Scaled())})}))
        name, copied = next(steps)
        assert name == "backbone.body.1"
        scale = copied.get_submodule(name).scale
        assert not torch.equal(scale, torch.arange(64.0))
        assert torch.equal(scale.sort().values, torch.arange(64.0))
        name, copied = next(steps)
        assert name == "backbone.body.0"
        picture = torch.rand(1, 2, 3, 3)
        assert torch.allclose(copied.get_submodule(name)(picture), picture, atol=1e-4)


class TestSimilarity:
    @pytest.fixture
    def heatmap(self):
        return np.random.default_rng(0).random((30, 40), np.float32)

    def test_is_of_ranks(self, heatmap):
        assert similarity(heatmap, heatmap**5) == pytest.approx(1.0)
        assert similarity(heatmap, 1 - heatmap) == pytest.approx(-1.0)

    def test_by_hand_with_a_tie(self):
        one = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)  # ranks 1 2 3 4
        other = np.array([[0.0, 0.0, 0.9, 0.5]], np.float32)  # ranks 1.5 1.5 4 3
        # deviations -1.5 -.5 .5 1.5 and -1 -1 1.5 .5: 1.5 + .5 + .75 + .75 = 3.5, over √(5 · 4.5)
        assert similarity(one, other) == pytest.approx(3.5 / math.sqrt(22.5))

    def test_without_a_map_there_is_nothing_to_compare(self, heatmap):
        assert math.isnan(similarity(heatmap, np.zeros_like(heatmap)))
        assert math.isnan(similarity(np.full_like(heatmap, 0.5), heatmap))

    def test_large_maps_are_compared_by_cells(self, heatmap):
        enlarged = np.kron(heatmap, np.ones((16, 16), np.float32))  # 480 × 640: cells of 10 pixels
        speckled = enlarged + np.random.default_rng(1).random(enlarged.shape, np.float32)
        assert similarity(enlarged, speckled) > 0.98  # 0.7 pixel by pixel, as both have the same variance

    def test_maps_of_two_sizes_are_refused(self, heatmap):
        with pytest.raises(ValueError, match=r"\(30, 40\) and \(40, 30\)"):
            similarity(heatmap, heatmap.T)
