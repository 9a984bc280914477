"""Phantom films: chest radiographs drawn from geometry, whose findings and boxes are known, in the course layout."""

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from rich.progress import track

from cxr.data.anatomy import FINDINGS, Thorax, draw_findings, draw_thorax
from cxr.data.course import read_course
from cxr.data.exposure import Pose, attenuate, draw_pose, expose
from cxr.data.film import Film
from cxr.findings import NORMAL, FindingVocabulary

_DRAWING = 1  # counts up when the same seed gives other films
_STAMP = "phantom.json"  # lies beside a complete set
_UNFINISHED = "phantom.unfinished.json"
_TABLES: dict[str, tuple[str, ...]] = {
    "train.csv": ("ID", "category", "Width", "Height", "Filename", "ImagePath", "MarkPath"),
    "test.csv": ("ID", "Width", "Height", "Filename", "ImagePath"),
    "test_truth.csv": ("ID", "category", "xmin", "xmax", "ymin", "ymax"),
}

Rows = dict[str, list[tuple[object, ...]]]  # of each table


class PhantomError(ValueError):
    """A folder that holds other films than those asked for."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A drawn film.

    Args:
        pixels: [H, W] uint16, 12-bit stored values: MONOCHROME1, LOG.
        boxes: of each finding, float32 [4] absolute xyxy in pixels; empty on a normal film.
        layers: float32 [H, W], what each part (ribs, clavicles, lungs, heart, vessels …) adds to the attenuation.
        thorax: the geometry behind it, mm.
    """

    pixels: NDArray[np.uint16]
    boxes: Mapping[str, NDArray[np.float32]]
    layers: Mapping[str, NDArray[np.float32]]
    thorax: Thorax


def draw_phantom(rng: np.random.Generator, size: int, findings: Collection[str] | None = None) -> Phantom:
    """Return a film, ``size`` pixels along its longest side, with these findings and no other.

    ``None`` draws one finding or more, () gives a normal film. The same ``rng`` with other findings gives the same
    patient, pose and exposure with those. Raises ``ValueError`` for a finding that cannot be drawn.
    """
    of_findings, of_patient, of_film = (np.random.default_rng(seed) for seed in rng.integers(2**63, size=3))
    thorax = draw_thorax(of_patient, draw_findings(of_findings) if findings is None else findings)
    return _take(of_film, thorax, draw_pose(of_film, thorax, size))


def write_course_layout(
    root: Path | str,
    films: int = 480,
    test_films: int = 120,
    size: int = 1024,
    seed: int = 0,
    normal_fraction: float = 0.25,
    workers: int | None = None,
) -> None:
    """Draw a data set into ``root`` in the layout of the hospital's course, with ``test_truth.csv`` for scoring.

    ``films`` and ``test_films`` are drawn ``size`` pixels along their longest side, a tenth of the patients with a
    second film; ``normal_fraction`` of the patients bear no finding. The films depend on ``seed`` only, not on
    ``workers`` (processes; None: one a core). A set that is there is left as it is, an interrupted one completed.

    Raises ``PhantomError`` when ``root`` holds films drawn with other settings, or films of another origin.
    """
    root = Path(root)
    settings = {"films": films, "test_films": test_films, "size": size, "seed": seed}
    settings |= {"normal_fraction": normal_fraction, "drawing": _DRAWING}
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".phantom.lock"):  # jobs of one sweep start together
        if _is_complete(root, settings):
            return
        _write_json(root / _UNFINISHED, settings)
        jobs = _plan(films, test_films, seed, normal_fraction)
        rows = _run(partial(_write_film, root, size), jobs, workers or os.cpu_count() or 1)
        for table, columns in _TABLES.items():
            _write_csv(root / table, columns, [row for film in rows for row in film.get(table, ())])
        (root / _UNFINISHED).replace(root / _STAMP)


def read_phantom(
    root: Path | str,
    findings: FindingVocabulary,
    films: int = 480,
    test_films: int = 120,
    size: int = 1024,
    seed: int = 0,
    normal_fraction: float = 0.25,
    workers: int | None = None,
) -> list[Film]:
    """Return the films in ``root``, drawn there first by ``write_course_layout`` when absent; read by ``read_course``."""
    write_course_layout(root, films, test_films, size, seed, normal_fraction, workers)
    return read_course(root, findings)


@dataclass(frozen=True)
class _Job:
    """One film to draw: whose, with what, and under which names."""

    id: str
    patient: int
    shot: int
    seed: int
    findings: tuple[str, ...]
    names: tuple[str, ...]  # one in the folder of each finding, or one in that of the normal or the test films
    test: bool

    @property
    def folders(self) -> tuple[str, ...]:
        """Return the folder of each name."""
        return ("test",) if self.test else tuple(f"train/{name}" for name in self.findings or (NORMAL,))


def _plan(films: int, test_films: int, seed: int, normal_fraction: float) -> list[_Job]:
    """Return what to draw, the same for the same arguments; a patient is either in training or in test."""
    rng = np.random.default_rng([seed, _DRAWING])
    jobs: list[_Job] = []
    numbers: Counter[str] = Counter()
    for wanted, test in ((films, False), (test_films, True)):
        shots = _shots(rng, wanted)
        normal = rng.permutation(len(shots)) < round(normal_fraction * len(shots))
        for count, healthy in zip(shots, normal, strict=True):
            patient = jobs[-1].patient + 1 if jobs else 1
            found = () if healthy else tuple(sorted(draw_findings(rng)))
            for shot in range(count):
                folders = ("test",) if test else found or (NORMAL,)
                numbers.update(folders)
                names = tuple(_file_name(numbers[folder], test) for folder in folders)
                film_id = f"TDR{patient % 7 + 1:02d}_20180315_{patient:05d}{shot}"
                jobs.append(_Job(film_id, patient, shot, seed, found, names, test))
    return jobs


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


def _run(work: Callable[[_Job], Rows], jobs: Sequence[_Job], workers: int) -> list[Rows]:
    message = "Drawing phantom films"
    if workers == 1:
        return [work(job) for job in track(jobs, message)]
    # spawn: a fork of a process whose torch or OpenCV threads run may hang
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        return list(track(pool.map(work, jobs, chunksize=4), message, total=len(jobs)))


def _write_film(root: Path, size: int, job: _Job) -> Rows:
    """Write the files of one film that are not there yet; return its rows of the tables."""
    of_patient = np.random.default_rng([job.seed, job.patient])
    of_film = np.random.default_rng([job.seed, job.patient, job.shot])
    thorax = draw_thorax(of_patient, job.findings)
    pose = draw_pose(of_film, thorax, size)
    boxes = _boxes(thorax, pose)
    paths = [root / folder / "image" / name for folder, name in zip(job.folders, job.names, strict=True)]
    if not all(path.exists() for path in paths):
        _write_image(paths, _take(of_film, thorax, pose).pixels, job)
    if job.test:
        return _test_rows(job, pose, boxes)
    for path, name in zip(paths, boxes, strict=False):
        _write_mark(path.parents[1] / "mark" / f"{path.name}.jpg", pose, boxes[name])
    return _train_rows(job, pose)


def _take(rng: np.random.Generator, thorax: Thorax, pose: Pose) -> Phantom:
    layers = attenuate(thorax, pose, rng)
    pixels = expose(np.sum(list(layers.values()), axis=0), pose, rng)
    return Phantom(pixels, _boxes(thorax, pose), layers, thorax)


def _boxes(thorax: Thorax, pose: Pose) -> dict[str, NDArray[np.float32]]:
    return {name: pose.box(outline) for name, outline in sorted(thorax.outlines.items())}


def _train_rows(job: _Job, pose: Pose) -> Rows:
    rows: list[tuple[object, ...]] = [
        (job.id, label, pose.width, pose.height, name, f"{label}/image/{name}", f"{label}/mark/{name}.jpg")
        for label, name in zip(job.findings or (NORMAL,), job.names, strict=True)
    ]
    return {"train.csv": rows}


def _test_rows(job: _Job, pose: Pose, boxes: Mapping[str, NDArray[np.float32]]) -> Rows:
    size = np.array([pose.width, pose.height] * 2)
    shares = {name: (box / size).round(6).tolist() for name, box in boxes.items()}
    truth: list[tuple[object, ...]] = [(job.id, n, x0, x1, y0, y1) for n, (x0, y0, x1, y1) in shares.items()]
    name = job.names[0]
    return {"test.csv": [(job.id, pose.width, pose.height, name, f"/image/{name}")], "test_truth.csv": truth}


def _write_image(paths: Sequence[Path], pixels: NDArray[np.uint16], job: _Job) -> None:
    """Write the film once and link it under its other names; a whole copy where the file system has no links.

    A reader cannot tell a link from the copies that the course has, and three quarters of the disk are saved.
    """
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = [path.with_name(f".{path.name}.{os.getpid()}") for path in paths]
    _dicom(pixels, job).save_as(temporary[0], enforce_file_format=True)
    for other in temporary[1:]:
        other.unlink(missing_ok=True)
        try:
            other.hardlink_to(temporary[0])
        except OSError:
            other.write_bytes(temporary[0].read_bytes())
    for whole, path in zip(temporary, paths, strict=True):
        whole.replace(path)


def _dicom(pixels: NDArray[np.uint16], job: _Job) -> FileDataset:
    """Return the film as the hospital's are: 12-bit MONOCHROME1 LOG computed radiographs."""
    uid = partial(_uid, job)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = uid("instance")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study"), uid("series")
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "CR", "CHEST", "PA"
    ds.PatientID = ds.PatientName = f"PHANTOM{job.patient:05d}"
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME1"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = "2048", "4096"
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign, ds.PresentationLUTShape = "LOG", 1, "INVERSE"
    ds.PixelData = pixels.astype("<u2").tobytes()
    return ds


def _uid(job: _Job, what: str) -> str:
    return str(generate_uid(entropy_srcs=["cxr phantom", str(_DRAWING), str(job.seed), job.id, what]))


def _write_mark(path: Path, pose: Pose, box: NDArray[np.float32]) -> None:
    x0, y0, x1, y1 = np.rint(box).astype(int)
    mark = np.zeros((pose.height, pose.width), np.uint8)
    mark[y0:y1, x0:x1] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", mark, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())


def _is_complete(root: Path, settings: Mapping[str, object]) -> bool:
    for name in (_STAMP, _UNFINISHED):
        if (root / name).is_file():
            there = json.loads((root / name).read_text(encoding="utf-8"))
            if there != settings:
                differ = [k for k in {**there, **settings} if there.get(k) != settings.get(k)]
                raise PhantomError(
                    f"{root} holds phantom films drawn with "
                    + ", ".join(f"{k} {there.get(k)} (now {settings.get(k)})" for k in differ)
                    + ": give data.root another folder, or delete this one to draw anew"
                )
            return name == _STAMP
    if (root / "train.csv").exists() or (root / "train").exists():
        raise PhantomError(f"{root} holds films that are not phantoms: read them with data=course, or give another data.root")
    return False


def _write_json(path: Path, settings: Mapping[str, object]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    part.replace(path)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
