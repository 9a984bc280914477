"""Films explained into folders: what is kept, what goes on after a kill, what a film that cannot be read does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cxr.data.dataset import RadiographDataset
from cxr.data.film import Film
from cxr.detect.finite import NotFiniteError
from cxr.explain.cam import BoxCam, Cam, EigenCam
from cxr.explain.films import Explainer, explain_films, folder_names, representative, sanity_check
from cxr.explain.record import read_film_record, read_map, read_records
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.intensity import Intensity, VoiWindow

FINDINGS = FindingVocabulary([{"name": "bright"}, {"name": "dark"}])
NOTHING = np.zeros((0, 4), np.float32)


def film(path: Path, study: str, boxes: np.ndarray = NOTHING, findings: tuple[str, ...] = ()) -> Film:
    return Film(path, path.stem, study, f"patient of {study}", boxes, findings, 256, 256)


@pytest.fixture
def films(tmp_path: Path) -> list[Film]:
    """Two films of 256 px, twice the network's 128: a bright lesion, and grey alone."""
    pixels = np.full((256, 256), 128, np.uint8)
    pixels[0, :2] = 0, 255  # the whole range, so that grey stays grey
    Image.fromarray(pixels).save(tmp_path / "normal.png")
    pixels[32:96, 32:96] = 255
    Image.fromarray(pixels).save(tmp_path / "lesion.png")
    truth = np.array([[32, 32, 96, 96]], np.float32)
    return [film(tmp_path / "lesion.png", "p1", truth, ("bright",)), film(tmp_path / "normal.png", "p2")]


@pytest.fixture
def explainer(detector_of: Callable[[list[list[float]]], nn.Module]) -> Explainer:
    methods = {"box": BoxCam(), "eigencam": EigenCam()}
    detector = detector_of([[15.0, 15.0, 49.0, 49.0]])
    return Explainer(detector, FINDINGS, methods, Intensity([VoiWindow()]), 0.5, 3, True, 0)


@pytest.fixture
def dataset(films: list[Film], tmp_path: Path) -> RadiographDataset:
    return RadiographDataset(films, FINDINGS, FilmCache(tmp_path / "cache", Intensity([VoiWindow()]), 128), 128)


def none_failed(film: Film, error: Exception) -> None:
    raise AssertionError(f"{film.path}: {error}")


def test_a_hit_is_kept_with_maps_in_original_pixels_and_figures(
    dataset: RadiographDataset, explainer: Explainer, tmp_path: Path
) -> None:
    assert len(list(explain_films(dataset, explainer, tmp_path, True, none_failed))) == 2
    (folder, lesion), (_, normal) = read_records(tmp_path)
    assert (lesion.study, lesion.width, lesion.height) == ("p1", 256, 256)
    (box,) = lesion.boxes
    assert (box.finding, box.outcome) == ("bright", "hit")
    assert box.box == pytest.approx((30, 30, 98, 98), abs=0.1)
    assert lesion.missed == ()
    heat = read_map(folder / box.maps["box"])
    assert heat.shape == (256, 256)
    assert heat.max() == 1
    assert heat[64, 64] > 0.5
    assert box.figures["box"]["hit"] == 1
    assert box.figures["own_box"]["hit"] == pytest.approx(64 * 64 / 68**2, abs=0.03)
    assert set(box.figures) == {"box", "eigencam", "random", "centre", "own_box"}
    assert box.figures["box"]["deletion"] < box.figures["random"]["deletion"]
    assert box.notes == {"eigencam": "blind"}
    with Image.open(folder / "film.jpg") as picture:
        assert picture.size == (256, 256)
    (suppressed,) = normal.boxes
    assert suppressed.outcome == "suppressed"
    assert suppressed.figures == {}


def test_without_truth_a_detection_is_measured_against_nothing(
    dataset: RadiographDataset, explainer: Explainer, tmp_path: Path
) -> None:
    dataset.films = [film(dataset.films[0].path, "p1")]
    list(explain_films(dataset, explainer, tmp_path, False, none_failed))
    (box,) = read_film_record(tmp_path / "films" / "p1").boxes
    assert box.outcome == "false alarm"
    assert set(box.figures["box"]) == {"deletion", "insertion"}


def test_films_that_are_done_are_not_computed_again(
    dataset: RadiographDataset, explainer: Explainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = explain_films(dataset, explainer, tmp_path, True, none_failed)
    next(first)  # killed here
    done = (tmp_path / "films" / "p1" / "film.json").stat().st_mtime_ns
    seen: list[str] = []
    monkeypatch.setattr(explainer.detector.transform, "forward", _noting(explainer.detector.transform.forward, seen))
    list(explain_films(dataset, explainer, tmp_path, True, none_failed))
    assert (tmp_path / "films" / "p1" / "film.json").stat().st_mtime_ns == done
    assert len(list(read_records(tmp_path))) == 2
    calls = len(seen)
    list(explain_films(dataset, explainer, tmp_path, True, none_failed))
    assert calls > 0
    assert len(seen) == calls


def _noting(forward: Callable[..., object], seen: list[str]) -> Callable[..., object]:
    def noted(*args: object) -> object:
        seen.append("forward")
        return forward(*args)

    return noted


def test_a_film_that_cannot_be_read_is_told_and_the_others_go_on(
    dataset: RadiographDataset, explainer: Explainer, tmp_path: Path
) -> None:
    dataset.cache.fill([film.path for film in dataset.films], progress=False)
    dataset.films[0].path.write_bytes(b"<html>no film</html>")
    failed: dict[str, str] = {}
    list(explain_films(dataset, explainer, tmp_path, True, lambda film, error: failed.update({film.study: str(error)})))
    assert list(failed) == ["p1"]
    assert [record.study for _, record in read_records(tmp_path)] == ["p2"]


@pytest.mark.parametrize("damage", [b"", b'{"study": "p1", "pat', b"[]", b"{}", b"\x00\xff"])
def test_a_film_whose_record_is_damaged_is_explained_again(
    dataset: RadiographDataset, explainer: Explainer, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    list(explain_films(dataset, explainer, tmp_path, True, none_failed))
    record = tmp_path / "films" / "p1" / "film.json"
    whole = record.read_bytes()
    record.write_bytes(damage)
    assert [film.study for _, film in read_records(tmp_path)] == ["p2"]
    list(explain_films(dataset, explainer, tmp_path, True, none_failed))
    assert "p1/film.json is damaged: the film is explained again" in caplog.text
    assert record.read_bytes() == whole


def test_a_film_of_which_the_detector_computes_nan_is_told_and_has_no_record(
    dataset: RadiographDataset, explainer: Explainer, tmp_path: Path
) -> None:
    explainer.detector.roi_heads.box_predictor.cls_score.bias.data[1] = float("nan")
    failed: dict[str, Exception] = {}
    list(explain_films(dataset, explainer, tmp_path, True, lambda film, error: failed.update({film.study: error})))
    assert set(failed) == {"p1", "p2"}
    assert all(isinstance(error, NotFiniteError) for error in failed.values())
    assert not list(read_records(tmp_path))


def test_a_map_that_is_not_finite_is_no_map(
    dataset: RadiographDataset, explainer: Explainer, broken: Cam, tmp_path: Path
) -> None:
    explainer = replace(explainer, methods={**explainer.methods, "broken": broken})
    failed: dict[str, str] = {}
    list(explain_films(dataset, explainer, tmp_path, True, lambda film, error: failed.update({film.study: str(error)})))
    assert failed["p1"] == "a map of Broken is not finite: NaN or infinity in its evidence"
    assert not list(read_records(tmp_path))


def test_two_films_of_one_study_have_two_folders(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    assert folder_names([film(path, "p1"), film(path, "p2"), film(path, "p1")]) == ["p1", "p2", "p1-2"]


def test_a_few_films_show_all_categories(tmp_path: Path) -> None:
    path, box = tmp_path / "x.png", np.array([[0, 0, 9, 9]], np.float32)
    films = [film(path, f"p{n}", box, ("bright",)) for n in range(5)] + [
        film(path, "p5"),
        film(path, "p6", box, ("dark",)),
    ]
    assert representative(films, FINDINGS, 3) == [0, 5, 6]
    assert representative(films, FINDINGS, 4) == [0, 1, 5, 6]
    assert representative(films, FINDINGS, None) == list(range(7))


def test_maps_change_when_the_weights_are_forgotten(dataset: RadiographDataset, explainer: Explainer) -> None:
    dataset.films = dataset.films[:1]
    torch.manual_seed(0)
    likeness = sanity_check(dataset, explainer)
    assert list(likeness) == ["box", "eigencam"]
    parts = likeness["eigencam"]
    assert next(iter(parts)) == "roi_heads.box_predictor"
    assert parts["roi_heads.box_predictor"] == pytest.approx(1)  # looks at no score, so forgetting it changes nothing
    assert likeness["box"]["roi_heads.box_head"] < 0.9  # looks through the head, and is another map without it
