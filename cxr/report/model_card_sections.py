"""The sections of a model card that say what the model, its use and its data are."""

from collections.abc import Mapping, Sequence
from typing import Any

from cxr.data.groups import KINDS
from cxr.report.model_card_blocks import Block, CardWords, with_interval
from cxr.report.page import Row
from cxr.report.subgroup_tables import group_label, kind_label


def detail_blocks(one: CardWords) -> list[Block]:
    """Return section 1: model details."""
    facts, model, training = one.say["facts"], one.frozen["model"], one.frozen["training"]
    licence, members = one.card["licence"], model["members"]
    kind = one.say["any_kind"] if model["kind"] is None else model["kind"]
    takes = one.say["cube" if model["task"] == "study" else "px"]
    digests = ", ".join(member["checkpoint"] for member in members)
    lines = {
        facts["network"]: model["name"],
        facts["takes"]: takes.format(kind=kind, size=one.known(model["size"])),
        facts["parameters"]: f"{model['parameters']:,}",
        facts["begun_from"]: model["begun_from"],
        facts["intensity"]: " → ".join(model["intensity"]),
        facts["epochs"]: one.known(training["epochs"]),
        facts["chosen_by"]: one.known(training["chosen_by"]),
        facts["optimizer"]: one.say["optimizer_of"].format(
            optimizer=one.known(training["optimizer"]),
            rate=one.known(training["learning_rate"]),
            scheduler=one.known(training["scheduler"]),
        ),
        facts["batch_size"]: one.known(training["batch_size"]),
        facts["precision"]: one.known(training["precision"]),
        facts["augment"]: ", ".join(training["augment"]) or one.say["none"],
        facts["seed"]: one.known(training["seed"]),
        facts["digest"]: model["digest"],
        facts["licence"]: ", ".join(dict.fromkeys((licence["program"], licence["network"]))),
        facts["licence_weights"]: one.say["for_you"],
        facts["contact"]: one.say["for_you"],
    }
    if len(members) > 1:
        lines[facts["ensemble"]] = one.say["ensemble_of"].format(
            members=len(members), views=len(model["views"]), digests=digests
        )
    return [Block("facts", facts=lines), one.refs("checkpoint")]


def use_blocks(one: CardWords) -> list[Block]:
    """Return section 2: what the model is for, and what it is not for."""
    say = one.say["use"]
    return [
        one.heading("2.1", say["for"]),
        Block("text", say[one.frozen["model"]["task"]]),
        one.for_you(say["users"]),
        one.heading("2.2", say["not_for"]),
        Block("list", lines=[_limit(one, limit) for limit in one.card["limits"]], style="limits"),
    ]


def _limit(one: CardWords, limit: Mapping[str, Any]) -> str:
    """Return a limit as a sentence: findings and groups by their names in the page's language."""
    filled = dict(limit)
    if "findings" in limit:
        filled["findings"] = one.labels(limit["findings"])
    if "groups" in limit:
        kind = limit.get("kind", "machine")
        filled["groups"] = one.say["between"].join(group_label(kind, name, one.language) for name in limit["groups"])
    if "kind" in limit:
        filled["kind"] = kind_label(limit["kind"], one.language)
    text = one.say["limits"][filled.pop("code")].format(**filled)
    return str(text).rstrip(" :")


def factor_blocks(one: CardWords) -> list[Block]:
    """Return section 3: the groups that the training films are of."""
    groups = one.frozen["groups"]
    if groups is None:
        known = "no_groups" if one.frozen["model"]["task"] == "detection" else "groups_of_films"
        return [Block("text", one.say[known], style="missing")]
    rows = [
        Row(one.group(kind, name), [str(counts["films"]), str(counts["patients"])])
        for kind in KINDS
        for name, counts in groups["kinds"][kind].items()
    ]
    lead = one.say["groups_lead"].format(least=groups["least_patients"])
    return [Block("text", lead), Block("table", columns=one.say["group_columns"], rows=rows), one.refs("checkpoint")]


def metric_blocks(one: CardWords) -> list[Block]:
    """Return section 4: what each figure of the card means, and how its interval is made."""
    measured, say = one.card["measured"], one.say
    figures = [*measured["training"]] if not measured["evaluations"] else []
    for evaluation in measured["evaluations"]:
        figures += [*evaluation["figures"], *evaluation["screening"]["figures"]]
    known = map(one.metric_words, dict.fromkeys(figure["name"] for figure in figures))
    meanings = dict(words for words in known if words is not None)
    blocks = [Block("facts", facts=meanings)]
    if measured["evaluations"]:
        settings = measured["evaluations"][0]["settings"]
        rule = say["metric_rules"].get(settings["rule"], settings["rule"])
        blocks += [Block("text", rule), Block("text", say["intervals"].format(**settings))]
    elif any(figure.get("low") is not None for figure in figures):
        blocks.append(Block("text", say["intervals_of_training"]))
    return blocks


def evaluation_blocks(one: CardWords) -> list[Block]:
    """Return section 5: the films that the figures were measured on."""
    evaluations, say = one.card["measured"]["evaluations"], one.say
    if not evaluations:
        text = Block("text", say["tested_with_training"] if one.card["measured"]["training"] else say["not_measured"])
        return [text, one.missing("evaluate")] if "evaluate" in one.card["to_measure"] else [text]
    rows, blocks = [], []
    for evaluation in evaluations:
        counts, left_out = evaluation["counts"], evaluation["left_out"]
        where = say["other_data"] if evaluation["external"] else say["own_data"]
        split = say["split_names"].get(evaluation["split"], evaluation["split"])
        left = left_out["failed"] + left_out["unreadable"] + left_out["not_assessed"]
        numbers = [str(counts[key]) for key in ("films", "patients", "normal")]
        rows.append(Row(f"{where}: {split}", [*numbers, str(left)]))
        seen = evaluation["seen"]
        point = "–" if seen["operating_point_chosen_on"] is None else seen["operating_point_chosen_on"]
        text = say["seen"].format(
            trained_on=seen["trained_on"], films=seen["films"], best_epoch=seen["best_epoch_chosen_on"], point=point
        )
        blocks += [Block("text", f"{where}: {split}. {text}"), one.refs(evaluation["source"])]
    return [Block("table", columns=say["evaluation_columns"], rows=rows), *blocks]


def training_blocks(one: CardWords) -> list[Block]:
    """Return section 6: the data, their splits, and how often each finding is in them."""
    data, facts = one.frozen["data"], one.say["facts"]
    trained: Mapping[str, Any] = one.card["sources"].get("training") or one.card["sources"]["checkpoint"]
    split_by = one.say["split_by"]
    if data["folds"]:
        split_by = one.say["split_folds"].format(folds=data["folds"])
    lines = {
        facts["read_by"]: ", ".join(data["read_by"]),
        facts["fingerprint"]: ", ".join(data["fingerprints"]),
        facts["split_by"]: split_by,
        facts["left_out"]: str(trained["unreadable"]),
    }
    if data["drawn"]:
        lines[facts["drawn"]] = one.say["drawn_yes"]
    if data["normal_fraction"] is not None:
        lines[facts["normal_fraction"]] = str(data["normal_fraction"])
    return [Block("facts", facts=lines), *_split_tables(one, data["splits"], trained), one.refs("checkpoint")]


def _split_tables(one: CardWords, splits: Mapping[str, Any], trained: Mapping[str, Any]) -> list[Block]:
    if not splits:
        films = trained.get("films") or {}
        listed = ", ".join(f"{one.say['split_headings'].get(split, split)} {n}" for split, n in films.items())
        known = [Block("text", one.say["films_by_digest"].format(films=listed))] if films else []
        return [Block("text", one.say["no_splits"], style="missing"), *known]
    headings = [one.say["split_headings"][split] for split in splits]
    counted = ("items", "patients", "normal", "unmarked")
    by_split = [
        Row(heading, [str(counts[key]) for key in counted])
        for heading, counts in zip(headings, splits.values(), strict=True)
    ]
    by_finding = [
        one.row(name, [_prevalence(counts["findings"][name]) for counts in splits.values()])
        for name in one.findings.names
    ]
    return [
        Block("table", columns=["", *one.say["data_columns"]], rows=by_split),
        Block("text", one.say["data_lead"]),
        Block("table", columns=[one.say["data_findings"], *headings], rows=by_finding),
    ]


def _prevalence(counts: Mapping[str, int]) -> str:
    share = f"{100 * counts['items'] / counts['looked_for']:.1f} %" if counts["looked_for"] else "–"
    return f"{counts['items']} ({counts['boxes']})\n{share}"


def taught(one: CardWords) -> str:
    """Return on how many films of how many patients the model was trained."""
    splits, sources = one.frozen["data"]["splits"], one.card["sources"]
    counts = splits.get("train") or splits.get("in_folds")
    if counts is not None:
        are = one.say["items_are"]["study" if one.frozen["model"]["task"] == "study" else "film"]
        told = {key: counts[key] for key in ("items", "patients", "normal")}
        return str(one.say["trained_films"].format(**told, items_are=are))
    films = (sources["checkpoint"].get("films") or {}).get("train")
    return str(one.say["trained_unknown"].format(films=films)) if films else str(one.say["not_recorded"])


def point_in_words(one: CardWords, point: Mapping[str, Any]) -> str:
    """Return the operating point of screening as a sentence."""
    return str(
        one.say["point"].format(
            threshold=f"{point['threshold']:.4g}",
            films=point["films"],
            split=one.say["point_splits"].get(point["split"], point["split"]),
            abnormal=point["abnormal"],
            patients=point["patients"],
            wanted=point["wanted_sensitivity"],
            reached=with_interval(point["sensitivity_on_validation"]).replace("\n", " "),
        )
    )


def ethics_blocks(one: CardWords) -> list[Block]:
    """Return section 8: ethical considerations."""
    say, groups = one.say["ethics"], one.frozen["groups"]
    lines = [say["pseudonyms"], say["role"]]
    if groups is not None:
        lines.append(say["groups"].format(least=groups["least_patients"]))
    return [Block("list", lines=lines), one.for_you(say["for_you"])]


def caveat_blocks(one: CardWords) -> list[Block]:
    """Return section 9: caveats and recommendations."""
    say = one.say["caveats"]
    lines = [say[key] for key in ("source", "prevalence", "reader", "watch")]
    return [Block("list", lines=[*lines, say["renew"].format(command="python -m cxr card RUN")])]


def command_blocks(one: CardWords) -> list[Block]:
    """Return section A: each command that made a figure, with its file and the state of the program."""
    rows = []
    for place, (_, source) in enumerate(one.card["sources"].items(), start=1):
        rows.append(Row(f"[{place}]", [one.known(source["command"]), source["file"] or "–", _commit(one, source)]))
    versions = ", ".join(f"{name} {version}" for name, version in one.frozen["versions"].items())
    return [
        Block("text", one.say["run_is"]),
        Block("table", columns=one.say["command_columns"], rows=rows, style="commands"),
        Block("facts", facts={one.say["packages"]: versions}),
    ]


def _commit(one: CardWords, source: Mapping[str, Any]) -> str:
    git, version = source.get("git"), source.get("versions", {}).get("cxr")
    if not git:  # installed from a wheel
        return f"cxr {version}" if version else str(one.say["not_recorded"])
    commit = str(one.say["commit"]).format(commit=git["commit"][:12])
    return f"{commit}{one.say['modified']}" if git["modified"] else commit


def claim_blocks(one: CardWords) -> list[Block]:
    """Return section B: the items of CLAIM 2024, and where the card answers them."""
    say = one.say
    names: Sequence[str] = say["claim"]
    rows = [
        Row(str(item["item"]), [names[item["item"] - 1], say["statuses"][item["status"]], item["section"] or "–"])
        for item in one.card["claim"]
    ]
    return [Block("text", say["claim_lead"]), Block("table", columns=say["claim_columns"], rows=rows, style="claim")]
