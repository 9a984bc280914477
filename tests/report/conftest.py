"""A run of explained films and an evaluation with known contents, for their figures and their pages."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cxr.explain.record import Explained, ExplainedFilm, Marked, write_map
from cxr.explain.scores import ScoreRow
from cxr.findings import Finding, FindingVocabulary
from cxr.measure.evaluation import Evaluation, Settings, evaluate
from cxr.measure.operating_point import choose_operating_point
from cxr.measure.results import FilmResult

METHODS = ("box", "gradcam", "eigencam")


@pytest.fixture
def findings() -> FindingVocabulary:
    """Seven, so that a category page has eight."""
    names = [("nodule", "浸潤"), ("effusion", "肋膜增厚"), *((f"finding_{i}", "") for i in range(3, 8))]
    return FindingVocabulary([Finding(*name) for name in names])


def blob(height: int, width: int, x: float, y: float, sigma: float = 30) -> NDArray[np.float32]:
    """A map [height, width] with its maximum, 1, at (x, y)."""
    rows, columns = np.mgrid[:height, :width]
    return np.float32(np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)))


@pytest.fixture
def explained_run(tmp_path: Path) -> Path:
    """Three films: two hits (nodule upper left, effusion lower right); a false alarm and a miss; a normal film.

    The normal film has a suppressed candidate, whose Grad-CAM is all zero.
    """
    nodule, effusion = (40.0, 50.0, 140.0, 150.0), (180.0, 240.0, 300.0, 380.0)
    two = [
        ("nodule", 0.87, nodule, "hit", blob(400, 320, 90, 100)),
        ("effusion", 0.62, effusion, "hit", blob(400, 320, 240, 310)),
    ]
    marks = (Marked("nodule", (44, 54, 150, 150)), Marked("effusion", (175, 250, 300, 385)))
    _write(tmp_path, "p0two", (400, 320), marks, two)
    alarm = [("effusion", 0.41, (30.0, 30.0, 90.0, 120.0), "false alarm", blob(300, 300, 60, 60))]
    _write(tmp_path, "p1alarm", (300, 300), (Marked("nodule", (180, 180, 260, 260)),), alarm)
    candidate = [("nodule", 0.03, (100.0, 200.0, 180.0, 280.0), "suppressed", np.zeros((480, 400), np.float32))]
    _write(tmp_path, "p2normal", (480, 400), (), candidate)
    return tmp_path


def _write(run: Path, study: str, size: tuple[int, int], truth: tuple[Marked, ...], boxes: list) -> None:  # type: ignore[type-arg]
    folder = run / "films" / study
    folder.mkdir(parents=True)
    height, width = size
    shade = blob(height, width, width / 2, height / 2, sigma=width / 3) * 180
    Image.fromarray(shade.astype(np.uint8)).save(folder / "film.jpg")
    explained = []
    for n, (finding, score, box, outcome, heat) in enumerate(boxes):
        write_map(folder / f"gradcam-{n}.png", heat)
        for method in ("box", "eigencam"):  # never zero
            write_map(folder / f"{method}-{n}.png", heat if heat.any() else blob(height, width, 140, 240))
        maps = {method: f"{method}-{n}.png" for method in METHODS}
        notes = {"eigencam": "EigenCAM cannot tell findings <apart>"}
        figures = {"box": {"hit": 1.0, "energy": 0.5}} if outcome == "hit" else {}
        explained.append(Explained(finding, score, box, outcome, maps, notes, figures))
    ExplainedFilm(study, f"secret-patient-{study}", width, height, True, truth, tuple(explained)).write(folder)


@pytest.fixture
def score_rows() -> list[ScoreRow]:
    """Figures of two methods and a baseline; the effusion's hit rate has no interval."""
    nan = float("nan")
    return [
        ScoreRow("all", "box", "hit", 0.75, 0.5, 0.9, 12, 8),
        ScoreRow("nodule", "box", "hit", 0.8, 0.6, 1.0, 10, 7),
        ScoreRow("effusion", "box", "hit", 0.5, nan, nan, 2, 1),
        ScoreRow("all", "box", "energy", 0.38, 0.3, 0.45, 12, 8),
        ScoreRow("all", "eigencam", "hit", 0.3, 0.2, 0.4, 12, 8),
        ScoreRow("all", "eigencam", "energy", nan, nan, nan, 0, 0),
        ScoreRow("all", "random", "hit", 0.05, 0.0, 0.1, 12, 8),
        ScoreRow("all", "random", "energy", 0.06, 0.04, 0.08, 12, 8),
    ]


@pytest.fixture
def film_results() -> list[FilmResult]:
    """A found nodule and a missed effusion; a nodule of low score; a false alarm on a normal film; a silent normal one.

    A film abnormal by a score of 0.3 lies under the normal one of 0.8.
    """
    place, other = (10.0, 10.0, 60.0, 60.0), (100.0, 100.0, 180.0, 190.0)
    return [
        film_result("p0", [(1, place), (2, other)], [(1, 0.9, place)]),
        film_result("p1", [(1, other)], [(1, 0.3, other)]),
        film_result("p2", [], [(2, 0.8, other)]),
        film_result("p3", [], []),
    ]


def film_result(study: str, truth: list, detections: list) -> FilmResult:  # type: ignore[type-arg]
    scores = np.array([score for _, score, _ in detections], np.float32)
    return FilmResult(
        study,
        f"secret-patient-{study}",
        (200, 200),
        np.array([box for _, box in truth], np.float32).reshape(-1, 4),
        np.array([label for label, _ in truth], np.int64),
        np.array([box for *_, box in detections], np.float32).reshape(-1, 4),
        np.array([label for label, *_ in detections], np.int64),
        scores,
        np.array([max((s for label, s, _ in detections if label == k), default=0.0) for k in range(1, 8)], np.float32),
        float(scores.max(initial=0)),
    )


@pytest.fixture
def evaluation(film_results: list[FilmResult], findings: FindingVocabulary) -> Evaluation:
    """Of ``film_results``, its operating point chosen on the first film alone, so that screening clears the second."""
    point = choose_operating_point(film_results[:1] + film_results[3:], 0.99)
    settings = Settings("iou50", (0.1,), worst=2, samples=50, seed=0)
    return evaluate(film_results, findings, findings.names, point, settings)
