"""One run of evaluate.py: detections kept by checkpoint and films, figures, and what it leaves.

``split=out_of_fold`` on the folder of a sweep over folds judges each film by the detector that did not see its patient,
and freezes what these films choose into the sweep's folder (``cxr.runs.out_of_fold``).

A folder holds ``detections.json``, ``metrics.json``, ``froc.csv``, ``per_finding.csv``, ``screening.json``,
``subgroups.csv``, ``figures/*.png`` and ``index.html``, and ``result.json`` from its end. Where two checkpoints are
compared, every file has both.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from cxr.config.entry import resolved
from cxr.config.errors import ConfigError
from cxr.data.dataset import RadiographDataset
from cxr.detect.detector import name_of
from cxr.detect.prediction import in_words, printed_threshold
from cxr.files import read_mapping
from cxr.measure.box_scores import box_calibration_error
from cxr.measure.comparison import Comparison
from cxr.measure.evaluation import Settings, by_fold, compare, evaluate
from cxr.measure.matching import RULES
from cxr.measure.promises import reached_promises
from cxr.measure.shift import Shift
from cxr.measure.subgroups import Subgroups
from cxr.progress import track
from cxr.read.chest_films import Reason
from cxr.report.comparison_tables import arms_page, print_comparison, write_arms
from cxr.report.evaluate_page import evaluate_page
from cxr.report.evaluate_tables import (
    Origin,
    print_evaluations,
    print_folds,
    write_tables,
)
from cxr.report.films_told import FilmsTold
from cxr.report.page import NotShown
from cxr.report.promise_table import print_promises
from cxr.report.subgroup_tables import write_csv
from cxr.report.without_paths import text_without_paths
from cxr.report.words import LANGUAGES
from cxr.runs.ensemble_file import write_frozen
from cxr.runs.evaluated_arms import runs_of_arms
from cxr.runs.evaluated_detector import Measured, choose, measured, results_of, what_was_seen
from cxr.runs.evaluated_films import NotMeasured, counts, not_measured, refusals_of, warning
from cxr.runs.evaluated_findings import asked_findings, evaluated_findings
from cxr.runs.evaluated_groups import least_patients, shift_of, subgroups
from cxr.runs.folder import held
from cxr.runs.measured_notes import EVALUATION
from cxr.runs.model_card import renew_card
from cxr.runs.result import tell, warn, without_paths, write_result

DETECTIONS = "detections.json"


@dataclass
class Parts:
    """What a config instantiates to."""

    cfg: dict[str, Any]
    models: list[Measured]
    chosen: tuple[str, ...]  # findings of the detectors that are evaluated
    films: RadiographDataset
    failed: list[str] = field(default_factory=list)  # a line for each film without a finite result
    refused: list[NotMeasured] = field(default_factory=list)  # films that no detector speaks of
    comparison: dict[str, Comparison] = field(default_factory=dict)
    shifts: dict[str, Shift | str] = field(default_factory=dict)  # of the films from those each was chosen on
    subgroups: dict[str, Subgroups] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def arms(self) -> dict[str, list[Measured]]:
        """The detectors by the letter of their arm; without arms each letter has one."""
        letters = dict.fromkeys(model.name[0] for model in self.models)
        return {letter: [model for model in self.models if model.name[0] == letter] for letter in letters}


def opened(cfg: DictConfig) -> AbstractContextManager[Path]:
    """Hold the run folder of ``cfg``; refuse one begun with other settings."""
    return held(cfg, may_differ=("run_dir", "language"))


def instantiate(cfg: DictConfig) -> Parts:
    """Read the checkpoints and find their films. Raises ``ConfigError``."""
    plain = resolved(cfg)
    named = plain["ckpt"] if isinstance(plain["ckpt"], list) else [plain["ckpt"]]
    if plain["rule"] not in RULES:
        raise ConfigError(f"rule is {plain['rule']!r}, expected {', '.join(RULES)}")
    if plain["language"] not in LANGUAGES:
        raise ConfigError(f"language is {plain['language']!r}, expected one of {', '.join(LANGUAGES)}")
    if len(named) not in (1, 2):
        raise ConfigError(
            f"ckpt names {len(named)} checkpoints, expected one, or two to compare: ckpt=a.ckpt,b.ckpt; checkpoints"
            " that are to answer as one stand in a list of their own: ckpt=[[a.ckpt,b.ckpt,c.ckpt]]"
        )
    least_patients(plain)
    if not isinstance(cfg.margin, float | int) or isinstance(cfg.margin, bool) or not 0 < cfg.margin < 1:
        raise ConfigError(f"margin is {cfg.margin}, expected a difference of figures above 0 and below 1: margin=0.02")
    runs = runs_of_arms(named, cfg) if cfg.arms else dict(zip("AB", named, strict=False))
    models = [measured(name, ckpt, cfg) for name, ckpt in runs.items()]
    names, films = models[0].checkpoint.findings.names, models[0].films
    for other in models[1:]:
        if other.checkpoint.findings.names != names:
            raise ConfigError(
                f"{other.named.ckpt} knows other findings than {models[0].named.ckpt}: they cannot be compared"
            )
        if _truth(other.films) != _truth(films):
            raise ConfigError(
                f"{models[0].named.ckpt} and {other.named.ckpt} have other {plain['split']} films: name those to"
                " compare them on, which neither was trained on: data=course data.root=FOLDER data.seed=0"
            )
    return Parts(plain, models, evaluated_findings(asked_findings(cfg), models[0].checkpoint.findings), films)


def detect(parts: Parts, folder: Path) -> None:
    """Take the detections on the films, and where a point is still to be chosen on validation films, on those too.

    What ``detections.json`` holds of this checkpoint and these films is not detected again. A film of which a detector
    computes NaN or infinity enters no figure, of no checkpoint: ``parts.failed`` names it. Neither does a film that the
    gate of a checkpoint refuses: it stands in ``parts.refused``. Raises ``ConfigError`` where no film is left.
    """
    kept = folder / DETECTIONS
    for model in parts.models:
        model.results = results_of(model, parts.cfg["split"], kept)
    reasons = {i: reason for model in parts.models for i, reason in refusals_of(model, parts.cfg["gate"]).items()}
    if not parts.cfg["arms"]:
        parts.shifts = {model.name: shift_of(model, model.results, reasons) for model in parts.models}
    _leave_out(parts, reasons)
    for model in parts.models:
        if not parts.cfg["arms"]:  # the runs of an arm are compared, and screen nothing
            choose(model, parts.cfg, kept)
        model.seen = what_was_seen(model, parts.films)


def _leave_out(parts: Parts, reasons: Mapping[int, Reason]) -> None:
    films, models = parts.films, parts.models
    parts.refused = not_measured(models[0].results, reasons)
    wrong = {
        i: [m.name for m in models if not m.results[i].finite] for i in range(len(films.films)) if i not in reasons
    }
    whole = [i for i, names in wrong.items() if not names]
    parts.failed = [
        f"{films.films[i].study}: the answer of checkpoint {' and '.join(names)} is not finite (NaN or infinity)"
        for i, names in wrong.items()
        if names
    ]
    if not wrong:
        raise ConfigError(f"{warning(parts.refused)} Type gate=false to judge films by their headers alone")
    if not whole:
        raise ConfigError(f"no film has a finite result, of {len(wrong)}: the checkpoint computes NaN or infinity")
    if parts.failed or parts.refused:
        kept = [films.films[i] for i in whole]
        parts.films = RadiographDataset(kept, models[0].data.findings, films.cache, films.size)
        for model in models:
            model.results = [model.results[i] for i in whole]


def measure(parts: Parts) -> None:
    """Compute every figure with its interval, and compare two checkpoints or arms. Of arms nothing else is measured."""
    cfg = parts.cfg
    prevalences = tuple(cfg["screening"]["prevalences"])
    settings = Settings(cfg["rule"], prevalences, cfg["worst"], cfg["samples"], cfg["seed"], cfg["margin"])
    for model in () if cfg["arms"] else track(parts.models, "measuring"):
        findings = model.checkpoint.findings
        model.evaluation = evaluate(model.results, findings, parts.chosen, model.point, settings)
        model.by_fold = by_fold(model.evaluation, model.places, settings.rule)
        if model.promises is not None:
            model.reached = reached_promises(model.promises, model.results, settings.samples, settings.seed)
    if len(parts.arms) == 2:
        labels = [parts.models[0].checkpoint.findings.index(name) for name in parts.chosen]
        first, second = ([model.results for model in arm] for arm in parts.arms.values())
        parts.comparison = compare(first, second, labels, settings)
    if not parts.cfg["arms"]:
        parts.subgroups = subgroups(parts.models, parts.films, cfg)


def report(parts: Parts, folder: Path) -> None:
    """Write the tables, the figures and the page, print the tables, and write ``result.json`` last."""
    data = parts.models[0].data
    errors = list(zip(data.unreadable_files, data.unreadable, strict=True))
    language = parts.cfg["language"]
    not_shown = NotShown(without_paths(errors), parts.failed, [film.in_words(language) for film in parts.refused])
    left_out = {"failed": parts.failed, "not_assessed": counts(parts.refused), "unreadable": not_shown.unreadable}
    films = {"evaluated": len(parts.films), **left_out}
    if parts.cfg["arms"]:
        _report_arms(parts, folder, films, not_shown)
        return
    evaluations = {model.name: model.evaluation for model in parts.models}
    origins = {model.name: _origin(model) for model in parts.models}
    told = FilmsTold(parts.subgroups, parts.shifts)
    write_tables(folder, evaluations, parts.comparison, origins, films, told.as_plain())
    write_csv(folder, parts.subgroups)
    warnings = _warnings(parts)
    folds = {model.name: model.by_fold for model in parts.models}
    kept = {model.name: model.kept_here for model in parts.models if model.kept_here is not None}
    page = evaluate_page(
        folder, evaluations, parts.comparison, parts.films, _about(parts), warnings, not_shown, language, folds, kept,
        told,
    )  # fmt: skip
    console = Console()
    print_evaluations(evaluations, console)
    print_folds(folds, console)
    for name in evaluations:
        print_promises(kept.get(name), console)
    print_comparison(parts.comparison, console)
    told.print(console)
    for line in warnings:
        warn(line)
    for line in (*(str(error) for _, error in errors), *parts.failed):  # with paths, for whoever named the folder
        warn(f"not evaluated: {line}")
    for model in parts.models:
        if model.frozen is not None and model.named.folder is not None:
            path = write_frozen(model.named.folder, model.named.paths, model.named.views, model.frozen)
            tell(f"frozen for predictions with {model.named.folder}: {path}")
    for model in parts.models:
        _note(model, parts, folder)
    write_result(folder, parts.started, {"films": len(parts.films), **left_out})
    tell(f"research software, not a diagnosis · {len(parts.films)} films · {page}")


def _note(model: Measured, parts: Parts, folder: Path) -> None:
    """Leave the figures of a detector with its run, or its sweep, and renew its model card there."""
    named = model.named if model.frozen is None else replace(model.named, frozen=model.frozen)
    content = {
        "letter": model.name,
        "split": parts.cfg["split"],
        "data": model.data.fingerprint(),
        "external": model.elsewhere(parts.films),
        "settings": {key: parts.cfg[key] for key in ("rule", "samples", "seed")},
        "metrics": read_mapping(folder / "metrics.json"),
        "screening": read_mapping(folder / "screening.json"),
    }
    renew_card(named, EVALUATION, folder, content, parts.cfg["language"], freezes=model.frozen is not None)


def _report_arms(parts: Parts, folder: Path, films: dict[str, Any], not_shown: NotShown) -> None:
    """Write ``metrics.json`` and the page of a comparison of arms, print it, and write ``result.json`` last."""
    console = Console()
    arms = {letter: [text_without_paths(model.named.ckpt) for model in arm] for letter, arm in parts.arms.items()}
    warnings = [line for model in parts.models for line in model.seen.warnings(f"run {model.name}")]
    warnings += [warning(parts.refused)] if parts.refused else []
    write_arms(folder, parts.comparison, arms, films)
    about = {f"Run {model.name}": model.named.in_words for model in parts.models} | _films(parts)
    page = arms_page(folder, parts.comparison, arms, about, warnings, not_shown, parts.cfg["language"])
    print_comparison(parts.comparison, console)
    for line in (*warnings, *parts.failed):
        warn(line)
    write_result(folder, parts.started, {"films": len(parts.films), **{k: films[k] for k in films if k != "evaluated"}})
    tell(f"research software, not a diagnosis · {len(parts.films)} films · {page}")


def _truth(films: RadiographDataset) -> list[tuple[str, tuple[str, ...], bytes]]:
    return [(film.study, film.findings, film.boxes.tobytes()) for film in films.films]


def _origin(model: Measured) -> Origin:
    errors = {"before": model.uncalibrated, "after": box_calibration_error(model.results)}
    return Origin(model.point_from, model.seen, model.by_fold, errors, model.reached)


def _warnings(parts: Parts) -> list[str]:
    """What has to be known before any figure is believed."""
    lines = [warning(parts.refused)] if parts.refused else []
    if parts.failed:
        lines.append(
            f"{len(parts.failed)} films have no finite result and are left out of every figure;"
            " they are named on the page."
        )
    for model in parts.models:
        kind = "checkpoint" if model.named.single else "ensemble"
        which = f"{kind} {model.name}" if len(parts.models) > 1 else f"this {kind}"
        lines += [*model.seen.warnings(which), *_warnings_of_point(model, which)]
    return [*lines, *FilmsTold(parts.subgroups, parts.shifts).warnings("en")]


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
            f"{model.named.in_words}: {detector}, {model.checkpoint.size} px, trained on data"
            f" {model.checkpoint.fingerprint}"
        )
        if model.named.thresholds is not None:
            about[f"Boxes are shown{which}"] = f"from score {in_words(model.named.thresholds)} up"
        about[f"Operating point{which}"] = point
        about[f"These films{which}"] = model.seen.in_words()
    return about | _films(parts)


def _films(parts: Parts) -> dict[str, str]:
    """What was measured and how, for the page."""
    return {
        "Films": f"{parts.cfg['split']}, data {parts.models[0].data.fingerprint()}",
        "Findings": ", ".join(parts.chosen),
        "A detection is right": RULES[parts.cfg["rule"]],
        "Intervals": f"95 %, bootstrap over patients, {parts.cfg['samples']} resamples, seed {parts.cfg['seed']}",
    }
