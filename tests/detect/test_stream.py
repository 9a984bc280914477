"""Films from files to predictions: every film once, none said otherwise of for its neighbours, failures among them."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from cxr.config.models import builder
from cxr.data.dataset import RadiographDataset
from cxr.data.folder import read_folder
from cxr.data.inputs import Decode, read_inputs
from cxr.detect.prediction import NotAssessed, Prediction
from cxr.detect.stream import Outcome, predict_films
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.chest_films import NOT_FINITE
from cxr.read.dicom import ReadError
from cxr.read.intensity import Intensity, VoiWindow

SIZE = 64
INTENSITY = Intensity([VoiWindow()])
SHAPES = ((96, 96), (60, 128), (128, 60), (48, 40), (128, 126))  # broad, upright, smaller than the detector's size


@pytest.fixture
def task(vocabulary: FindingVocabulary) -> DetectionTask:
    torch.manual_seed(0)
    model = builder("fasterrcnn_tiny", anchors__image_size=SIZE, score_thresh=0.0)
    return DetectionTask(vocabulary, model, torch.optim.SGD).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of noise in many shapes, and a file that should be one."""
    random = np.random.default_rng(0)
    (tmp_path / "films").mkdir()
    for n, shape in enumerate(SHAPES):
        cv2.imwrite(str(tmp_path / "films" / f"{n}.png"), random.integers(0, 255, shape, np.uint8))
    (tmp_path / "films" / "2b.dcm").write_text("<html>")
    return tmp_path / "films"


def test_a_film_of_few_pixels_or_another_part_is_not_assessed(
    task: DetectionTask, folder: Path, write_dicom: Callable[..., Path]
) -> None:
    for path in folder.iterdir():
        path.unlink()
    cv2.imwrite(str(folder / "a.png"), np.zeros((16, 16), np.uint8))
    write_dicom(folder / "b.dcm", BodyPartExamined="EXTREMITY")
    write_dicom(folder / "c.dcm", BodyPartExamined="CHEST", ViewPosition="LL")
    write_dicom(folder / "d.dcm", BodyPartExamined="CHEST", ViewPosition="PA")
    outcomes = predictions(task, folder, batch=2)
    causes = {number: film.reason.cause for number, film in outcomes.items() if isinstance(film, NotAssessed)}
    assert causes == {1: "too_small", 2: "other_part", 3: "lateral"}
    assert isinstance(outcomes[4], Prediction)
    assert (outcomes[2].width, outcomes[2].height, outcomes[2].sop_instance) == (80, 96, "1.2.3.4")
    assert outcomes[4].sop_instance == "1.2.3.4"


def test_a_film_whose_prediction_is_not_finite_is_not_assessed(task: DetectionTask, folder: Path) -> None:
    task.detector.roi_heads.box_predictor.cls_score.bias.data[1] = float("nan")
    outcomes = predictions(task, folder, batch=3)
    assert isinstance(outcomes.pop(4), ReadError)
    assert len(outcomes) == 5
    for film in outcomes.values():
        assert isinstance(film, NotAssessed)
        assert film.reason == NOT_FINITE


@pytest.fixture
def write_dicom() -> Callable[..., Path]:
    """Write a film of 80 × 96 noise."""

    def write(path: Path, **elements: str) -> Path:
        film = Dataset()
        film.SOPClassUID, film.SOPInstanceUID, film.StudyInstanceUID = ComputedRadiographyImageStorage, "1.2.3.4", "1.2"
        film.Modality, film.PatientID, film.PhotometricInterpretation = "CR", "7", "MONOCHROME2"
        film.Rows, film.Columns, film.SamplesPerPixel, film.PixelRepresentation = 96, 80, 1, 0
        film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
        film.PixelData = np.random.default_rng(0).integers(0, 4096, (96, 80), np.uint16).tobytes()
        for name, value in elements.items():
            setattr(film, name, value)
        film.file_meta = FileMetaDataset()
        film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        film.save_as(path, enforce_file_format=True)
        return path

    return write


def predictions(task: DetectionTask, folder: Path, batch: int) -> dict[int, Outcome]:
    stream = predict_films(task, read_inputs(folder), Decode(INTENSITY, SIZE), batch, workers=1)
    return {film.number: outcome for film, outcome in stream}


def test_every_film_is_told_of_once_and_one_that_fails_stops_none(task: DetectionTask, folder: Path) -> None:
    outcomes = predictions(task, folder, batch=2)
    assert sorted(outcomes) == [1, 2, 3, 4, 5, 6]
    failed = outcomes.pop(4)
    assert isinstance(failed, ReadError)
    assert "2b.dcm" in str(failed)
    assert [(film.height, film.width) for _, film in sorted(outcomes.items())] == list(SHAPES)


def test_what_is_said_of_a_film_does_not_depend_on_its_neighbours(task: DetectionTask, folder: Path) -> None:
    alone, together = (predictions(task, folder, batch) for batch in (1, 5))
    for number in (1, 2, 3, 5, 6):
        one, other = alone[number], together[number]
        assert len(one.boxes) > 5
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        assert one.abnormal == pytest.approx(other.abnormal, abs=1e-5)
        assert one.boxes[0] == pytest.approx(other.boxes[0], abs=0.05)


def test_it_says_what_the_task_says_of_the_films_of_a_data_set(
    task: DetectionTask, folder: Path, tmp_path: Path, vocabulary: FindingVocabulary
) -> None:
    predicted = predictions(task, folder, batch=1)
    films, _ = read_folder(folder)
    dataset = RadiographDataset(films, vocabulary, FilmCache(tmp_path / "cache", INTENSITY, SIZE), SIZE)
    image, target = dataset[0]
    detected = task.detect([image], [target])[0]
    best = int(detected["scores"].argmax())
    assert predicted[1].boxes[0] == pytest.approx(detected["boxes"][best].tolist(), abs=0.01)
    assert predicted[1].findings[0] == vocabulary.name(int(detected["labels"][best]))
    assert predicted[1].scores[0] == pytest.approx(float(detected["scores"][best]), abs=1e-6)
    assert list(predicted[1].scores) == sorted(predicted[1].scores, reverse=True)
    assert list(predicted[1].finding_scores) == list(vocabulary.names)
    # within other threads another last bit may stand
    assert predicted[1].abnormal == pytest.approx(float(detected["abnormal"]), abs=1e-6)


def test_batches_side_by_side_do_not_hear_of_one_another(folder: Path, vocabulary: FindingVocabulary) -> None:
    torch.manual_seed(0)
    model = builder("fasterrcnn_tiny", anchors__image_size=SIZE, image_head=True)
    task = DetectionTask(vocabulary, model, torch.optim.SGD).eval()
    torch.nn.init.normal_(task.image_head.layers[-1].weight)
    task.image_head.film_weight.fill_(1.0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = predictions(task, folder, batch=1)
        torch.set_num_threads(2)
        task.detector.backbone.register_forward_hook(meet(threading.Barrier(2, timeout=5)))
        together = predictions(task, folder, batch=1)
    finally:
        torch.set_num_threads(before)
    expected = {number: film.abnormal for number, film in alone.items() if number != 4}
    assert len({round(score, 3) for score in expected.values()}) > 1
    assert {n: film.abnormal for n, film in together.items() if n != 4} == pytest.approx(expected, abs=1e-5)


def meet(barrier: threading.Barrier) -> Callable[..., None]:
    """Keep a thread in the backbone until another is there too; the last film has none to wait for."""

    def wait(*_: object) -> None:
        with suppress(threading.BrokenBarrierError):
            barrier.wait()

    return wait
