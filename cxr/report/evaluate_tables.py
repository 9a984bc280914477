"""An evaluation as files that programs read (json, csv) and as tables on the terminal."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from cxr.detect.prediction import printed_threshold
from cxr.files import whole_file, write_whole
from cxr.measure.average_precision import only_detected_in_words
from cxr.measure.comparison import Comparison
from cxr.measure.evaluation import POOLED, Evaluation, FindingFigures
from cxr.measure.folds import FoldFigures, mean_and_deviation
from cxr.measure.froc import FP_RATES
from cxr.measure.intervals import Estimate
from cxr.measure.promises import Reached
from cxr.measure.seen import Seen
from cxr.report.words import words

Evaluations = Mapping[str, Evaluation]

_FIGURES = ("ap40", "ap50", "ap", "recall", "sensitivity@1fp", "auc")


def estimates_of(figures: FindingFigures) -> dict[str, Estimate]:
    """Return the figures of a finding that a table shows, by name."""
    sensitivity = sensitivities_of(figures)[FP_RATES.index(1)]
    return {**figures.precision, "recall": figures.recall, "sensitivity@1fp": sensitivity, "auc": figures.auc}


def sensitivities_of(figures: FindingFigures) -> list[Estimate]:
    """Return the sensitivity of a finding at each of ``FP_RATES``."""
    return [Estimate(point.sensitivity, point.low, point.high, figures.boxes) for point in figures.points]


def alarms_of(figures: FindingFigures) -> list[float]:
    """Return the false positives a normal film of a finding at each of ``FP_RATES``."""
    places = [figures.curve.thresholds.tolist().index(point.threshold) for point in figures.points]
    return [float(figures.curve.normal_false_positives[place]) for place in places]


@dataclass(frozen=True)
class Origin:
    """Where a detector's scores come from.

    Args:
        point_from: how its operating point was chosen, in words.
        seen: what the films were to it before.
        folds: figures of each fold, where each film was judged by the detector that did not see its patient.
        box_errors: calibration error of the scores of boxes, "before" and "after" calibration; NaN where there is none.
        promises: what it promises, and what these films gave; none where it promises nothing.
    """

    point_from: str
    seen: Seen
    folds: Sequence[FoldFigures] = ()
    box_errors: Mapping[str, float] = field(default_factory=dict)
    promises: Sequence[Reached] = ()


def write_tables(
    folder: Path,
    evaluations: Evaluations,
    comparison: Mapping[str, Comparison],
    origins: Mapping[str, Origin],
    films: Mapping[str, Any],
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write ``metrics.json``, ``froc.csv``, ``per_finding.csv``, ``screening.json``; the undefined is null, or empty.

    ``evaluations`` and ``origins`` of their operating points go by the letter of a checkpoint. ``comparison`` of the
    second checkpoint with the first, by figure, may be empty. ``films`` says how many were evaluated, and has a line
    for each that failed or could not be read. ``more`` has further entries for ``metrics.json``, by a checkpoint's
    letter.
    """
    metrics = {
        name: {
            **_metrics(evaluation),
            "these_films": origins[name].seen.as_dict(),
            "box_calibration_error": origins[name].box_errors,
            **({"folds": origins[name].folds} if origins[name].folds else {}),
            **({"promises": origins[name].promises} if origins[name].promises else {}),
            **(more or {}).get(name, {}),
        }
        for name, evaluation in evaluations.items()
    }
    differences = {name: one.difference for name, one in comparison.items()}
    content = {"checkpoints": metrics, "second_over_first": differences, "comparison": comparison, "films": dict(films)}
    write_figures(folder / "metrics.json", content)
    write_figures(
        folder / "screening.json",
        {
            name: {
                "operating_point": evaluation.point and evaluation.point.as_dict(),
                "from": origins[name].point_from,
                "chosen_on_these_films": origins[name].seen.point_on,
                "figures": evaluation.screening and evaluation.screening.figures,
                "wrongly_cleared": list(evaluation.screening.wrongly_cleared) if evaluation.screening else [],
            }
            for name, evaluation in evaluations.items()
        },
    )
    _write_csv(folder / "froc.csv", _froc_rows(evaluations))
    _write_csv(folder / "per_finding.csv", _finding_rows(evaluations))


def print_evaluations(evaluations: Evaluations, console: Console) -> None:
    """Print the figures of each finding, the pooled FROC, and screening, of each checkpoint."""
    for name, evaluation in evaluations.items():
        title = f"Checkpoint {name}: " if len(evaluations) > 1 else ""
        title += f"{evaluation.films} films, {evaluation.normal} of them normal, {evaluation.patients} patients"
        headings = [
            Column(heading, justify="right", overflow="fold") for heading in ("boxes", "AP50", "at 1 FP", "AUC")
        ]
        table = Table("finding", *headings, title=title, title_justify="left")
        for finding in (*evaluation.names, POOLED):
            if finding == POOLED:
                table.add_section()
            figures = evaluation.per_finding[finding]
            estimates = estimates_of(figures)
            label = "all findings" if finding == POOLED else evaluation.findings.label(finding)
            table.add_row(
                label, str(figures.boxes), *(shown(estimates[key]) for key in ("ap50", "sensitivity@1fp", "auc"))
            )
        table.caption = "at 1 FP: sensitivity at 1 false positive a film · AUC: of the whole film · 95 % intervals\n"
        table.caption += only_detected_in_words(evaluation.only_detected, evaluation.findings)
        console.print(table)
        pooled = evaluation.per_finding[POOLED]
        at = (f"{rate:g}: {_number(p.sensitivity)}" for rate, p in zip(FP_RATES, pooled.points, strict=True))
        console.print("sensitivity at false positives a film:", "  ".join(at), highlight=False)
        if evaluation.screening is not None:
            console.print(_screening_table(evaluation))


def print_folds(folds: Mapping[str, Sequence[FoldFigures]], console: Console) -> None:
    """Print the figures of each fold of each checkpoint, and their means; nothing without folds."""
    for name, of_folds in folds.items():
        if of_folds:
            say = words("en")["evaluate"]["fold_figures"]
            figures = [Column(say[key], justify="right") for key in of_folds[0].figures]
            title = f"Fold by fold{f', checkpoint {name}' if len(folds) > 1 else ''}"
            table = Table("fold", Column("films", justify="right"), *figures, title=title, title_justify="left")
            for row in fold_rows(of_folds):
                table.add_row(*row)
            console.print(table)


def fold_rows(folds: Sequence[FoldFigures]) -> list[list[str]]:
    """Return a line for each fold: its number, its films, its figures; and at last their means ± standard deviation."""
    rows = [
        [str(number), str(fold.films), *(_number(value) for value in fold.figures.values())]
        for number, fold in enumerate(folds)
    ]
    means = (mean_and_deviation(folds, name) for name in folds[0].figures)
    return [*rows, ["mean ± SD", "", *(f"{_number(mean)} ± {_number(deviation)}" for mean, deviation in means)]]


def shown(estimate: Estimate, signed: bool = False) -> str:
    """Return a figure with its interval, to three digits; – where it is undefined."""
    if math.isnan(estimate.value):
        return "–"
    form = "+.3f" if signed else ".3f"
    interval = "" if math.isnan(estimate.low) else f" [{estimate.low:{form}}, {estimate.high:{form}}]"
    return f"{estimate.value:{form}}{interval}"


def _screening_table(evaluation: Evaluation) -> Table:
    point, screening = evaluation.point, evaluation.screening
    if point is None or screening is None:
        raise ValueError("there is no operating point")
    table = Table("screening", Column("", justify="right"), title_justify="left")
    table.title = f"Films scored below {printed_threshold(point.threshold):.6g} are put aside as normal"
    for name, estimate in screening.figures.items():
        table.add_row(screening_label(name, words("en")["evaluate"]), shown(estimate))
    table.caption = f"abnormal films put aside: {len(screening.wrongly_cleared)}"
    return table


def screening_label(name: str, say: Mapping[str, Any]) -> str:
    """Return what a figure of ``Screening.figures`` is called, with the words of an evaluation in some language."""
    value, at, prevalence = name.partition("@")
    label = str(say["screening"][value])
    return say["at_share"].format(name=label, percent=f"{100 * float(prevalence):g}") if at else label


def _metrics(evaluation: Evaluation) -> dict[str, Any]:
    pooled, *single = (
        {
            "boxes": figures.boxes,
            "films": figures.films,
            "patients": figures.patients,
            **estimates_of(figures),
            "froc": [{"rate": rate, **asdict(p)} for rate, p in zip(FP_RATES, figures.points, strict=True)],
        }
        for figures in (evaluation.per_finding[name] for name in (POOLED, *evaluation.names))
    )
    return {
        "films": evaluation.films,
        "normal_films": evaluation.normal,
        "patients": evaluation.patients,
        "all_findings": pooled,
        "findings": dict(zip(evaluation.names, single, strict=True)),
        "only_detected": evaluation.only_detected,
        "image": {
            "roc_auc": evaluation.per_finding[POOLED].auc,
            "average_precision": evaluation.image_precision,
            "ece": evaluation.calibration.ece,
            "reliability": list(evaluation.calibration.bins),
        },
        "mistakes": {
            "threshold": evaluation.threshold,
            "confusion": evaluation.confusion.tolist(),
            "sizes": list(evaluation.sizes),
        },
    }


def _froc_rows(evaluations: Evaluations) -> Iterable[dict[str, Any]]:
    for name, evaluation in evaluations.items():
        for finding, figures in evaluation.per_finding.items():
            for rate, point, alarms in zip(FP_RATES, figures.points, alarms_of(figures), strict=True):
                yield {
                    "checkpoint": name,
                    "finding": finding,
                    "rate": rate,
                    "false_positives_per_film": point.false_positives,
                    "false_positives_per_normal_film": alarms,
                    "sensitivity": point.sensitivity,
                    "low": point.low,
                    "high": point.high,
                    "threshold": point.threshold,
                }


def _finding_rows(evaluations: Evaluations) -> Iterable[dict[str, Any]]:
    for name, evaluation in evaluations.items():
        for finding, figures in evaluation.per_finding.items():
            estimates = estimates_of(figures)
            row = {"checkpoint": name, "finding": finding, "boxes": figures.boxes}
            row |= {"films": figures.films, "patients": figures.patients}
            for key in _FIGURES:
                row |= {key: estimates[key].value, f"{key}_low": estimates[key].low, f"{key}_high": estimates[key].high}
            yield row


def _write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    rows = list(rows)
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow(_cell(value) for value in row.values())


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""  # a rounded threshold would leave out the score it is
    return str(value)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def write_figures(path: Path, content: Any) -> None:
    """Write figures as JSON, in which what is undefined is null."""
    write_whole(path, json.dumps(plain_values(content), indent=1, ensure_ascii=False, allow_nan=False))


def plain_values(node: Any) -> Any:
    """Return dicts, lists and scalars; what is not finite is null, as JSON has neither NaN nor infinity."""
    if is_dataclass(node) and not isinstance(node, type):
        return plain_values(asdict(node))
    if isinstance(node, Mapping):
        return {str(key): plain_values(value) for key, value in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [plain_values(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
