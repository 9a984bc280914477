"""One run of evaluate.py: detections kept by checkpoint and films, figures, and what it leaves.

A folder holds ``detections.json``, ``metrics.json``, ``froc.csv``, ``per_finding.csv``, ``screening.json``,
``figures/*.png`` and ``index.html``, and ``result.json`` from its end. Where two checkpoints are compared, every file
has both.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console

from cxr.config.entry import resolved
from cxr.config.errors import ConfigError, film_errors
from cxr.data.dataset import RadiographDataset
from cxr.data.film_data import FilmDataModule
from cxr.data.film_digests import film_digests
from cxr.detect.detector import name_of
from cxr.detect.inference import film_results
from cxr.detect.prediction import printed_threshold
from cxr.files import short_digest_of, write_json
from cxr.measure.evaluation import Evaluation, Settings, compare, evaluate
from cxr.measure.intervals import Estimate
from cxr.measure.kept_results import as_plain, from_kept, from_plain, read_kept
from cxr.measure.matching import RULES
from cxr.measure.operating_point import OperatingPoint, choose_operating_point
from cxr.measure.results import FilmResult
from cxr.measure.seen import CHOSEN_NOW, FROZEN, TESTED_ON, Seen, seen
from cxr.progress import track
from cxr.report.evaluate_page import evaluate_page
from cxr.report.evaluate_tables import Origin, print_comparison, print_evaluations, write_tables
from cxr.report.page import NotShown
from cxr.report.words import LANGUAGES
from cxr.runs.checkpoint import Checkpoint, read_checkpoint
from cxr.runs.evaluated_findings import asked_findings, evaluated_findings, vocabulary_to_read
from cxr.runs.folder import held
from cxr.runs.restore import load_data, load_task
from cxr.runs.restored_network import operating_point
from cxr.runs.result import warn, without_paths, write_result

DETECTIONS = "detections.json"
ALL = "all"


@dataclass
class Measured:
    """One checkpoint: its films, what it says of them, and how good that is."""

    name: str  # "A" or "B"
    checkpoint: Checkpoint
    digest: str
    data: FilmDataModule
    results: list[FilmResult] = field(default_factory=list)
    point: OperatingPoint | None = None
    point_from: str = ""  # where the point comes from, in words
    seen: Seen = field(init=False)  # what these films were to it before; set by ``detect``
    evaluation: Evaluation = field(init=False)  # set by ``measure``


@dataclass
class Parts:
    """What a config instantiates to."""

    cfg: dict[str, Any]
    models: list[Measured]
    chosen: tuple[str, ...]  # findings of the detectors that are evaluated
    films: RadiographDataset
    failed: list[str] = field(default_factory=list)  # a line for each film without a finite result
    differences: dict[str, Estimate] = field(default_factory=dict)
    started: float = field(default_factory=time.time)


def opened(cfg: DictConfig) -> AbstractContextManager[Path]:
    """Hold the run folder of ``cfg``; refuse one begun with other settings."""
    return held(cfg, may_differ=("run_dir", "language"))


def instantiate(cfg: DictConfig) -> Parts:
    """Read the checkpoints and find their films. Raises ``ConfigError``."""
    plain = resolved(cfg)
    paths = plain["ckpt"] if isinstance(plain["ckpt"], list) else [plain["ckpt"]]
    if plain["rule"] not in RULES:
        raise ConfigError(f"rule is {plain['rule']!r}, expected {', '.join(RULES)}")
    if plain["language"] not in LANGUAGES:
        raise ConfigError(f"language is {plain['language']!r}, expected one of {', '.join(LANGUAGES)}")
    if len(paths) not in (1, 2):
        raise ConfigError(f"ckpt names {len(paths)} checkpoints, expected one, or two to compare: ckpt=a.ckpt,b.ckpt")
    models = [_model(name, path, cfg) for name, path in zip("AB", paths, strict=False)]
    names = models[0].checkpoint.findings.names
    if any(model.checkpoint.findings.names != names for model in models):
        raise ConfigError(f"{paths[1]} knows other findings than {paths[0]}: they cannot be compared")
    films = [_films(model.data, plain["split"]) for model in models]
    if any(_truth(other) != _truth(films[0]) for other in films):
        raise ConfigError(
            f"{paths[0]} and {paths[1]} have other {plain['split']} films: name those to compare them on, which neither"
            " was trained on: data=course data.root=FOLDER data.seed=0"
        )
    return Parts(plain, models, evaluated_findings(asked_findings(cfg), models[0].checkpoint.findings), films[0])


def detect(parts: Parts, folder: Path) -> None:
    """Take the detections on the films, and where a point is still to be chosen on validation films, on those too.

    What ``detections.json`` holds of this checkpoint and these films is not detected again. A film of which a detector
    computes NaN or infinity enters no figure, of no checkpoint: ``parts.failed`` names it. Raises ``ConfigError`` where
    no film is left.
    """
    kept = folder / DETECTIONS
    for model in parts.models:
        model.results = _results(model, parts.cfg["split"], kept)
    _leave_out_failed(parts)
    for model in parts.models:
        model.point, model.point_from = _operating_point(model, parts.cfg, kept)
        model.seen = _what_was_seen(model, parts.films)


def _leave_out_failed(parts: Parts) -> None:
    films, models = parts.films, parts.models
    wrong = {i: [m.name for m in models if not m.results[i].finite] for i in range(len(films.films))}
    whole = [i for i, names in wrong.items() if not names]
    parts.failed = [
        f"{films.films[i].study}: the answer of checkpoint {' and '.join(names)} is not finite (NaN or infinity)"
        for i, names in wrong.items()
        if names
    ]
    if not whole:
        raise ConfigError(f"no film has a finite result, of {len(wrong)}: the checkpoint computes NaN or infinity")
    if parts.failed:
        kept = [films.films[i] for i in whole]
        parts.films = RadiographDataset(kept, models[0].data.findings, films.cache, films.size)
        for model in models:
            model.results = [model.results[i] for i in whole]


def measure(parts: Parts) -> None:
    """Compute every figure with its interval, and the differences between two checkpoints."""
    cfg = parts.cfg
    settings = Settings(cfg["rule"], tuple(cfg["screening"]["prevalences"]), cfg["worst"], cfg["samples"], cfg["seed"])
    for model in track(parts.models, "measuring"):
        findings = model.checkpoint.findings
        model.evaluation = evaluate(model.results, findings, parts.chosen, model.point, settings)
    if len(parts.models) == 2:
        first, second = parts.models
        labels = [first.checkpoint.findings.index(name) for name in parts.chosen]
        parts.differences = compare(first.results, second.results, labels, settings)


def report(parts: Parts, folder: Path) -> None:
    """Write the tables, the figures and the page, print the tables, and write ``result.json`` last."""
    data = parts.models[0].data
    errors = list(zip(data.unreadable_files, data.unreadable, strict=True))
    not_shown = NotShown(without_paths(errors), parts.failed)
    evaluations = {model.name: model.evaluation for model in parts.models}
    films = {"evaluated": len(parts.films), "failed": parts.failed, "unreadable": not_shown.unreadable}
    origins = {model.name: Origin(model.point_from, model.seen) for model in parts.models}
    write_tables(folder, evaluations, parts.differences, origins, films)
    warnings, language = _warnings(parts), parts.cfg["language"]
    page = evaluate_page(
        folder, evaluations, parts.differences, parts.films, _about(parts), warnings, not_shown, language
    )
    console = Console()
    print_evaluations(evaluations, console)
    print_comparison(parts.differences, console)
    for line in warnings:
        warn(line)
    for line in (*(str(error) for _, error in errors), *parts.failed):  # with paths, for whoever named the folder
        warn(f"not evaluated: {line}")
    counts = {"films": len(parts.films), "failed": parts.failed, "unreadable": not_shown.unreadable}
    write_result(folder, parts.started, counts)
    console.print(f"research software, not a diagnosis · {len(parts.films)} films · {page}", highlight=False)


def _model(name: str, path: str, cfg: DictConfig) -> Measured:
    checkpoint = read_checkpoint(path, cfg.trust)
    digest = short_digest_of(Path(path))
    readable = replace(checkpoint, findings=vocabulary_to_read(asked_findings(cfg), checkpoint.findings))
    with film_errors():
        data = load_data(readable, cfg.data)
        if not checkpoint.films:
            raise ConfigError(f"{path}: cxr.films is missing, expected a digest of each film, as train.py writes")
        data.prepare_data()
        data.setup()
    return Measured(name, checkpoint, digest, data)


def _films(data: FilmDataModule, split: str) -> RadiographDataset:
    if split not in (*data.films, ALL):
        raise ConfigError(f"split is {split!r}, expected one of {', '.join((*data.films, ALL))}")
    films = [film for name, some in data.films.items() for film in some if split in (name, ALL)]
    if not films:
        raise ConfigError(f"split={split}: these data have no such films")
    return RadiographDataset(films, data.findings, data.cache, data.size)


def _truth(films: RadiographDataset) -> list[tuple[str, tuple[str, ...], bytes]]:
    return [(film.study, film.findings, film.boxes.tobytes()) for film in films.films]


def _results(model: Measured, split: str, kept: Path) -> list[FilmResult]:
    """Return the detections on a split: those kept of this checkpoint on these very films, else new ones."""
    key = f"{model.digest} {model.data.fingerprint()} {split}"
    films, before = _films(model.data, split), read_kept(kept)
    if (kept_results := from_kept(before.get(key), len(films))) is not None:
        return kept_results
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = film_results(load_task(model.checkpoint).to(device), films, model.data.batch_size)
    before[key] = [as_plain(result) for result in track(results, f"detecting {model.checkpoint.path.name}", len(films))]
    write_json(kept, before)
    return [from_plain(film) for film in before[key]]  # by way of the file: a second call gives the same to the bit


def _operating_point(model: Measured, cfg: Mapping[str, Any], kept: Path) -> tuple[OperatingPoint | None, str]:
    """Return the point of screening and where it comes from; test films are not used for it unless asked by name."""
    wanted, derive_on = cfg["screening"]["sensitivity"], cfg["screening"]["derive_on"]
    if derive_on not in (None, "val", "test"):
        raise ConfigError(f"screening.derive_on is {derive_on!r}, expected null, val or test")
    if derive_on is None and model.checkpoint.operating_point is not None:
        return operating_point(model.checkpoint), FROZEN
    if derive_on == "test":
        return choose_operating_point(model.results, wanted), TESTED_ON
    if not model.data.films["val"]:
        reason = (
            "not measured: the checkpoint holds no operating point, and these data have no validation films to choose"
            " one on; screening.derive_on=test derives it on the films it is measured on, which flatters it"
        )
        return None, reason
    finite = [result for result in _results(model, "val", kept) if result.finite]
    return choose_operating_point(finite, wanted), CHOSEN_NOW


def _what_was_seen(model: Measured, films: RadiographDataset) -> Seen:
    """Return what the films were to a checkpoint before: all are known by their pixels."""
    training = model.checkpoint.films
    these = film_digests(films.films, films.cache)
    point_films = {FROZEN: training["val"], TESTED_ON: these}
    if model.point_from == CHOSEN_NOW:
        point_films[CHOSEN_NOW] = film_digests(model.data.films["val"], model.data.cache)
    return seen(these, training, point_films.get(model.point_from))


def _warnings(parts: Parts) -> list[str]:
    """What has to be known before any figure is believed."""
    lines = []
    if parts.failed:
        lines.append(
            f"{len(parts.failed)} films have no finite result and are left out of every figure; they are named below."
        )
    for model in parts.models:
        which = f"checkpoint {model.name}" if len(parts.models) > 1 else "this checkpoint"
        lines += [*model.seen.warnings(which), *_warnings_of_point(model, which)]
    return lines


def _warnings_of_point(model: Measured, which: str) -> Iterator[str]:
    if model.point is None:
        yield f"Screening by {which} was {model.point_from}."
        return
    if model.point.limited:
        yield (
            f"The operating point of {which} was chosen on {model.point.abnormal} abnormal films: too few to be"
            f" sure of a sensitivity of {model.point.wanted_sensitivity:g}."
        )


def _about(parts: Parts) -> dict[str, str]:
    """What the models and the data were, for the page."""
    about = {}
    for model in parts.models:
        trained = model.checkpoint.config
        detector = name_of(trained["model"])
        point = model.point_from
        if model.point is not None:
            point = f"threshold {printed_threshold(model.point.threshold):.6g}, {point}"
        which = f" {model.name}" if len(parts.models) > 1 else ""
        about[f"Checkpoint{which}"] = (
            f"{model.checkpoint.path}, {model.digest}: {detector}, {model.checkpoint.size} px, trained on data"
            f" {model.checkpoint.fingerprint}"
        )
        about[f"Operating point{which}"] = point
        about[f"These films{which}"] = model.seen.in_words()
    about["Films"] = f"{parts.cfg['split']}, data {parts.models[0].data.fingerprint()}"
    about["Findings"] = ", ".join(parts.chosen)
    about["A detection is right"] = RULES[parts.cfg["rule"]]
    about["Intervals"] = f"95 %, bootstrap over patients, {parts.cfg['samples']} resamples, seed {parts.cfg['seed']}"
    return about
