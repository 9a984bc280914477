"""What pretraining compares, how it is seen that features have collapsed, and what a detector takes from its file."""

import logging
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cxr.config.errors import ConfigError
from cxr.config.models import build, builder
from cxr.data.film import Film
from cxr.findings import Finding, FindingVocabulary
from cxr.learn.weights import read_backbone
from cxr.pretrain.losses import at_places, vicreg
from cxr.pretrain.probe import ABNORMAL, effective_rank, labels, probe, spread
from cxr.pretrain.task import PretrainingTask
from cxr.report.neighbours_page import nearest
from cxr.runs.checkpoint import Checkpoint
from cxr.runs.restore import load_task

Adam = partial(torch.optim.Adam, lr=0.001)


def task(model: str = "fasterrcnn_tiny", **settings: Any) -> PretrainingTask:
    torch.manual_seed(0)
    return PretrainingTask(builder(model, **settings), Adam)


def batch(films: int = 3, side: int = 64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    views = torch.rand(films, 2, 1, side, side, generator=generator)
    places = torch.rand(films, 2, 5, 2, generator=generator) * 1.8 - 0.9
    return {"views": views, "places": places, "film": torch.arange(films), "whole": views[:, 0]}


def test_a_place_is_read_from_the_cell_that_it_lies_in_and_between_cells_from_both() -> None:
    maps = torch.zeros(1, 1, 2, 4)
    maps[0, 0] = torch.tensor([[0.0, 1.0, 2.0, 3.0], [10.0, 11.0, 12.0, 13.0]])
    # the centres of four columns lie at -0.75, -0.25, 0.25 and 0.75, those of two rows at -0.5 and 0.5
    places = torch.tensor([[[-0.75, -0.5], [0.25, 0.5], [0.5, -0.5], [0.75, 0.0]]])
    assert at_places(maps, places).tolist() == [[[0.0], [12.0], [2.5], [8.0]]]


def test_the_same_place_is_read_in_both_views_of_a_film() -> None:
    """A network that gives every cell the film's own coordinates agrees with itself at paired places alone."""
    cells = (torch.arange(8) + 0.5) / 4 - 1
    film_x = cells.expand(8, 8)
    first, second = film_x, film_x * 0.5 + 0.25  # the second view shows half as much, shifted to the right
    places = torch.tensor([[0.25, 0.0], [0.5, 0.25]]), torch.tensor([[0.0, 0.0], [0.5, 0.25]])
    read = [at_places(view[None, None], one[None])[0, :, 0] for view, one in zip((first, second), places, strict=True)]
    torch.testing.assert_close(read[0], read[1])


def test_terms_by_hand() -> None:
    first = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    terms = vicreg(first, first + torch.tensor([1.0, 0.0]))
    assert terms["invariance"].item() == pytest.approx(25 * 0.5)  # mean of 1 and 0 squared
    assert terms["variance"].item() == 0  # each feature spreads by the root of 2
    assert terms["covariance"].item() == pytest.approx(2**2 * 2 / 2)  # covariance 2, off the diagonal twice, over D


def test_films_that_are_all_alike_cost_the_whole_variance_and_one_film_alone_nothing() -> None:
    alike = torch.ones(4, 8)
    assert vicreg(alike, alike)["variance"].item() == pytest.approx(25 * 0.99, abs=1e-3)  # 1 - sqrt(1e-4)
    assert {name: value.item() for name, value in vicreg(alike[:1], alike[:1]).items()} == {
        "invariance": 0.0, "variance": 0.0, "covariance": 0.0,
    }  # fmt: skip


def test_the_figures_of_collapse_by_hand() -> None:
    same = torch.tensor([[1.0, 2.0, 3.0]]).repeat(5, 1) * torch.arange(1, 6)[:, None]
    assert spread(same) == pytest.approx(0, abs=1e-6)  # of other lengths, but all in one direction
    axes = torch.eye(4)
    assert spread(torch.cat([axes, -axes])) == pytest.approx(1.0)  # each feature is 0 but for 1 and -1 in 8 films
    assert effective_rank(torch.cat([axes, -axes])) == pytest.approx(4.0)
    assert effective_rank(same) == pytest.approx(1.0)  # on one line
    assert effective_rank(torch.ones(5, 3)) == 0
    assert spread(torch.ones(1, 3)) == 0


def test_features_that_become_alike_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    pretraining = task()
    pretraining.trainer = SimpleNamespace(is_global_zero=True)  # type: ignore[assignment]
    for spread_of_epoch in (0.1, 0.4, 0.2, 0.11, 0.1):  # 0.11 and 0.1 are less than three tenths of 0.4
        pretraining._tell_collapse(spread_of_epoch)
    (told,) = caplog.records
    assert "their spread is 0.110 and was 0.400" in told.getMessage()


def film(*findings: str, labelled: frozenset[str] | None = None) -> Film:
    boxes = np.zeros((len(findings), 4), np.float32)
    return Film(Path("a"), "a", "s", "p", boxes, findings, 10, 10, labelled=labelled)


def test_a_finding_that_nobody_looked_for_is_unknown_to_the_probe() -> None:
    films = [film("heart"), film(), film(labelled=frozenset({"spine"}))]
    found = labels(films, ["heart", "spine"])
    np.testing.assert_array_equal(found["heart"], [1, 0, np.nan])
    np.testing.assert_array_equal(found["spine"], [0, 0, 0])
    np.testing.assert_array_equal(found[ABNORMAL], [1, 0, np.nan])


def test_a_probe_reads_what_is_in_the_features_and_leaves_out_what_it_cannot_measure() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 6, generator=generator)
    heart = (features[:, 2] > 0).double().numpy()
    unknown = np.where(np.arange(40) % 2 == 0, heart, np.nan)
    truth = {"heart": heart, "sometimes": unknown, "never": np.zeros(40)}
    train, val = (
        (features[some], {name: one[some] for name, one in truth.items()}) for some in (slice(30), slice(30, 40))
    )
    areas = probe(train, val)
    assert areas["heart"] == 1.0
    assert set(areas) == {"heart", "sometimes"}


def test_the_nearest_films_are_of_other_patients() -> None:
    features = torch.tensor([[3.0, 0.0], [2.9, 0.1], [2.0, 0.5], [-3.0, 0.0], [-4.9, -0.6]])
    ((first, cosine), (second, _)) = nearest(features, ["a", "a", "b", "c", "d"], [0], 2)[0]
    assert first == 2  # 1 is nearer, but of the same patient
    assert second in (3, 4)
    assert 0 < cosine < 1


@pytest.mark.parametrize("model", ["fasterrcnn_tiny", "retinanet"])
def test_every_level_with_weights_of_its_own_learns(model: str) -> None:
    pretraining = task(model, **({} if model == "fasterrcnn_tiny" else {"backbone": "tiny"}))
    losses = pretraining.losses(batch())
    assert set(losses) == {f"loss_{a}{b}" for a in ("", "local_") for b in ("invariance", "variance", "covariance")}
    torch.stack(list(losses.values())).sum().backward()
    silent = [name for name, p in pretraining.pyramid.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not silent


def test_views_of_one_film_alone_give_finite_losses_in_validation() -> None:
    pretraining = task().eval()
    assert all(torch.isfinite(value) for value in pretraining.losses(batch(1)).values())


def test_features_are_of_whole_films_on_the_canvas_of_a_detector() -> None:
    pretraining = task().eval()
    whole = batch()["whole"]
    features = pretraining.features(list(whole))
    assert features.shape == (3, 128 + 3 * 64)  # the coarsest map, and three levels
    alone = pretraining.features([whole[1]])
    torch.testing.assert_close(features[1:2], alone, rtol=0, atol=1e-5)


def test_a_model_without_a_pyramid_is_refused_with_what_to_type() -> None:
    with pytest.raises(ValueError, match=r"has none; type model=fasterrcnn"):
        task("ssdlite")


@pytest.fixture
def file(tmp_path: Path) -> tuple[PretrainingTask, str]:
    trained = task()
    path = tmp_path / "backbone.pth"
    state = {f"pyramid.{name}": value for name, value in trained.pyramid.state_dict().items()}
    torch.save({"state_dict": state, "cxr": {"films": 3}}, path)
    return trained, str(path)


def test_a_detector_takes_backbone_and_pyramid_of_the_file(file: tuple[PretrainingTask, str]) -> None:
    trained, path = file
    torch.manual_seed(1)
    detector = build("fasterrcnn_tiny", 4, backbone__weights=path)
    theirs = trained.pyramid.state_dict()
    torch.testing.assert_close(dict(detector.backbone.state_dict()), dict(theirs), rtol=0, atol=0)
    torch.manual_seed(1)
    other = build("fasterrcnn_tiny", 4)
    torch.testing.assert_close(detector.rpn.state_dict(), other.rpn.state_dict(), rtol=0, atol=0)


def test_a_detector_of_another_pyramid_takes_the_backbone_and_says_so(
    file: tuple[PretrainingTask, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    trained, path = file
    detector = build("fcos", 4, backbone="tiny", backbone__weights=path)
    theirs = trained.pyramid.body.state_dict()
    ours = {name: detector.backbone.body.state_dict()[name] for name in theirs}
    torch.testing.assert_close(ours, dict(theirs), rtol=0, atol=0)
    assert "its pyramid is of another shape" in caplog.text


@pytest.mark.parametrize("weights", [None, "imagenet"])
def test_a_network_of_timm_comes_back_with_the_normalisation_it_had(tmp_path: Path, weights: str | None) -> None:
    trained = task("fasterrcnn_tiny", backbone="efficientnet_lite0", backbone__weights=weights)
    state = {f"pyramid.{name}": value for name, value in trained.pyramid.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "backbone.pth")
    assert any(name.startswith("network.") for name in read_backbone(str(tmp_path / "backbone.pth"), None))
    path = str(tmp_path / "backbone.pth")
    detector = build("fasterrcnn_tiny", 4, backbone="efficientnet_lite0", backbone__weights=path).eval()
    canvas = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        theirs, ours = trained.eval().pyramid(canvas), detector.backbone(canvas)
    torch.testing.assert_close(dict(ours), dict(theirs), rtol=0, atol=1e-5)


def test_test_films_that_the_backbone_has_seen_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cxr.runs import pretrained_films

    path = tmp_path / "backbone.pth"
    torch.save({"state_dict": {}, "cxr": {"seen": torch.tensor([5, 7, 9])}}, path)

    data: Any = SimpleNamespace(films={"test": [7, 8]}, cache=None)
    checkpoint = tmp_path / "last.ckpt"  # of a pretraining that began with the weights of another one
    films = {split: torch.tensor(some) for split, some in (("train", [5]), ("val", [9]), ("pretrained", [7]))}
    torch.save({"state_dict": {}, "cxr": {"films": {**films, "test": torch.tensor([8])}}}, checkpoint)
    monkeypatch.setattr(pretrained_films, "film_digests", lambda films, cache: np.array(films))
    for weights in (path, checkpoint):
        config = {"model": {"backbone": {"weights": str(weights)}}}
        seen = pretrained_films.pretrained_films(config)
        assert seen.tolist() == [5, 7, 9]
        data.films = {"test": [7, 8]}
        with pytest.raises(ConfigError, match="pretrained on 1 of the 2 test films"):
            pretrained_films.refuse_pretrained_films(config, seen, data)
        data.films = {"test": [8]}
        pretrained_films.refuse_pretrained_films(config, seen, data)
    assert not len(pretrained_films.pretrained_films({"model": {"backbone": {"weights": "imagenet"}}}))


def test_the_file_tells_the_films_of_the_weights_it_began_with_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cxr.pretrain import backbone_file

    trained = task()
    trained.card = {"films": {"pretrained": torch.tensor([3, 7])}}
    monkeypatch.setattr(backbone_file, "film_digests", lambda films, cache: np.array(films))
    monkeypatch.setattr(backbone_file, "card_of", lambda *given: {})
    data = SimpleNamespace(films={"train": [5, 7], "val": [9], "test": []}, cache=None)
    trainer: Any = SimpleNamespace(is_global_zero=True, datamodule=data, callback_metrics={}, print=print)
    backbone_file.BackboneFile(str(tmp_path / "backbone.pth")).on_test_end(trainer, trained)
    assert torch.load(tmp_path / "backbone.pth")["cxr"]["seen"].tolist() == [3, 5, 7, 9]


def test_a_checkpoint_of_pretraining_is_no_detector_and_says_what_it_is_for() -> None:
    findings = FindingVocabulary([Finding("scoliosis", "脊椎側彎")])
    config = {"task": {"_target_": f"{PretrainingTask.__module__}.{PretrainingTask.__name__}"}}
    checkpoint = Checkpoint(Path("best.ckpt"), config, findings, "", {}, {})
    with pytest.raises(ConfigError, match=r"of a pretraining, not of a detector; .*model.backbone.weights=best.ckpt"):
        load_task(checkpoint)
