"""The page of an evaluation: what the figures are, what they mean, and the films that went wrong."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr.data.dataset import RadiographDataset
from cxr.detect.prediction import printed_threshold
from cxr.measure.comparison import Comparison
from cxr.measure.evaluation import POOLED, WORKING_RATE, Evaluation
from cxr.measure.folds import FoldFigures
from cxr.measure.froc import FP_RATES
from cxr.measure.intervals import Estimate
from cxr.report.comparison_tables import comparison_table
from cxr.report.evaluate_cards import worst_films
from cxr.report.evaluate_figures import evaluation_figures
from cxr.report.evaluate_tables import (
    Evaluations,
    alarms_of,
    estimates_of,
    fold_rows,
    screening_label,
    sensitivities_of,
    shown,
)
from cxr.report.films_told import FilmsTold
from cxr.report.page import NotShown, Row, finding_row, only_detected_in_words, write_page
from cxr.report.promise_table import KeptHere, promise_table
from cxr.report.words import words

_FIGURES = ("ap50", "ap40", "ap", "sensitivity@1fp", "recall", "auc")  # columns of the table of findings, in its order


def evaluate_page(
    folder: Path,
    evaluations: Evaluations,
    comparison: Mapping[str, Comparison],
    films: RadiographDataset,
    about: Mapping[str, str],
    warnings: Sequence[str],
    not_shown: NotShown,
    language: str = "en",
    folds: Mapping[str, Sequence[FoldFigures]] | None = None,
    promises: Mapping[str, KeptHere] | None = None,
    told: FilmsTold | None = None,
) -> Path:
    """Draw ``figures/*.png`` and write ``index.html``: one file that needs no network and shows pseudonyms only.

    ``evaluations`` are one or two, by the letter of their checkpoint, of ``films`` in the order of their results;
    ``comparison`` is that of the second with the first, by the names of ``compare``, and may be empty. ``about`` says
    what the models and the data were, heading → text; ``warnings`` what has to be known before any figure is believed.
    ``folds`` are the figures of each fold and ``promises`` what is promised, by the letter of the checkpoint. ``told``
    has the groups of the films, and whether they are like others. ``language`` is ``en`` or ``zh``.
    """
    plots = evaluation_figures(folder / "figures", evaluations, language)
    return write_page(
        folder / "index.html",
        "evaluate.html",
        language,
        comparison=comparison_table(comparison, language),
        checkpoints=[
            _checkpoint(evaluation, films, name if len(evaluations) > 1 else "", language)
            | {"folds": _fold_rows((folds or {}).get(name, ()))}
            | {"promises": promise_table((promises or {}).get(name), evaluation.findings, language)}
            for name, evaluation in evaluations.items()
        ],
        plots={name: path.read_bytes() for name, path in plots.items()},
        working_rate=f"{WORKING_RATE:g}",
        told=None if told is None else told.sections(folder / "figures", language),
        about=about,
        warnings=warnings,
        not_shown=not_shown,
    )


def _checkpoint(evaluation: Evaluation, films: RadiographDataset, name: str, language: str) -> dict[str, Any]:
    """What the template shows of one checkpoint; ``name`` is "" where it is the only one."""
    say = words(language)["evaluate"]
    of = say["of_checkpoint"].format(name=name) if name else ""
    point = evaluation.point
    return {
        "name": name,
        "evaluation": evaluation,
        "finding_rows": list(_finding_rows(evaluation, language)),
        "unmarked": only_detected_in_words(evaluation.findings, evaluation.only_detected, language),
        "froc_rows": list(_froc_rows(evaluation)),
        "point_threshold": point and f"{printed_threshold(point.threshold):.6g}",
        "point_reached": point and shown(point.sensitivity_on_validation),
        "image_rows": list(_image_rows(evaluation, say)),
        "threshold": f"{evaluation.threshold:.4f}{of}",
        "worst": worst_films(evaluation, films, of, language),
    }


def _fold_rows(folds: Sequence[FoldFigures]) -> list[Row]:
    """Each fold by itself, and the means; nothing where the films were not judged out of fold."""
    return [Row(heading, cells) for heading, *cells in (fold_rows(folds) if folds else ())]


def _finding_rows(evaluation: Evaluation, language: str) -> Iterator[Row]:
    for name in (*evaluation.names, POOLED):
        figures = evaluation.per_finding[name]
        estimates = estimates_of(figures)
        cells = [str(figures.boxes), str(figures.films), *(_cell(estimates[key]) for key in _FIGURES)]
        if name == POOLED:
            yield Row(words(language)["all_findings"], cells)
        else:
            yield finding_row(evaluation.findings, name, cells, language)


def _froc_rows(evaluation: Evaluation) -> Iterator[Row]:
    """The pooled FROC: sensitivity with its interval, the threshold behind it, and alarms on normal films."""
    pooled = evaluation.per_finding[POOLED]
    measured = zip(FP_RATES, pooled.points, sensitivities_of(pooled), alarms_of(pooled), strict=True)
    for rate, point, sensitivity, alarms in measured:
        normal = shown(Estimate(alarms, math.nan, math.nan, evaluation.normal))
        yield Row(f"{rate:g}", [_cell(sensitivity), f"{point.threshold:.4f}", f"{point.false_positives:.3f}", normal])


def _image_rows(evaluation: Evaluation, say: Mapping[str, Any]) -> Iterator[Row]:
    """The film as a whole: area, calibration, and screening."""
    yield Row(say["roc_auc"], [_cell(evaluation.per_finding[POOLED].auc)])
    yield Row(say["average_precision"], [_cell(evaluation.image_precision)])
    yield Row(say["ece"], [_cell(evaluation.calibration.ece)])
    if evaluation.screening is not None:
        for name, estimate in evaluation.screening.figures.items():
            yield Row(screening_label(name, say), [_cell(estimate)])


def _cell(estimate: Estimate) -> str:
    """A figure, and its interval small beside it."""
    return shown(estimate).replace(" ", "\n", 1)
