"""Phantom films: chest radiographs drawn from geometry, in the course layout. All findings and boxes are known."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cxr.findings import NORMAL
from cxr.phantom.anatomy import FINDINGS, Thorax, draw_findings, draw_thorax
from cxr.phantom.canvas import Map, Pose
from cxr.phantom.course_layout import TABLES, write_film, write_mark
from cxr.phantom.drawn_set import DrawnSet, PhantomError, draw_all, write_table
from cxr.phantom.exposure import attenuate, draw_pose, expose
from cxr.phantom.scanner import WeakScanner, from_weak_scanner, stated

_DRAWING = 1  # raised when the same seed gives other films than before

_Rows = dict[str, list[tuple[object, ...]]]  # name of a table → its rows


@dataclass(frozen=True, eq=False)
class Phantom:
    """A drawn film.

    Args:
        pixels: [H, W] uint16, 12-bit stored values: MONOCHROME1, LOG.
        boxes: box of each finding, float32 [4] absolute xyxy in pixels; empty on a normal film.
        layers: attenuation of each part (ribs, clavicles, lungs, heart, vessels …), float32 [H, W].
        thorax: the geometry of the patient in mm.
    """

    pixels: NDArray[np.uint16]
    boxes: Mapping[str, NDArray[np.float32]]
    layers: Mapping[str, Map]
    thorax: Thorax


def draw_phantom(
    rng: np.random.Generator, size: int, findings: Collection[str] | None = None, scanner: WeakScanner | None = None
) -> Phantom:
    """Return a film, ``size`` pixels along its longest side, with these findings and no other.

    With ``None`` at least one finding is chosen at random; () gives a normal film. The same ``rng`` with other findings
    gives the same patient, pose and exposure with those; ``scanner`` shows the same on a weak machine. Raises
    ``ValueError`` for a finding that cannot be drawn.
    """
    of_findings, of_patient, of_film = (np.random.default_rng(seed) for seed in rng.integers(2**63, size=3))
    thorax = draw_thorax(of_patient, draw_findings(of_findings) if findings is None else findings)
    return _take(of_film, thorax, draw_pose(of_film, thorax, size), scanner)


def write_course_layout(
    root: Path | str,
    films: int = 480,
    test_films: int = 120,
    size: int = 1024,
    seed: int = 0,
    normal_fraction: float = 0.25,
    rare: Mapping[str, float] | None = None,
    workers: int | None = None,
    draw: bool = True,
    weak_scanner: Mapping[str, float] | None = None,
) -> None:
    """Draw a data set into ``root`` in the layout of the hospital's course, with ``test_truth.csv`` for scoring.

    The set has ``films`` to train with and ``test_films``, each ``size`` pixels along its longest side. One patient in
    ten has a second film. ``normal_fraction`` of the patients have no finding. ``rare``, {finding: share}, makes
    findings rare in training: at most ``share * films`` patients keep the finding. The films depend on ``seed`` only,
    not on ``workers`` (number of processes; None means one for each core). ``weak_scanner`` has the arguments of a
    ``WeakScanner``, which takes the films of some patients; those of all others stay as they are. A complete set is
    left as it is, an interrupted one is completed. With ``draw`` False nothing is written.

    Raises ``PhantomError`` when ``root`` holds films drawn with other settings, or other files. With ``draw`` False it
    is raised also when the set is not complete.
    """
    if unknown := sorted(set(rare or {}) - set(FINDINGS)):
        raise PhantomError(f"data.read.rare names {', '.join(unknown)}, expected some of {', '.join(FINDINGS)}")
    root, scanner = Path(root), _weak(weak_scanner)
    settings: dict[str, float | str] = {"films": films, "test_films": test_films, "size": size, "seed": seed}
    settings |= {"normal_fraction": normal_fraction, "drawing": _DRAWING}
    settings |= {f"rare {name}": share for name, share in (rare or {}).items()}
    settings |= {} if scanner is None else {f"weak scanner {name}": value for name, value in asdict(scanner).items()}

    def fill() -> None:
        plan = _plan(films, test_films, seed, normal_fraction, rare or {})
        rows = draw_all(partial(_draw_film, root, size, scanner), plan, workers, "films")
        for table, columns in TABLES.items():
            write_table(root / table, columns, [row for film in rows for row in film.get(table, ())])

    DrawnSet(root, "films", "phantom", settings, "data=course or data=coco").complete(fill, draw)


@dataclass(frozen=True)
class _Job:
    """One film to draw: its patient, its findings, and its files (one for each finding)."""

    id: str
    patient: int
    shot: int
    seed: int
    findings: tuple[str, ...]
    files: tuple[str, ...]  # relative to the root
    test: bool


def _plan(
    films: int, test_films: int, seed: int, normal_fraction: float, rare: Mapping[str, float] = MappingProxyType({})
) -> list[_Job]:
    """Return the films to draw, the same for the same arguments. A patient is either in training or in test."""
    rng = np.random.default_rng([seed, _DRAWING])
    jobs: list[_Job] = []
    numbers: Counter[str] = Counter()
    for wanted, test in ((films, False), (test_films, True)):
        shots = _shots(rng, wanted)
        normal = rng.permutation(len(shots)) < round(normal_fraction * len(shots))
        of_patients = [() if healthy else tuple(sorted(draw_findings(rng))) for healthy in normal]
        if not test:
            of_patients = _rarefied(of_patients, {name: round(share * films) for name, share in rare.items()})
        for count, findings in zip(shots, of_patients, strict=True):
            patient = jobs[-1].patient + 1 if jobs else 1
            for shot in range(count):
                folders = ["test"] if test else [f"train/{name}" for name in findings or (NORMAL,)]
                numbers.update(folders)
                files = tuple(f"{folder}/image/{_file_name(numbers[folder], test)}" for folder in folders)
                film_id = f"TDR{patient % 7 + 1:02d}_20180315_{patient:05d}{shot}"
                jobs.append(_Job(film_id, patient, shot, seed, findings, files, test))
    return jobs


def _rarefied(of_patients: Sequence[tuple[str, ...]], limits: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Return the findings of each patient; only the first so many patients keep a finding in ``limits``."""
    seen: Counter[str] = Counter()
    rarefied = []
    for findings in of_patients:
        seen.update(findings)
        rarefied.append(tuple(name for name in findings if seen[name] <= limits.get(name, len(of_patients))))
    return rarefied


def _shots(rng: np.random.Generator, films: int) -> list[int]:
    """Return the number of films of each patient: one in ten has two."""
    shots: list[int] = []
    while (left := films - sum(shots)) > 0:
        shots.append(min(left, 1 + int(rng.uniform() < 0.1)))
    return shots


def _file_name(number: int, test: bool) -> str:
    if test:
        return f"{number:03d}.dcm"
    return f"{number} (2)d.dcm" if number % 9 == 0 else f"{number}.dcm"  # the hospital's have blanks and brackets


def _weak(given: Mapping[str, float] | None) -> WeakScanner | None:
    try:
        return None if given is None else WeakScanner(**given)
    except (TypeError, ValueError) as error:
        raise PhantomError(f"data.read.weak_scanner: {error}") from error


def _draw_film(root: Path, size: int, scanner: WeakScanner | None, job: _Job) -> _Rows:
    """Write those files of a film that do not exist yet; return its rows of the tables."""
    rng = np.random.default_rng([job.seed, job.patient, job.shot])
    thorax = draw_thorax(np.random.default_rng([job.seed, job.patient]), job.findings)
    pose = draw_pose(rng, thorax, size)
    boxes = _boxes(thorax, pose)
    paths = [root / file for file in job.files]
    if not all(path.exists() for path in paths):
        weak = from_weak_scanner(job.seed, job.patient, scanner)
        pixels = _take(rng, thorax, pose, scanner if weak else None).pixels
        about = stated(job.seed, job.patient, thorax.habitus.female, weak)
        write_film(paths, pixels, f"PHANTOM{job.patient:05d}", f"{job.seed} {job.id}", about)
    if job.test:
        return _test_rows(job, pose, boxes)
    for path, name in zip(paths, job.findings, strict=False):  # a normal film has a path but no finding
        write_mark(path.parents[1] / "mark" / f"{path.name}.jpg", pose.width, pose.height, boxes[name])
    return _train_rows(job, pose)


def _take(rng: np.random.Generator, thorax: Thorax, pose: Pose, scanner: WeakScanner | None) -> Phantom:
    layers = attenuate(thorax, pose, rng)
    pixels = expose(np.sum(list(layers.values()), axis=0), pose, rng, scanner)
    return Phantom(pixels, _boxes(thorax, pose), layers, thorax)


def _boxes(thorax: Thorax, pose: Pose) -> dict[str, NDArray[np.float32]]:
    return {name: pose.box(outline) for name, outline in thorax.outlines.items()}


def _train_rows(job: _Job, pose: Pose) -> _Rows:
    rows: list[tuple[object, ...]] = []
    for file in job.files:
        _, label, _, name = file.split("/")
        rows.append((job.id, label, pose.width, pose.height, name, f"{label}/image/{name}", f"{label}/mark/{name}.jpg"))
    return {"train.csv": rows}


def _test_rows(job: _Job, pose: Pose, boxes: Mapping[str, NDArray[np.float32]]) -> _Rows:
    name = job.files[0].rsplit("/", 1)[1]
    truth: list[tuple[object, ...]] = []
    for finding, box in boxes.items():
        x0, y0, x1, y1 = (box / np.array([pose.width, pose.height] * 2)).round(6).tolist()
        truth.append((job.id, finding, x0, x1, y0, y1))
    return {"test.csv": [(job.id, pose.width, pose.height, name, f"/image/{name}")], "test_truth.csv": truth}
