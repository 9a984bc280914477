"""One self-contained page of an evaluation: what the figures are, what they mean, and the films that went wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from cxr.data.dataset import RadiographDataset
from cxr.detect.prediction import printed_threshold
from cxr.files import write_whole
from cxr.findings import FindingVocabulary
from cxr.fonts.page import font_face
from cxr.measure.average_precision import only_detected_in_words
from cxr.measure.evaluation import POOLED, WORKING_RATE, Evaluation
from cxr.measure.froc import FP_RATES
from cxr.measure.intervals import Estimate
from cxr.report.evaluate_cards import worst_films
from cxr.report.evaluate_figures import evaluation_figures
from cxr.report.evaluate_tables import DIFFERENCES, Evaluations, estimates_of, screening_label, shown, verdict
from cxr.report.explain_cards import data_uri

_STYLE = """
section h3 { margin-top: 28px; } figcaption h3 { margin: 0; } section > p { margin-bottom: 10px; }
.plot { display: block; width: 100%; margin: 14px 0 4px; border-radius: 6px; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 500px), 1fr)); gap: 0 36px; }
.film img { display: block; width: 100%; height: auto; }
th { overflow-wrap: normal; } tbody th { white-space: normal; min-width: 9em; max-width: 24em; } td { padding-left: 0; }
"""
_READABLE = 0.62  # of its size, a figure's letters can still be read; on a narrower page it scrolls

# Name of a figure → its heading, and what it shows in words for one who has never seen such a curve.
_FIGURES = {
    "froc": (
        "Found boxes against false alarms (FROC)",
        "Lowering the score from which detections are shown finds more of what readers marked (up) and raises more"
        " false alarms on each film (right). Dots are the rates of the table above, their bars the 95 % interval. A"
        " curve that stops before the right edge has no more detections to give.",
    ),
    "precision_recall": (
        "Precision and recall of the boxes",
        "Of the detections shown, how many are right (up), against how many of the marked boxes they find (right)."
        " Average precision is the area under it. Unlike the FROC it does not say on how many films the wrong ones"
        " lie.",
    ),
    "roc": (
        "Is the film normal? (ROC)",
        "One score a film. The curve shows what share of abnormal films is called abnormal (up) where a share of normal"
        " films is called so too (right). 0.5 of area is chance (dotted), 1 is perfect.",
    ),
    "reliability": (
        "Can the score be read as a probability?",
        "Films in bins of like score. On the dotted line, of films scored 0.8 eight in ten are abnormal. The scores of"
        " detectors seldom lie there: read them as an order, not as a chance, where the dots are off the line. ECE is"
        " the mean distance.",
    ),
    "confusion": (
        "Which findings are taken for others",
        "Rows are what readers marked, columns what was detected at the same place; the diagonal is right. The last"
        " column holds marked boxes that nothing found, the last row detections where nothing is marked.",
    ),
    "sizes": (
        "Large and small boxes",
        "Share of the marked boxes that are found, by how much of the film they cover; bars are exact 95 % intervals.",
    ),
}


@dataclass(frozen=True)
class LeftOut:
    """A line for each film that is in no figure: it could not be read, or the detector's answer is not finite."""

    unreadable: Sequence[str] = ()
    failed: Sequence[str] = ()


def evaluate_page(
    folder: Path,
    evaluations: Evaluations,
    differences: Mapping[str, Estimate],
    films: RadiographDataset,
    about: Mapping[str, str],
    warnings: Sequence[str],
    left_out: LeftOut,
) -> Path:
    """Draw ``figures/*.png`` and write ``index.html``: one file that needs no network and shows pseudonyms only.

    Args:
        folder: of the run.
        evaluations: one or two, by the letter of their checkpoint.
        differences: of the second over the first, by name (``DIFFERENCES``); may be empty.
        films: of the results, in the same order.
        about: what the models and the data were, heading → text.
        warnings: what has to be known before any figure is believed.
        left_out: the films without figures, which are named by pseudonyms and numbers.
    """
    plots = evaluation_figures(folder / "figures", evaluations)
    body = [
        "<h1>How good is the detector?</h1>",
        "<p class=warning>Research software, not a diagnosis. The figures hold for films like these alone.</p>",
        *(f"<p class=warning><strong>{escape(line)}</strong></p>" for line in warnings),
        _contents(bool(differences)),
        "<main>",
        _comparison(differences) if differences else "",
        _boxes(evaluations, plots),
        _images(evaluations, plots),
        _mistakes(evaluations, plots),
        *(worst_films(evaluation, films, _of(name, evaluations)) for name, evaluation in evaluations.items()),
        _about(about, left_out),
        "</main>",
    ]
    path = folder / "index.html"
    write_whole(path, _document("\n".join(body)))
    return path


def _document(body: str) -> str:
    style = (files("cxr.report") / "assets" / "explain.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<title>How good is the detector?</title><style>{style}{_STYLE}{font_face(body)}</style></head>
<body>
{body}
</body></html>
"""


def _contents(compared: bool) -> str:
    parts = {"comparison": "A against B"} if compared else {}
    parts |= {"boxes": "Boxes", "images": "Normal or abnormal", "mistakes": "Mistakes", "about": "Model and data"}
    return f"<nav>{''.join(f'<a href=#{key}>{text}</a>' for key, text in parts.items())}</nav>"


def _comparison(differences: Mapping[str, Estimate]) -> str:
    rows = {DIFFERENCES[name]: [shown(e, signed=True), verdict(e)] for name, e in differences.items()}
    return (
        "<section id=comparison><h2>Is B better than A?</h2><p>By how much checkpoint B exceeds A on the same films,"
        " with the interval of that difference: the same patients are drawn again for both. Where it leaves out 0, the"
        f" difference is real at the 5 % level.</p>{_table('', ['B − A', ''], rows)}</section>"
    )


def _boxes(evaluations: Evaluations, plots: Mapping[str, Path]) -> str:
    """Tables of each finding and of the FROC, with the curves."""
    parts = ["<section id=boxes><h2>Boxes</h2>"]
    columns = [
        "boxes",
        "films",
        "AP50",
        "AP40",
        "AP50:95",
        "sensitivity at 1 false positive a film",
        "found at all",
        "AUC of the film",
    ]
    keys = ("ap50", "ap40", "ap", "sensitivity@1fp", "recall", "auc")
    for name, evaluation in evaluations.items():
        rows = {}
        for finding in (*evaluation.names, POOLED):
            own = evaluation.per_finding[finding]
            told = estimates_of(own)
            cells = [str(own.boxes), str(own.films), *(_cell(told[key]) for key in keys)]
            rows[_name(evaluation.findings, finding)] = cells
        unmarked = only_detected_in_words(evaluation.only_detected, evaluation.findings)
        parts.append(
            f"{_heading(name, evaluations)}<p>{_counted(evaluation)}</p>{_table('finding', columns, rows)}"
            f"<p class=quiet>All findings: AP is the mean over the findings that somebody marked. {escape(unmarked)}"
            " Sensitivity pools the boxes. – could not be measured; a figure without brackets has no"
            " interval, as in every resample of the patients it was the same.</p>"
        )
        parts.append(_froc_table(evaluation))
    parts += [_plot("froc", plots), _plot("precision_recall", plots), "</section>"]
    return "".join(parts)


def _froc_table(evaluation: Evaluation) -> str:
    """The pooled FROC: sensitivity with its interval, the threshold behind it, and alarms on normal films."""
    own = evaluation.per_finding[POOLED]
    rows = {}
    for rate, point in zip(FP_RATES, own.points, strict=True):
        at = own.curve.thresholds.tolist().index(point.threshold)
        told = Estimate(point.sensitivity, point.low, point.high, own.boxes)
        alarms = shown(Estimate(float(own.curve.normal_false_positives[at]), np.nan, np.nan, evaluation.normal))
        rows[f"{rate:g}"] = [_cell(told), f"{point.threshold:.4f}", f"{point.false_positives:.3f}", alarms]
    columns = ["sensitivity", "score threshold", "really reached", "on a normal film"]
    return f"<h3>All findings together</h3>{_table('false positives a film, at most', columns, rows)}"


def _images(evaluations: Evaluations, plots: Mapping[str, Path]) -> str:
    """The film as a whole: area, calibration, and screening."""
    parts = ["<section id=images><h2>Normal or abnormal</h2>"]
    parts.append(
        "<p>A film is abnormal where its readers marked anything at all. Screening puts films aside as normal that"
        " score below the operating point; whether that was chosen on these films is said under model and data. NPV and"
        " PPV depend on how many films are abnormal: they are stated for named shares, not for these films.</p>"
    )
    for name, evaluation in evaluations.items():
        rows = {
            "area under the ROC curve": [_cell(evaluation.per_finding[POOLED].auc)],
            "average precision": [_cell(evaluation.image_precision)],
            "calibration error (ECE)": [_cell(evaluation.calibration.ece)],
        }
        if evaluation.screening is not None:
            rows |= {screening_label(key): [_cell(e)] for key, e in evaluation.screening.figures.items()}
        parts += [_heading(name, evaluations), _point(evaluation), _table("", ["with its 95 % interval"], rows)]
    parts.append(f"<div class=beside>{_plot('roc', plots)}{_plot('reliability', plots)}</div></section>")
    return "".join(parts)


def _point(evaluation: Evaluation) -> str:
    point = evaluation.point
    if point is None:
        return "<p><strong>No operating point: screening was not measured.</strong></p>"
    promised = shown(point.sensitivity_on_validation)
    return (
        f"<p>Operating point: films scored below {printed_threshold(point.threshold):.6g} are put aside. Wanted was a"
        f" sensitivity of {point.wanted_sensitivity:g}; on the {point.films} films it was chosen on ({point.abnormal}"
        f" abnormal, {point.patients} patients) it was {promised}."
        + (
            " Too few for certainty: it is the highest threshold that missed none of them.</p>"
            if point.limited
            else "</p>"
        )
    )


def _mistakes(evaluations: Evaluations, plots: Mapping[str, Path]) -> str:
    return (
        "<section id=mistakes><h2>Mistakes</h2><p>Counted at the score threshold that gives"
        f" {WORKING_RATE:g} false positives a film: "
        + ", ".join(f"{e.threshold:.4f}{_of(name, evaluations)}" for name, e in evaluations.items())
        + f".</p>{_plot('confusion', plots)}{_plot('sizes', plots)}</section>"
    )


def _about(about: Mapping[str, str], left_out: LeftOut) -> str:
    lines = "".join(f"<dt>{escape(heading)}</dt><dd>{escape(text)}</dd>" for heading, text in about.items())
    films = _listed("Films that could not be read", left_out.unreadable)
    films += _listed("Films that failed: their result is not finite", left_out.failed)
    films = films or "<p class=quiet>Every film could be read and has a result.</p>"
    return f"<section id=about><h2>Model and data</h2><dl>{lines}</dl>{films}</section>"


def _listed(heading: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h3>{heading} ({len(lines)})</h3><ul>{items}</ul>" if items else ""


def _counted(evaluation: Evaluation) -> str:
    return f"{evaluation.films} films of {evaluation.patients} patients, {evaluation.normal} of them normal."


def _heading(name: str, evaluations: Evaluations) -> str:
    return f"<h3>Checkpoint {name}</h3>" if len(evaluations) > 1 else ""


def _of(name: str, evaluations: Evaluations) -> str:
    return f" for checkpoint {name}" if len(evaluations) > 1 else ""


def _name(findings: FindingVocabulary, finding: str) -> str:
    if finding == POOLED:
        return "<strong>all findings</strong>"
    english, chinese = escape(findings.label(finding)), escape(findings.label(finding, "zh"))
    return english if english == chinese else f"{english} <small>{chinese}</small>"


def _cell(estimate: Estimate) -> str:
    value, _, interval = shown(estimate).partition(" ")
    return f"{value} <small>{interval}</small>" if interval else value


def _plot(name: str, plots: Mapping[str, Path]) -> str:
    heading, words = _FIGURES[name]
    source, width = data_uri(plots[name].read_bytes(), "image/png"), _width(plots[name])
    size = f"min-width:{_READABLE * width:.0f}px;max-width:{width}px"
    return (
        f"<div><h3>{heading}</h3><p>{words}</p><div class=scroll role=region tabindex=0 aria-label='{escape(heading)}'>"
        f"<img class=plot style='{size}' alt='{escape(heading)}' src='{source}'></div></div>"
    )


def _width(path: Path) -> int:
    with Image.open(path) as plot:
        return plot.width


def _table(corner: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A table of markup, which scrolls by itself where the page is narrow."""
    head = "".join(f"<th scope=col>{column}</th>" for column in (corner, *columns))
    body = "".join(
        f"<tr><th scope=row>{heading}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for heading, cells in rows.items()
    )
    label = f" aria-label='{corner}'" if corner else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class=scroll role=region tabindex=0{label}>{table}</div>"
