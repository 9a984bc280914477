"""One run of explain.py: its folder, how it goes on after a kill, and what it leaves.

A folder holds ``films/<study>/`` (``cxr.explain.record``), ``cam_scores.csv``, ``scores.png``, ``sanity.json``, a page
``<method>.png`` with all categories for each method, ``index.html``, and ``result.json`` from its end.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from rich.console import Console

from cxr import config, run
from cxr.checkpoint import Checkpoint, read_checkpoint
from cxr.config import ConfigError
from cxr.data.dataset import RadiographDataset
from cxr.data.film import Film
from cxr.data.folder import read_folder
from cxr.explain.films import Explainer, explain_films, representative, sanity_check
from cxr.explain.record import read_records
from cxr.explain.scores import (
    BASELINES,
    ScoreRow,
    paired_difference,
    print_differences,
    print_scores,
    score_rows,
    write_scores,
)
from cxr.findings import FindingVocabulary
from cxr.progress import track
from cxr.read.cache import FilmCache
from cxr.report.explain_figures import category_page, film_figure, score_plot
from cxr.report.explain_page import explain_page
from cxr.restore import intensity_of_films, load_data, load_task, restored_intensity, same_films

CACHE = ".cache/films"
SANITY = "sanity.json"
CHECKPOINT = "checkpoint.json"

_log = logging.getLogger(__name__)


@dataclass
class Parts:
    """What a config instantiates to."""

    cfg: dict[str, Any]
    checkpoint: Checkpoint
    explainer: Explainer
    films: RadiographDataset
    truth_known: bool
    unreadable: dict[str, str] = field(default_factory=dict)  # film, by its name among the user's files → reason
    rows: list[ScoreRow] = field(default_factory=list)
    started: float = field(default_factory=time.time)


@contextmanager
def opened(cfg: DictConfig) -> Iterator[Path]:
    """Hold the run folder of ``cfg``; refuse one begun with other settings or with another checkpoint of that name."""
    digest = hashlib.blake2b(Path(cfg.ckpt).read_bytes(), digest_size=8).hexdigest()
    with run.held(cfg, may_differ=("run_dir",)) as folder:
        note = folder / CHECKPOINT
        if note.exists() and json.loads(note.read_text(encoding="utf-8"))["blake2b"] != digest:
            raise ConfigError(f"{cfg.ckpt} has changed since {folder} was begun; type another hydra.run.dir")
        config.write_json(note, {"path": str(cfg.ckpt), "blake2b": digest})
        yield folder


def instantiate(cfg: DictConfig) -> Parts:
    """Restore the detector, find the films and build the methods. Raises ``ConfigError``."""
    plain = config.plain(cfg)
    checkpoint = read_checkpoint(cfg.ckpt)
    task = load_task(checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        methods = dict(hydra.utils.instantiate(cfg.cam, _convert_="all"))
    except InstantiationException as error:
        raise ConfigError(f"{error.__cause__ or error}") from error
    explainer = Explainer(
        task.detector.to(device),
        checkpoint.findings,
        methods,
        restored_intensity(checkpoint),
        cfg.threshold,
        cfg.findings_per_film,
        cfg.faithfulness,
        cfg.seed,
    )
    try:
        films, unreadable = _folder(cfg, checkpoint) if cfg.images else _split(cfg, checkpoint)
    except (ValueError, OSError) as error:  # of the films and their tables, in words for their owner
        raise ConfigError(str(error)) from error
    return Parts(plain, checkpoint, explainer, films, cfg.images is None, unreadable)


def explain(parts: Parts, folder: Path) -> None:
    """Explain each film that the folder does not hold yet."""

    def failed(film: Film, error: Exception) -> None:
        parts.unreadable[film.study] = str(error)

    films = explain_films(parts.films, parts.explainer, folder, parts.truth_known, failed)
    for _ in track(films, "explaining", len(parts.films)):
        pass


def score(parts: Parts, folder: Path) -> None:
    """Tabulate how good the maps are, over all films of the folder, and check that they follow the weights."""
    records = [record for _, record in read_records(folder)]
    samples, seed = parts.cfg["samples"], parts.cfg["seed"]
    parts.rows = score_rows(records, samples, seed)
    differences = [
        paired_difference(records, method, baseline, figure, samples, seed)
        for method in parts.explainer.methods
        for baseline in BASELINES
        for figure in ("hit", "energy")
    ]
    write_scores(folder / "cam_scores.csv", [*parts.rows, *(row for row in differences if row.boxes)])
    print_scores(parts.rows, Console())
    print_differences(differences, Console())
    if not (folder / SANITY).exists():
        films = _subset(parts.films, parts.checkpoint.findings, range(min(parts.cfg["sanity_films"], len(parts.films))))
        config.write_json(folder / SANITY, _measured(sanity_check(films, parts.explainer)))


def report(parts: Parts, folder: Path) -> None:
    """Draw the pictures and write the page and ``result.json``."""
    language, findings = parts.cfg["language"], parts.checkpoint.findings
    records = list(read_records(folder))
    pictures = [(home, record, method) for home, record in records for method in parts.explainer.methods]
    for home, record, method in track(pictures, "drawing"):
        film_figure(home, record, method, findings, language)
    for method in parts.explainer.methods:
        category_page(folder, method, findings, language)
    if parts.rows:
        score_plot(parts.rows, folder / "scores.png", language)
    sanity = json.loads((folder / SANITY).read_text(encoding="utf-8"))
    unreadable = [f"{name}: {reason}" for name, reason in sorted(parts.unreadable.items())]
    page = explain_page(folder, findings, parts.rows, _about(parts), unreadable, sanity, language)
    result = {
        "status": "completed",
        "films": len(records),
        "unreadable": unreadable,
        "overrides": json.loads((folder / config.COMMAND).read_text(encoding="utf-8"))["overrides"],
        "seconds": round(time.time() - parts.started, 1),
    }
    config.write_json(folder / config.RESULT, result)
    for line in unreadable:
        Console().print(f"not explained: {line}", style="yellow", highlight=False)
    Console().print(f"{len(records)} films · {page}", highlight=False)


def _split(cfg: DictConfig, checkpoint: Checkpoint) -> tuple[RadiographDataset, dict[str, str]]:
    data = load_data(checkpoint, cfg.data)
    data.prepare_data()
    data.setup()
    if "_target_" not in cfg.data and not same_films(checkpoint, data):
        _log.warning(
            "the films are not those the detector was trained with (added, changed or unreadable ones move the splits):"
            " some of the %s films may have been trained on",
            cfg.split,
        )
    if cfg.split not in data.films:
        raise ConfigError(f"split is {cfg.split!r}, expected one of {', '.join(data.films)}")
    films = data.dataset(cfg.split)
    if not films.films:
        raise ConfigError(f"split={cfg.split}: these data have no such films")
    shown = representative(films.films, checkpoint.findings, cfg.films)
    chosen = _subset(films, checkpoint.findings, shown)
    return chosen, {f"file {n}": str(error) for n, error in enumerate(data.unreadable, start=1)}


def _folder(cfg: DictConfig, checkpoint: Checkpoint) -> tuple[RadiographDataset, dict[str, str]]:
    films, failures = read_folder(Path(cfg.images))
    films = films[: cfg.films]
    cache = FilmCache(Path(CACHE), intensity_of_films(checkpoint), checkpoint.size)
    failed = cache.fill([film.path for film in films])
    reasons = [*failures, *(failed[path] for path in sorted(failed))]
    readable = [film for film in films if film.path not in failed]
    dataset = RadiographDataset(readable, checkpoint.findings, cache, checkpoint.size)
    return dataset, {f"file {n}": str(error) for n, error in enumerate(reasons, start=1)}


def _subset(films: RadiographDataset, findings: FindingVocabulary, indices: Iterable[int]) -> RadiographDataset:
    return RadiographDataset([films.films[i] for i in indices], findings, films.cache, films.size)


def _about(parts: Parts) -> dict[str, str]:
    """What the model and the data were, for the page."""
    trained = parts.checkpoint.config
    about = {
        "Detector": str(trained["model"]["_target_"]).rpartition(".")[2],
        "Trained on": f"{trained['name']}, films of {parts.checkpoint.size} px, data {parts.checkpoint.fingerprint}",
        "Films": parts.cfg["images"] or f"{parts.cfg['split']} films, {len(parts.films)} of them shown",
        "Explained": f"detections from score {parts.cfg['threshold']:g} up, the strongest of each finding",
    }
    result = parts.checkpoint.path.parents[1] / config.RESULT
    if result.is_file():
        metrics: Mapping[str, float] = json.loads(result.read_text(encoding="utf-8"))["metrics"]
        about["Test score"] = ", ".join(
            f"{name} {metrics[key]:.3f}"
            for name, key in (("AP50", "test/map_50"), ("AP", "test/map"))
            if key in metrics
        )
    return about


def _measured(sanity: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Leave out what could not be measured: JSON has no NaN."""
    return {
        method: {part: value for part, value in parts.items() if not math.isnan(value)}
        for method, parts in sanity.items()
    }
