"""Section 7 of a model card on groups of films, and on films that differ from those that the model was chosen on."""

from collections.abc import Mapping
from typing import Any

from cxr.data.groups import NOT_STATED, TOO_FEW
from cxr.report.model_card_blocks import Block, CardWords, number, with_interval
from cxr.report.model_card_plots import forest_picture
from cxr.report.page import Row
from cxr.report.words import words

_DRAWN = "sensitivity@1fp"


def group_blocks(one: CardWords) -> list[Block]:
    """Return the figures of groups of films, and whether the films that were measured differ from others."""
    evaluation = next(iter(one.card["measured"]["evaluations"]), None)
    measured = None if evaluation is None else evaluation["subgroups"]
    blocks = [one.missing("evaluate")]
    if evaluation is not None and measured is not None:
        blocks = [*_groups(one, measured), one.refs(evaluation["source"])]
        blocks += [Block("text", _shift(one, evaluation["shift"])), one.refs(evaluation["source"])]
    reference = one.frozen["reference"]
    if reference is None:
        return [*blocks, Block("text", one.say["no_shift"], style="missing")]
    names = words(one.language)["shift"]["features"]
    features = one.say["between"].join(names.get(name, name) for name in reference["features"])
    text = one.say["shift_reference"].format(films=reference["films"], features=features)
    return [*blocks, Block("text", text), one.refs("checkpoint")]


def _groups(one: CardWords, measured: Mapping[str, Any]) -> list[Block]:
    groups, say = measured["groups"], one.say
    differing = [
        say["subgroups_differ"].format(
            group=one.group(group["kind"], group["group"]),
            figure=one.metric(figure["name"]),
            difference=f"{figure['difference']:+.3f}",
            p=f"{figure['p_holm']:.3g}",
            tests=measured["tests"],
        )
        for group in groups
        for figure in group["figures"]
        if figure["differs"]
    ]
    none = "subgroups_none_differ" if groups else "subgroups_none"
    lines = differing or [say[none].format(tests=measured["tests"], least=measured["least_patients"])]
    ones = {kind: name for kind, name in measured["all_in_one_group"].items() if name not in (NOT_STATED, TOO_FEW)}
    alone = [say["alone"].format(group=one.group(*pair)) for pair in ones.items()]
    told = Block("list", lines=[*lines, *alone])
    if not groups:
        return [told]
    lead = Block("text", say["subgroups_lead"].format(least=measured["least_patients"]))
    return [lead, told, _table(one, groups), _forest(one, measured)]


def _table(one: CardWords, groups: list[Mapping[str, Any]]) -> Block:
    names = list(dict.fromkeys(figure["name"] for group in groups for figure in group["figures"]))
    rows = []
    for group in groups:
        here = {figure["name"]: figure for figure in group["figures"]}
        cells = [_marked(here.get(name, {})) for name in names]
        heading = one.group(group["kind"], group["group"])
        rows.append(Row(heading, [str(group["films"]), str(group["patients"]), *cells]))
    return Block("table", columns=[*one.say["group_columns"], *map(one.metric, names)], rows=rows)


def _marked(figure: Mapping[str, Any]) -> str:
    text, told = with_interval(figure), number(figure.get("value"))
    return text.replace(told, f"{told}*", 1) if figure.get("differs") else text


def _forest(one: CardWords, measured: Mapping[str, Any]) -> Block:
    lines = [
        (f"{one.group(group['kind'], group['group'])} ({group['patients']})", figure)
        for group in measured["groups"]
        for figure in group["figures"]
        if figure["name"] == _DRAWN
    ]
    return Block("picture", one.say["forest"], picture=forest_picture(lines, measured["all_films"].get(_DRAWN)))


def _shift(one: CardWords, shift: Mapping[str, Any] | None) -> str:
    """Return whether the films that were measured differ from those that the model was chosen on."""
    say = one.say
    if shift is None or "differs" not in shift:
        return str(say["shift_unknown"])
    if not shift["can_tell"]:
        return str(say["shift_cannot_tell"])
    if not shift["differs"]:
        rate = f"{100 * shift['false_alarm_rate']:g} %"
        return str(say["shift_same"].format(films=shift["films"], reference=shift["reference_films"], rate=rate))
    names = words(one.language)["shift"]["features"]
    changed = [names.get(name, name) for name, feature in shift["features"].items() if feature["differs"]]
    return str(say["shift_differs"].format(features=say["between"].join(changed)))
