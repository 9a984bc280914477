"""One run of predict.py: its folder, how it goes on after a kill, and what it leaves.

A folder holds ``films.jsonl`` (``cxr.report.journal``) and, from its end, ``detections.json`` with ``images.json``,
``detections.csv``, ``films.csv``, ``submission.csv`` where the films are the course's, and ``result.json``; where
asked for, ``promises.csv``, ``pictures/`` and ``dicom/``. ``key.csv`` (``cxr.report.film_key``) says which film is
which file.
"""

import importlib.util
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from cxr.config.entry import instantiated, resolved
from cxr.config.errors import ConfigError, NotNowError
from cxr.data.archive import ArchiveAwayError, ArchiveError
from cxr.data.inputs import Decode, Input
from cxr.detect.ensemble import EnsembleDetector
from cxr.detect.film_detector import FilmDetector
from cxr.detect.prediction import NotAssessed, Prediction, in_words
from cxr.detect.stream import Outcome, Read, predict_films
from cxr.detect.task import DetectionTask
from cxr.explain.maps import MapMaker
from cxr.findings import NORMAL
from cxr.progress import working
from cxr.read.chest_films import NOT_FINITE
from cxr.read.dicom import ReadError
from cxr.read.workers import WORTH_A_POOL, at_least_two, streamed, usable_cores
from cxr.report.film_counts import film_counts, refusal
from cxr.report.film_files import OBJECTS, PICTURES, FilmAnswer, FilmFiles
from cxr.report.film_key import HOLDS_IDENTITIES, KEY, FilmKey
from cxr.report.journal import JOURNAL, Done, Journal
from cxr.report.promise_words import promise_sentences
from cxr.report.submission import (
    PROMISES,
    write_coco,
    write_detections,
    write_films,
    write_promises,
    write_submission,
)
from cxr.report.without_paths import without_path
from cxr.report.words import words
from cxr.runs.folder import changed_since_begun, held
from cxr.runs.gate import gate
from cxr.runs.given_films import GivenFilms, given_films, refuse_settings
from cxr.runs.predict_exported import EAGER, RUNTIMES, restored
from cxr.runs.restore import intensity_of_films
from cxr.runs.result import tell, warn, warn_without_key, write_result
from cxr.runs.shards import note_shard

BEGUN = "begun.json"
Explained = DetectionTask | EnsembleDetector  # what has layers to look at; an exported network has none
NAMES = ("paths", "pseudonyms")


@dataclass
class Parts:
    """What a config instantiates to."""

    cfg: dict[str, Any]
    task: FilmDetector
    decode: Read
    films: GivenFilms
    files: FilmFiles
    maps: MapMaker | None
    several: bool = False  # whether several detectors answer, and may disagree
    revision: str = ""  # of the model card that lies with the detector's run
    again: bool = False  # whether a call before this one was cut off while it predicted
    started: float = field(default_factory=time.monotonic)


def opened(cfg: DictConfig) -> AbstractContextManager[Path]:
    """Hold the run folder of ``cfg``; refuse one begun with other settings."""
    if cfg.names not in NAMES:
        raise ConfigError(f"names is {cfg.names!r}, expected {' or '.join(NAMES)}")
    if cfg.dicom and importlib.util.find_spec("highdicom") is None:
        raise ConfigError("dicom=true needs highdicom: pip install 'cxr[dicom]'")
    if cfg.cam and not cfg.dicom:
        raise ConfigError("cam=… makes DICOM parametric maps; type dicom=true too (explain.py makes pictures)")
    if cfg.runtime not in RUNTIMES:
        raise ConfigError(f"runtime is {cfg.runtime!r}, expected one of {', '.join(RUNTIMES)}")
    if cfg.cam and cfg.runtime != EAGER:
        raise ConfigError(f"cam=… needs the detector's own layers; leave runtime={cfg.runtime} out")
    refuse_settings(cfg)
    return held(cfg, may_differ=("run_dir", "batch", "workers", "token"))


def instantiate(cfg: DictConfig, folder: Path) -> Parts:
    """Restore the detector and find the films.

    Raises ``ConfigError``, also where ``folder`` was begun with another checkpoint or other films of that name, and
    ``NotNowError`` where an archive does not answer.
    """
    plain = resolved(cfg)
    found = restored(plain["ckpt"], str(cfg.runtime), cfg.batch, cfg.trust, plain["members"], plain["views"])
    checkpoint, algorithm = found.checkpoint, found.algorithm(plain)
    try:
        films = given_films(cfg, folder)
    except ArchiveAwayError as error:
        raise NotNowError(f"images: {error}") from error
    except (ValueError, OSError, ArchiveError) as error:  # of the films and their tables, in words for their owner
        raise ConfigError(f"images: {error}") from error
    refuse_other_films(folder, found.digest, films.digest)
    if why := found.none_put_aside(algorithm):
        warn(f"no film is put aside as normal: {why}")
    files = FilmFiles(folder, checkpoint.findings, algorithm, cfg.pictures, cfg.dicom, cfg.language)
    rule = gate(checkpoint, cfg.gate)
    decode = Decode(intensity_of_films(checkpoint), rule.size, rule.kind, rule.known)
    maps = MapMaker(cast(Explained, found.task), dict(instantiated(cfg.cam)), algorithm.threshold) if cfg.cam else None
    decoding = films.decoding(decode, files.wanted)
    again = (folder / JOURNAL).exists()
    return Parts(plain, found.task, decoding, films, files, maps, found.members > 1, found.revision, again)


def predict(parts: Parts, folder: Path) -> None:
    """Predict each film that the folder does not hold yet, and write the files about it.

    Raises ``OSError`` where the disk does not take them, and ``NotNowError`` where an archive does not answer any more,
    or does not let us in any more; what is done stays, and the same command goes on.
    """
    for name, wanted in ((PICTURES, parts.files.pictures), (OBJECTS, parts.files.objects)):
        if wanted:
            (folder / name).mkdir(exist_ok=True)
    with (
        Journal(folder) as journal,
        FilmKey(folder) as key,
        parts.films.at_work(folder),
        working("predicting", len(parts.films), done=len(journal)) as work,
    ):
        if journal.damaged:
            warn(f"{journal.path}: {journal.damaged} damaged lines; their films are predicted again")
        try:
            for done in _done(parts, journal, key):
                journal.add(done)
                work.advance()
        except ArchiveError as error:
            raise NotNowError(f"{error}. The same command then goes on from what is kept") from error


def report(parts: Parts, folder: Path) -> None:
    """Write the tables and ``result.json``, and say what was found, what was not assessed and which films failed.

    Raises ``OSError`` where the disk does not take them.
    """
    with Journal(folder) as journal:
        FilmKey(folder).put_in_order()
        _write_tables(parts, journal, folder)
        result = _result(parts, journal)
        if parts.films.shard is not None:
            images = parts.films.folder if parts.films.named(parts.cfg["names"]) else None
            note_shard(folder, parts.films.shard, parts.files, images, parts.several)
        write_result(folder, parts.started, result)
        _print_table(journal, parts, result["not_assessed"])
        _print_promises(parts)
        if parts.films.course:
            told = "submission.csv holds all boxes, those of lower scores too: average precision asks for them"
            tell(told)
        for done in journal:
            for line in (done.failed, done.note, refusal(done)):
                if line:  # with the path, which is for the user's own eyes, here only
                    warn(line.replace(f"film {done.number}", parts.films.shown(done.number), 1))
        given = len(journal)
    warn(f"{folder / KEY} holds identities (paths, SOPInstanceUIDs): keep it to yourself")
    if parts.films.named(parts.cfg["names"]):
        warn("detections.csv, films.csv and images.json name films by path; names=pseudonyms leaves that out")
    else:
        warn_without_key()
    tell(f"{result['films']} of {given} films · {folder}")


def _write_tables(parts: Parts, journal: Journal, folder: Path) -> None:
    findings, point = parts.files.findings, parts.files.algorithm.operating_point
    threshold = None if point is None else point.threshold
    images = parts.films.image if parts.films.named(parts.cfg["names"]) else None
    write_coco(folder, journal, findings, images)
    write_detections(folder / "detections.csv", _predictions(journal), threshold, images, parts.several)
    write_films(folder / "films.csv", journal, findings, threshold, images)
    if parts.files.algorithm.promises is not None:
        write_promises(folder / PROMISES, parts.files.algorithm.promises)
    if parts.films.course:
        ids = {film.number: film.id for film in parts.films.left(())}
        write_submission(folder / "submission.csv", _predictions(journal), ids)


def _result(parts: Parts, journal: Journal) -> dict[str, Any]:
    """Return what ``result.json`` holds of the films, which go by their numbers."""
    return {
        **film_counts(journal),
        "key": HOLDS_IDENTITIES,
        "algorithm": parts.files.algorithm.parameters(),
        "model_card": {"id": parts.files.algorithm.card, "revision": parts.revision},
    }


def _done(parts: Parts, journal: Journal, key: FilmKey) -> Iterator[Done]:
    """Yield the films that are left as they are done with: predicted and their files written, or failed."""
    few, left = len(parts.films) - len(journal) < WORTH_A_POOL, parts.films.left(journal)
    workers = 1 if few else parts.cfg["workers"] or usable_cores()
    if parts.again:  # a film may have been what killed the process
        workers = at_least_two(workers)
    outcomes = predict_films(parts.task, left, parts.decode, parts.cfg["batch"], workers, parts.maps)
    noted = (_noted(parts, journal, key, film, outcome) for film, outcome in outcomes)
    writers = workers if parts.files.pictures or parts.files.objects else 1
    for film, error in streamed(parts.files, noted, writers):
        parts.films.forget(film.film)
        prediction, note, failed = film.prediction, _as_number(error, film.film), _as_number(film.error, film.film)
        if isinstance(prediction, NotAssessed):
            if prediction.reason == NOT_FINITE:
                failed = f"film {film.film.number}: {prediction.reason.text}"
            yield Done(film.film.number, film.name, None, failed, note, prediction)
        else:
            yield Done(film.film.number, film.name, prediction, failed, note)


def _noted(parts: Parts, journal: Journal, key: FilmKey, film: Input, outcome: Outcome) -> FilmAnswer:
    """Note the film in the key, and return it with what its files show."""
    if isinstance(outcome, ReadError):
        key.add(film)
        return FilmAnswer(film, error=outcome)
    key.add(film, outcome.sop_instance, outcome.study, outcome.patient)
    maps = parts.maps.take(film.number) if parts.maps and isinstance(outcome, Prediction) else {}
    return FilmAnswer(film, journal.name(outcome), outcome, maps=maps)


def _predictions(journal: Journal) -> Iterator[Prediction]:
    return (prediction for _, prediction in journal.predictions())


def refuse_other_films(folder: Path, detector: str, films: str) -> None:
    """Raise ``ConfigError`` where the folder was begun with other digests of detector and films; note new ones."""
    digests = {"ckpt": detector, "images": films}
    names = {"ckpt": "the checkpoint", "images": "the list of films"}
    if changed := changed_since_begun(folder / BEGUN, digests, lambda: _forget_films(folder)):
        raise ConfigError(f"{names[changed[0]]} has changed since {folder} was begun; type another hydra.run.dir")


def _forget_films(folder: Path) -> None:
    """Have all films of ``folder`` predicted again, because nobody knows with which checkpoint they were."""
    note = folder / BEGUN
    warn(f"{note} is damaged, and what the films of {JOURNAL} were predicted with is not known: all are done again")
    (folder / JOURNAL).unlink(missing_ok=True)


def _as_number(error: ReadError | None, film: Input) -> str:
    """Return the reason with the film's number in place of its path, which may name a patient."""
    return "" if error is None else without_path(error, film.path, f"film {film.number}")


def _print_promises(parts: Parts) -> None:
    promises = parts.files.algorithm.promises
    for line in () if promises is None else promise_sentences(promises):
        tell(parts.files.findings.with_labels(line))


def _print_table(journal: Journal, parts: Parts, refused: Mapping[str, int]) -> None:
    threshold, findings = parts.files.algorithm.threshold, parts.files.findings
    boxes: Counter[str] = Counter()
    films: Counter[str] = Counter()
    for prediction in _predictions(journal):
        shown = [prediction.findings[n] for n in prediction.shown(threshold)]
        boxes.update(shown)
        films.update(set(shown) or {NORMAL})
    shown_from = findings.with_labels(in_words(threshold))
    table = Table(title=f"detections from score {shown_from} up", title_justify="left")
    table.add_column("finding")
    for name in ("boxes", "films"):
        table.add_column(name, justify="right")
    for name in findings.names:
        table.add_row(findings.label(name), str(boxes[name]), str(films[name]))
    table.add_row("none", "", str(films[NORMAL]), style="dim")
    say = words("en")
    for cause, count in refused.items():
        table.add_row(f"{say['not_assessed']}: {say[f'reason_{cause}']}", "", str(count), style="yellow")
    if failed := sum(bool(done.failed) for done in journal):
        table.add_row("failed", "", str(failed), style="yellow")
    Console().print(table)
