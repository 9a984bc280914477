"""One run of explain.py: its folder, how it goes on after a kill, and what it leaves.

A folder holds ``films/<study>/`` (``cxr.explain.record``), ``cam_scores.csv``, ``scores.png``, ``sanity.json``, a page
``<method>.png`` with all categories for each method, ``index.html``, and ``result.json`` from its end.
"""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig
from rich.console import Console

from cxr.config import run_files
from cxr.config.entry import instantiated, resolved
from cxr.config.errors import ConfigError, film_errors
from cxr.data.dataset import RadiographDataset
from cxr.data.film import Film
from cxr.data.folder import read_folder
from cxr.detect.detector import Detector, name_of
from cxr.detect.ensemble import Ensemble
from cxr.detect.prediction import in_words
from cxr.explain.films import Explainer, explain_films, representative, sanity_check
from cxr.explain.record import RECORD, read_records
from cxr.explain.score_tables import print_differences, print_scores, write_scores
from cxr.explain.scores import BASELINES, ScoreRow, paired_difference, score_rows
from cxr.files import DamagedFileError, read_mapping, write_json
from cxr.findings import FindingVocabulary
from cxr.progress import track
from cxr.read.cache import FilmCache
from cxr.read.chest_films import Reason
from cxr.read.dicom import ReadError
from cxr.report.explain_figures import category_page, film_figure
from cxr.report.explain_page import explain_page
from cxr.report.explain_plots import score_plot
from cxr.report.page import NotShown
from cxr.report.without_paths import folder_pseudonym, text_without_paths, without_path
from cxr.report.words import not_assessed_words, words
from cxr.runs.checkpoint import Checkpoint
from cxr.runs.folder import changed_since_begun, held
from cxr.runs.gate import gate, refusal_by_header, refused_by_pixels
from cxr.runs.measured_notes import EXPLANATION
from cxr.runs.model_card import renew_card
from cxr.runs.named_detector import NamedDetector, named_detector, shown_from
from cxr.runs.restore import intensity_of_films, load_data, restored_intensity, same_films
from cxr.runs.result import tell, warn, without_paths, write_result

CACHE = ".cache/films"
SANITY = "sanity.json"
CHECKPOINT = "checkpoint.json"

_log = logging.getLogger(__name__)


@dataclass
class LeftOut:
    """Films without maps: files that cannot be read, films that failed, and those that are no films for the detector.

    Pages and ``result.json`` name a film by its study's pseudonym, or a file by its number; only the terminal of
    whoever named the folder shows paths.
    """

    files: list[tuple[Path, ReadError]] = field(default_factory=list)
    refused: list[tuple[str, Path, Reason]] = field(default_factory=list)  # study, file, why
    errors: list[tuple[str, Path, Exception]] = field(default_factory=list)  # of films that failed: study, file, error

    @property
    def unreadable(self) -> list[str]:
        """A line for each file that cannot be read."""
        return without_paths(self.files)

    @property
    def failed(self) -> list[str]:
        """A line for each film that failed."""
        return [f"{study}: {without_path(error, path, 'its file')}" for study, path, error in self.errors]

    def for_the_user(self) -> list[str]:
        """Return all of them with their paths."""
        return [
            *(str(error) for _, error in self.files),
            *(f"{path}: {without_path(error, path, 'it')}" for _, path, error in self.errors),
            *(f"{path}: not assessed: {reason.text}" for _, path, reason in self.refused),
        ]


@dataclass
class Parts:
    """What a config instantiates to."""

    cfg: dict[str, Any]
    named: NamedDetector
    checkpoint: Checkpoint
    explainer: Explainer
    films: RadiographDataset
    truth_known: bool
    left_out: LeftOut = field(default_factory=LeftOut)
    rows: list[ScoreRow] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)


@contextmanager
def opened(cfg: DictConfig) -> Iterator[tuple[Path, NamedDetector]]:
    """Hold the run folder of ``cfg``; refuse one begun with other settings or with another checkpoint of that name.

    Yields the folder, and the detector that ``ckpt`` names.
    """
    plain = resolved(cfg)
    with held(cfg, may_differ=("run_dir",)) as folder:
        named = named_detector(plain["ckpt"], cfg.trust, plain["members"], plain["views"])
        if changed_since_begun(folder / CHECKPOINT, {"blake2b": named.digest}, lambda: _forget_films(folder)):
            raise ConfigError(f"{named.ckpt} has changed since {folder} was begun; type another hydra.run.dir")
        yield folder, named


def _forget_films(folder: Path) -> None:
    """Have all films of ``folder`` explained again, because nobody knows with which checkpoint they were."""
    note = folder / CHECKPOINT
    _log.warning("%s is damaged, and what was explained is not known: all films are explained again", note)
    for record in folder.glob(f"films/*/{RECORD}"):
        record.unlink()


def instantiate(cfg: DictConfig, named: NamedDetector) -> Parts:
    """Restore the detector, find the films and build the methods. Raises ``ConfigError``."""
    plain, checkpoint = resolved(cfg), named.checkpoint
    explainer = Explainer(
        cast(Detector | Ensemble, named.detector().detector),
        checkpoint.findings,
        dict(instantiated(cfg.cam)),
        restored_intensity(checkpoint),
        shown_from(cfg.threshold, named.thresholds),
        cfg.findings_per_film,
        cfg.faithfulness,
        cfg.seed,
    )
    with film_errors():
        films, left_out = _folder(cfg, checkpoint) if cfg.images else _split(cfg, checkpoint)
    return Parts(plain, named, checkpoint, explainer, films, cfg.images is None, left_out)


def explain(parts: Parts, folder: Path) -> None:
    """Explain each film that the folder does not hold yet. Raises ``OSError`` where the disk is full."""

    def failed(film: Film, error: Exception) -> None:
        parts.left_out.errors.append((film.study, film.path, error))

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
    if _read_sanity(folder) is None:
        explained = {record.study for record in records}
        whole = [i for i, film in enumerate(parts.films.films) if film.study in explained]
        films = _subset(parts.films, parts.checkpoint.findings, whole[: parts.cfg["sanity_films"]])
        write_json(folder / SANITY, _measured(sanity_check(films, parts.explainer)))


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
    sanity, left_out = _read_sanity(folder) or {}, parts.left_out
    refused = [f"{study}: {not_assessed_words(reason, language)}" for study, _, reason in left_out.refused]
    not_shown = NotShown(left_out.unreadable, left_out.failed, refused)
    page = explain_page(folder, findings, parts.rows, _about(parts, language), not_shown, sanity, language)
    result = {
        "films": len(records),
        "unreadable": left_out.unreadable,
        "failed": left_out.failed,
        "not_assessed": [f"{study}: {reason.text}" for study, _, reason in left_out.refused],
    }
    if parts.truth_known:  # on films without marks a map cannot be held against anything
        scores = [asdict(row) for row in parts.rows]
        content = {"films": len(records), "split": parts.cfg["split"], "scores": scores, "sanity": sanity}
        renew_card(parts.named, EXPLANATION, folder, content, language)
    write_result(folder, parts.started, result)
    for line in left_out.for_the_user():
        warn(f"not explained: {line}")
    tell(f"{len(records)} films · {page}")


def _split(cfg: DictConfig, checkpoint: Checkpoint) -> tuple[RadiographDataset, LeftOut]:
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
    return chosen, LeftOut(list(zip(data.unreadable_files, data.unreadable, strict=True)))


def _folder(cfg: DictConfig, checkpoint: Checkpoint) -> tuple[RadiographDataset, LeftOut]:
    """Return the first films of the user's folder that the detector may assess, and those that are left out."""
    films, failures = read_folder(Path(cfg.images))
    left_out, rule = LeftOut(list(failures)), gate(checkpoint, cfg.gate)
    cache = FilmCache(Path(CACHE), intensity_of_films(checkpoint), checkpoint.size)
    chosen: list[Film] = []
    for film in films:
        if cfg.films is not None and len(chosen) == cfg.films:
            break
        reason = refusal_by_header(rule, film)
        if reason is None:
            chosen.append(film)
        else:
            left_out.refused.append((film.study, film.path, reason))
    failed = cache.fill([film.path for film in chosen])
    left_out.files += [(path, failed[path]) for path in sorted(failed)]
    readable = RadiographDataset(
        [film for film in chosen if film.path not in failed], checkpoint.findings, cache, checkpoint.size
    )
    by_pixels = refused_by_pixels(rule, readable)
    left_out.refused += [(readable.films[i].study, readable.films[i].path, reason) for i, reason in by_pixels.items()]
    return _subset(readable, checkpoint.findings, (i for i in range(len(readable)) if i not in by_pixels)), left_out


def _source(cfg: Mapping[str, Any], language: str) -> str:
    """Return which films these are, without the name of the user's folder, which may be a patient's."""
    say = words(language)["explained_what"]
    if cfg["images"] is None:
        return str(say["split"].format(split=say["splits"].get(cfg["split"], cfg["split"])))
    return str(say["folder"].format(folder=folder_pseudonym(cfg["images"])))


def _read_sanity(folder: Path) -> dict[str, dict[str, float]] | None:
    """Return the kept sanity check; None where there is none or it is damaged."""
    try:
        return read_mapping(folder / SANITY)
    except (OSError, DamagedFileError):
        return None


def _subset(films: RadiographDataset, findings: FindingVocabulary, indices: Iterable[int]) -> RadiographDataset:
    return RadiographDataset([films.films[i] for i in indices], findings, films.cache, films.size)


def _about(parts: Parts, language: str) -> dict[str, str]:
    """What the model and the data were, for the page."""
    trained, say = parts.checkpoint.config, words(language)["explained_what"]
    size, data = parts.checkpoint.size, parts.checkpoint.fingerprint
    threshold = parts.checkpoint.findings.with_labels(in_words(parts.explainer.threshold), language)
    about = {
        "detector": ", ".join(dict.fromkeys(name_of(member.config["model"]) for member in parts.named.members)),
        "trained": say["trained"].format(name=trained["name"], size=size, data=data),
        "films": say["films"].format(source=_source(parts.cfg, language), shown=len(parts.films)),
        "explained": say["explained"].format(threshold=threshold),
    }
    if not parts.named.single:
        ckpt, members = text_without_paths(parts.named.ckpt), len(parts.named.members)
        about["answers"] = say["answers"].format(
            ckpt=ckpt, digest=parts.named.digest, members=members, views=len(parts.named.views)
        )
    elif scores := _test_scores(parts.checkpoint.path):
        about["score"] = scores
    headings = words(language)["explained_by"]
    return {headings[name]: line for name, line in about.items()}


def _test_scores(checkpoint: Path) -> str:
    """Return the test figures of the run that a checkpoint lies in, "" where there are none."""
    try:
        metrics = read_mapping(checkpoint.absolute().parent.parent / run_files.RESULT, "metrics")["metrics"]
        figures = {name: metrics.get(key) for name, key in (("AP50", "test/map_50"), ("AP", "test/map"))}
        return ", ".join(f"{name} {value:.3f}" for name, value in figures.items() if value is not None)
    except (OSError, ValueError, TypeError, AttributeError):
        return ""


def _measured(sanity: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Leave out what could not be measured: JSON has no NaN."""
    return {
        method: {part: value for part, value in parts.items() if not math.isnan(value)}
        for method, parts in sanity.items()
    }
