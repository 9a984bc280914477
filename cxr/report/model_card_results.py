"""Section 7 of a model card: its figures, each with its interval and the command that made it."""

from collections.abc import Mapping, Sequence
from typing import Any

from cxr.report.model_card_blocks import Block, CardWords, by_name, with_interval
from cxr.report.model_card_groups import group_blocks
from cxr.report.model_card_plots import froc_picture, reliability_picture
from cxr.report.model_card_sections import point_in_words
from cxr.report.page import Row

_OF_BOXES = ("ap50", "ap", "sensitivity@1fp", "recall", "auc")
_OF_FILMS = ("roc_auc", "average_precision", "ece")
_MAIN = ("ap50", "map_50", "sensitivity@1fp", "auc", "roc_auc")
_MAPS = ("hit", "energy", "iou", "deletion", "insertion")


def main_figures(one: CardWords) -> list[Mapping[str, Any]]:
    """Return the few figures at the head of the card: those of the first evaluation, else of the training."""
    measured = one.card["measured"]
    figures = measured["evaluations"][0]["figures"] if measured["evaluations"] else measured["training"]
    pooled = by_name(figures)
    if "roc_auc" in pooled:  # of the film as normal or abnormal; the other area is the same one
        pooled.pop("auc", None)
    return [pooled[name] for name in _MAIN if name in pooled]


def results_blocks(one: CardWords) -> list[Block]:
    """Return section 7: quantitative analyses."""
    say, measured = one.say["results"], one.card["measured"]
    if measured["evaluations"]:
        figures = _evaluated(one, measured["evaluations"][0])
    else:
        figures = _trained(one, measured["training"])
    parts = [
        (say["point"], [*_point(one), *_promises(one)]),
        (say["subgroups"], group_blocks(one)),
        (say["explanations"], _explanations(one)),
    ]
    if len(measured["evaluations"]) > 1:
        parts.append((say["others"], _others(one, measured["evaluations"][1:])))
    first = say["boxes"] if measured["evaluations"] else say["training"]
    numbered = enumerate([(first, figures), *parts], start=1)
    return [block for n, (title, blocks) in numbered for block in (one.heading(f"7.{n}", title), *blocks)]


def _evaluated(one: CardWords, evaluation: Mapping[str, Any]) -> list[Block]:
    """Return the figures of boxes by finding, those of films as a whole, and two pictures."""
    say, source = one.say, evaluation["source"]
    columns = [say["data_findings"], say["boxes_column"], say["films_column"], *map(one.metric, _OF_BOXES)]
    rows = []
    for name in (*evaluation["counts"]["findings"], ""):
        figures = by_name(evaluation["figures"], name)
        counts = evaluation["counts"]["findings"].get(name)
        told = ["", ""] if counts is None else [str(counts["boxes"]), str(counts["films"])]
        rows.append(one.row(name, [*told, *(with_interval(figures.get(key, {})) for key in _OF_BOXES)]))
    of_films = by_name(evaluation["figures"])
    lines = [of_films[name] for name in _OF_FILMS if name in of_films]
    return [
        Block("table", columns=columns, rows=rows),
        one.refs(source),
        Block("picture", say["froc"], picture=froc_picture(evaluation["froc"]["points"], one.language)),
        Block("text", say["failures"]),
        one.refs(source),
        Block("text", say["results"]["films"], style="lead"),
        _figure_table(one, lines),
        one.refs(source),
        Block(
            "picture", say["reliability"], picture=reliability_picture(evaluation["reliability"]["bins"], one.language)
        ),
    ]


def _trained(one: CardWords, figures: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return what the test at the end of the training has measured, a line a finding."""
    if not figures:
        return [one.missing("evaluate")]
    names = list(dict.fromkeys(figure["name"] for figure in figures))
    of_findings = [name for name in names if any(f["finding"] and f["name"] == name for f in figures)]
    rows = []
    for finding in dict.fromkeys(figure["finding"] for figure in figures if figure["finding"]):
        here = by_name(figures, finding)
        rows.append(one.row(finding, [with_interval(here.get(name, {})) for name in of_findings]))
    blocks = [_figure_table(one, list(by_name(figures).values()))]
    if rows:
        columns = [one.say["data_findings"], *map(one.metric, of_findings)]
        blocks.append(Block("table", columns=columns, rows=rows))
    blocks.append(one.refs("training"))
    return [*blocks, one.missing("evaluate")] if "evaluate" in one.card["to_measure"] else blocks


def _figure_table(one: CardWords, figures: Sequence[Mapping[str, Any]]) -> Block:
    rows = [Row(one.metric(figure["name"]), [with_interval(figure)]) for figure in figures]
    return Block("table", columns=[one.say["figure_column"], one.say["value_column"]], rows=rows, style="narrow")


def _point(one: CardWords) -> list[Block]:
    """Return the operating point and thresholds that are frozen, and what screening reached on the films measured."""
    say, point, thresholds = one.say, one.frozen["operating_point"], one.frozen["thresholds"]
    frozen_in = "freezing" if "freezing" in one.card["sources"] else "checkpoint"
    blocks = [Block("text", say["limits"]["no_point"] if point is None else point_in_words(one, point))]
    if thresholds:
        text = say["study_thresholds" if one.frozen["model"]["task"] == "study" else "thresholds"]
        listed = say["between"].join(f"{one.label(name)} {score:.4g}" for name, score in thresholds.items())
        blocks.append(Block("text", text.format(thresholds=listed)))
    if point is not None:
        blocks.append(one.refs(frozen_in))
    for evaluation in one.card["measured"]["evaluations"][:1]:
        screening = evaluation["screening"]
        if screening["figures"]:
            lead = say["screening"].format(point_from=say["point_from"].get(screening["from"], screening["from"]))
            blocks += [Block("text", lead), _figure_table(one, screening["figures"]), one.refs(evaluation["source"])]
    return blocks


def _promises(one: CardWords) -> list[Block]:
    """Return the thresholds with a promise, and where there is none how many patients it would take."""
    say, promises = one.say, one.frozen["promises"]
    if promises is None:
        return [Block("text", say["no_promises"], style="missing")]
    evaluations = one.card["measured"]["evaluations"][:1]
    reached = {(here["of"], here["level"]): here for run in evaluations for here in run["promises"]}
    made = {**promises["findings"], "screening": promises["screening"]}
    levels = [say["at_most"].format(level=f"{100 * kept['level']:g} %") for kept in promises["screening"]]
    rows = []
    for name, kept in made.items():
        cells = [_promised(one, promise, reached.get((name, promise["level"]))) for promise in kept]
        rows.append(one.row(name, cells) if name in one.findings.names else Row(say["promise_rows"][name], cells))
    rates = [say["at_most"].format(level=f"{kept['level']:g}") for kept in promises["false_boxes"]]
    cells = [_promised(one, kept, reached.get(("false_boxes", kept["level"]))) for kept in promises["false_boxes"]]
    false = Row(say["promise_rows"]["false_boxes"], cells)
    split = say["point_splits"].get(promises["split"], promises["split"])
    frozen_in = "freezing" if "freezing" in one.card["sources"] else "checkpoint"
    return [
        Block("text", say["promises_lead"].format(films=promises["films"], split=split)),
        Block("table", columns=[say["promise_of"], *levels], rows=rows),
        Block("table", columns=["", *rates], rows=[false]),
        one.refs(frozen_in),
    ]


def _promised(one: CardWords, kept: Mapping[str, Any], reached: Mapping[str, Any] | None) -> str:
    """Return the threshold of a promise and what films lost by it, or how many patients a promise would take."""
    if kept["threshold"] is None:
        return str(one.say["never"] if kept["needed"] is None else one.say["needs"].format(n=kept["needed"]))
    lost = "" if reached is None else one.say["lost"].format(value=with_interval(reached).replace("\n", " "))
    return f"{kept['threshold']:.3g}\n{lost}".rstrip()


def _explanations(one: CardWords) -> list[Block]:
    """Return how good each method's maps are, and whether they follow the weights."""
    explained, say = one.card["measured"]["explanations"], one.say
    if one.frozen["model"]["task"] == "study":
        return [Block("text", say["no_explain_of_studies"], style="missing")]
    if not explained:
        return [one.missing("explain")]
    blocks = []
    for run in explained:
        methods = dict.fromkeys(figure["method"] for figure in run["figures"])
        rows = []
        for method in methods:
            here = {figure["name"]: figure for figure in run["figures"] if figure["method"] == method}
            rows.append(Row(method, [with_interval(here.get(name, {})) for name in _MAPS]))
        sanity = {
            figure["method"]: f"{figure['value']:.2f}" for figure in run["sanity"]
        }  # the last part is the deepest
        blocks += [
            Block("text", say["explain_lead"].format(films=run["films"])),
            Block("table", columns=say["explain_columns"], rows=rows),
            Block("text", say["sanity_lead"]),
            Block("facts", facts=sanity),
            one.refs(run["source"]),
        ]
    return blocks


def _others(one: CardWords, evaluations: Sequence[Mapping[str, Any]]) -> list[Block]:
    rows = []
    for evaluation in evaluations:
        figures, counts = by_name(evaluation["figures"]), evaluation["counts"]
        where = one.say["other_data"] if evaluation["external"] else one.say["own_data"]
        split = one.say["split_names"].get(evaluation["split"], evaluation["split"])
        numbers = [str(counts["films"]), str(counts["patients"]), str(evaluation["seen"]["trained_on"])]
        cells = [with_interval(figures.get(name, {})) for name in ("ap50", "sensitivity@1fp", "roc_auc")]
        rows.append(Row(f"{where}: {split}", [*numbers, *cells]))
    sources = [evaluation["source"] for evaluation in evaluations]
    return [Block("table", columns=one.say["other_columns"], rows=rows), one.refs(*sources)]
