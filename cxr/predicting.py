"""One run of predict.py: its folder, how it goes on after a kill, and what it leaves.

A folder holds ``films.jsonl`` (``cxr.report.journal``) and, from its end, ``detections.json`` with ``images.json``,
``detections.csv``, ``films.csv``, ``submission.csv`` where the films are the course's, and ``result.json``; where asked
for, ``pictures/`` and ``dicom/``.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from cxr import config, predicting_exported, run
from cxr.checkpoint import Checkpoint
from cxr.config import ConfigError
from cxr.data.inputs import Decode, Input, is_course, read_inputs
from cxr.detect.prediction import Prediction
from cxr.detect.stream import predict_films
from cxr.detect.task import DetectionTask
from cxr.detect.triage import OperatingPoint
from cxr.explain.maps import MapMaker
from cxr.findings import NORMAL
from cxr.read.dicom import ReadError
from cxr.read.workers import WORTH_A_POOL, streamed, usable_cores
from cxr.report.algorithm import Algorithm
from cxr.report.film_files import OBJECTS, PICTURES, FilmFiles, Told
from cxr.report.journal import Done, Journal
from cxr.report.submission import write_coco, write_detections, write_films, write_submission
from cxr.restore import intensity_of_films

BEGUN = "begun.json"


@dataclass
class Parts:
    """What a config instantiates to."""

    cfg: dict[str, Any]
    task: DetectionTask
    decode: Decode
    films: list[Input]
    files: FilmFiles
    maps: MapMaker | None
    started: float = field(default_factory=time.time)


@contextmanager
def opened(cfg: DictConfig) -> Iterator[Path]:
    """Hold the run folder of ``cfg``; refuse one begun with other settings."""
    if cfg.dicom and importlib.util.find_spec("highdicom") is None:
        raise ConfigError("dicom=true needs highdicom: pip install 'cxr[dicom]'")
    if cfg.cam and not cfg.dicom:
        raise ConfigError("cam=… makes DICOM parametric maps; type dicom=true too (explain.py makes pictures)")
    if cfg.runtime not in predicting_exported.RUNTIMES:
        raise ConfigError(f"runtime is {cfg.runtime!r}, expected one of {', '.join(predicting_exported.RUNTIMES)}")
    if cfg.cam and cfg.runtime != predicting_exported.EAGER:
        raise ConfigError(f"cam=… needs the detector's own layers; leave runtime={cfg.runtime} out")
    with run.held(cfg, may_differ=("run_dir", "batch", "workers")) as folder:
        yield folder


def instantiate(cfg: DictConfig, folder: Path) -> Parts:
    """Restore the detector and find the films.

    Raises ``ConfigError``, also where ``folder`` was begun with another checkpoint or other films of that name.
    """
    checkpoint, digest, task = predicting_exported.restored(str(cfg.ckpt), str(cfg.runtime), cfg.batch)
    try:
        films = read_inputs(Path(cfg.images))
    except (ValueError, OSError) as error:  # of the films and their tables, in words for their owner
        raise ConfigError(f"images: {error}") from error
    _refuse_other_films(folder, {"ckpt": digest, "images": _digest(films)})
    algorithm = Algorithm(importlib.metadata.version("cxr"), digest, cfg.threshold, _operating_point(checkpoint))
    files = FilmFiles(folder, checkpoint.findings, algorithm, cfg.pictures, cfg.dicom, cfg.language)
    decode = Decode(intensity_of_films(checkpoint), checkpoint.size)
    return Parts(config.plain(cfg), task, decode, films, files, _map_maker(cfg, task))


def predict(parts: Parts, folder: Path) -> None:
    """Predict each film that the folder does not hold yet, and write the files about it."""
    for name, wanted in ((PICTURES, parts.files.pictures), (OBJECTS, parts.files.objects)):
        if wanted:
            (folder / name).mkdir(exist_ok=True)
    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Journal(folder) as journal, Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=len(parts.films), completed=len(journal))
        for done in _done(parts, journal):
            journal.add(done)
            progress.advance(bar)


def report(parts: Parts, folder: Path) -> None:
    """Write the tables and ``result.json``, and say what was found and which films failed."""
    findings, algorithm = parts.files.findings, parts.files.algorithm
    point = algorithm.operating_point
    with Journal(folder) as journal:
        problems = {done.number: done.failed or done.note for done in journal if done.failed or done.note}
        failed = sum(bool(done.failed) for done in journal)
        write_coco(folder, _predictions(journal), findings)
        write_detections(folder / "detections.csv", _predictions(journal))
        write_films(folder / "films.csv", _predictions(journal), findings, point.threshold if point else None)
        if is_course(parts.films):
            ids = {film.number: film.id for film in parts.films}
            write_submission(folder / "submission.csv", _predictions(journal), ids)
        _print_table(journal, parts)
    result = {
        "status": "completed",
        "films": len(parts.films) - failed,
        "failed": failed,
        "problems": [problems[number] for number in sorted(problems)],
        "algorithm": algorithm.parameters(),
        "overrides": json.loads((folder / config.COMMAND).read_text(encoding="utf-8"))["overrides"],
        "seconds": round(time.time() - parts.started, 1),
    }
    config.write_json(folder / config.RESULT, result)
    for number, reason in sorted(problems.items()):  # with the path, which is for the user's own eyes, here only
        told = reason.replace(f"film {number}", str(parts.films[number - 1]), 1)
        Console().print(told, style="yellow", highlight=False, markup=False, soft_wrap=True)
    Console().print(f"{len(parts.films) - failed} of {len(parts.films)} films · {folder}", highlight=False)


def _done(parts: Parts, journal: Journal) -> Iterator[Done]:
    """Yield the films that are left as they are done with: predicted and their files written, or failed."""
    left = [film for film in parts.films if film.number not in journal]
    workers = 1 if len(left) < WORTH_A_POOL else parts.cfg["workers"] or usable_cores()
    said = predict_films(parts.task, left, parts.decode, parts.cfg["batch"], workers, parts.maps)
    told = (
        Told(film, error=outcome)
        if isinstance(outcome, ReadError)
        else Told(film, journal.name(outcome), outcome, maps=parts.maps.take(film.number) if parts.maps else {})
        for film, outcome in said
    )
    writers = workers if parts.files.pictures or parts.files.objects else 1
    for film, error in streamed(parts.files, told, writers):
        failed, note = (_without_path(why, film.film) for why in (film.error, error))
        yield Done(film.film.number, film.name, film.prediction, failed, note)


def _predictions(journal: Journal) -> Iterator[Prediction]:
    return (prediction for _, prediction in journal.predictions())


def _map_maker(cfg: DictConfig, task: DetectionTask) -> MapMaker | None:
    if not cfg.cam:
        return None
    try:
        methods = dict(hydra.utils.instantiate(cfg.cam, _convert_="all"))
    except InstantiationException as error:
        raise ConfigError(f"{error.__cause__ or error}") from error
    return MapMaker(task, methods, cfg.threshold)


def _operating_point(checkpoint: Checkpoint) -> OperatingPoint | None:
    if checkpoint.operating_point is None:
        return None
    try:
        return OperatingPoint.from_dict(checkpoint.operating_point)
    except (TypeError, KeyError) as error:
        raise ConfigError(f"{checkpoint.path}: cxr.operating_point does not fit this version: {error}") from error


def _digest(films: list[Input]) -> str:
    paths = "\n".join(f"{film.path.absolute()} {film.id}" for film in films)
    return hashlib.blake2b(os.fsencode(paths), digest_size=8).hexdigest()


def _refuse_other_films(folder: Path, begun: dict[str, str]) -> None:
    """Raise ``ConfigError`` where the folder was begun with other hashes; note them where it is new."""
    note = folder / BEGUN
    before = json.loads(note.read_text(encoding="utf-8")) if note.exists() else begun
    for key, name in (("ckpt", "the checkpoint"), ("images", "the list of films")):
        if before[key] != begun[key]:
            raise ConfigError(f"{name} has changed since {folder} was begun; type another hydra.run.dir")
    config.write_json(note, begun)


def _without_path(error: ReadError | None, film: Input) -> str:
    """Return the reason with the film's number in place of its path, which may name a patient."""
    return "" if error is None else str(error).replace(str(film), f"film {film.number}")


def _print_table(journal: Journal, parts: Parts) -> None:
    threshold, findings = parts.files.algorithm.threshold, parts.files.findings
    boxes: Counter[str] = Counter()
    films: Counter[str] = Counter()
    for prediction in _predictions(journal):
        shown = [prediction.findings[n] for n in prediction.shown(threshold)]
        boxes.update(shown)
        films.update(set(shown) or {NORMAL})
    table = Table(title=f"detections from score {threshold:g} up", title_justify="left")
    table.add_column("finding")
    for name in ("boxes", "films"):
        table.add_column(name, justify="right")
    for name in findings.names:
        table.add_row(findings.label(name), str(boxes[name]), str(films[name]))
    table.add_row("none", "", str(films[NORMAL]), style="dim")
    Console().print(table)
