"""The benchmark of rivals: pycocotools' average precision with films drawn again, mirrored films, one set for all."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cxr.files import write_json
from cxr.measure.results import FilmResult
from scripts import ROOT


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))  # benchmarks are no part of the package


def film(patient: str, marked: bool, score: float) -> FilmResult:
    """Return a film with one detection at 10, 10, 50, 50, which is right where the film is marked."""
    box = np.array([[10, 10, 50, 50]], np.float32)
    labels = np.ones(1, np.int64)
    truth = (box, labels) if marked else (box[:0], labels[:0])
    scores = np.array([score], np.float32)
    return FilmResult(patient, patient, (64, 64), *truth, box, labels, scores, scores, score)


def test_a_film_that_counts_twice_gives_two_right_boxes() -> None:
    from benchmarks.rival_scores import average_precision, coco, detections, evaluated

    results = [film("a", True, 0.9), film("b", False, 0.95)]  # the false alarm comes first
    measured = evaluated(coco(results), detections(results))
    assert average_precision(measured, np.array([1.0, 1.0])) == pytest.approx([1 / 2, 1 / 2])
    assert average_precision(measured, np.array([2.0, 1.0])) == pytest.approx([2 / 3, 2 / 3])
    assert average_precision(measured, np.array([1.0, 0.0])) == pytest.approx([1, 1])
    assert np.isnan(average_precision(measured, np.array([0.0, 2.0]))).all()  # no mark is left


def test_scores_are_those_of_ranked_films() -> None:
    from benchmarks.rival_scores import scores

    results = [film("a", True, 0.9), film("b", False, 0.8), film("c", True, 0.7), film("d", False, 0.6)]
    figures = scores(results, samples=20)
    assert figures["AUC"][0] == pytest.approx(3 / 4)  # of four pairs one is the wrong way round
    assert figures["sensitivity at 1 false positive"][0] == 1
    # recall 1/2 at precision 1, and 1 at 2/3, read at 101 recalls: 51 of them up to 1/2
    assert figures["AP50"][0] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_mirrored_film_carries_its_box_along(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import rivals

    image = torch.zeros(1, 4, 10)
    image[:, 1:3, 2:5] = 1
    monkeypatch.setattr(rivals.torch, "rand", lambda size: torch.zeros(size))
    (flipped,), (target,) = rivals.mirrored(([image], [{"boxes": torch.tensor([[2.0, 1, 5, 3]])}]))
    assert target["boxes"].tolist() == [[5, 1, 8, 3]]
    assert flipped[0, 1].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]


def coco_folder(folder: Path) -> Path:
    """Write eight films of 64 × 32 pixels, the even ones with a heart at 8, 4, 24, 20."""
    images, annotations = [], []
    for i in range(8):
        picture = np.zeros((64, 32), np.uint8)
        picture[4:20, 8:24] = 255
        picture[32:] = 20 + 10 * i  # which film it is
        cv2.imwrite(str(folder / f"{i}.png"), picture)
        split = "test" if i > 5 else "val" if i > 3 else "train"
        images.append({"id": i, "file_name": f"{i}.png", "width": 32, "height": 64, "patient": str(i), "split": split})
        if i % 2 == 0:
            annotations.append({"id": i + 1, "image_id": i, "category_id": 1, "bbox": [8, 4, 16, 16]})
    categories = [{"id": 1, "name": "cardiac_hypertrophy"}]
    table = {"images": images, "annotations": annotations, "categories": categories}
    write_json(folder / "annotations.coco.json", table)
    return folder


def test_all_rivals_see_the_same_films_and_boxes(tmp_path: Path) -> None:
    from benchmarks.rivals import Films

    films = Films(coco_folder(tmp_path), tmp_path / "films", 32)  # half the size
    assert {split: len(some) for split, some in films.data.films.items()} == {"train": 4, "val": 2, "test": 2}
    boxes = {split: [film.boxes.tolist() for film in some] for split, some in films.data.films.items()}
    assert boxes["test"] == [[[4, 2, 12, 10]], []]
    texts = sorted(path.read_text() for path in (tmp_path / "films" / "labels" / "test").iterdir())
    assert texts[0] == ""  # a normal film has an empty text
    number, *sides = map(float, texts[1].split())
    assert (number, sides) == (0, pytest.approx([8 / 16, 6 / 32, 8 / 16, 8 / 32]))
    pictures = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in films.pictures]
    assert [picture.shape for picture in pictures] == [(32, 16)] * 2
    assert [int(picture[-1, 0]) for picture in pictures] == [80, 90]


@pytest.mark.slow
def test_torchvisions_reference_trains_for_its_time_and_answers_each_film(tmp_path: Path) -> None:
    from benchmarks.rivals import Films, kept, torchvision_reference

    films = Films(coco_folder(tmp_path), tmp_path / "films", 32)
    figures = kept(tmp_path / "rival.json", lambda: torchvision_reference(films, minutes=0.001))
    assert figures["epochs"] >= 1
    assert 0 <= figures["AP50"][0] <= 1
    assert kept(tmp_path / "rival.json", lambda: pytest.fail("it is kept")) == figures
