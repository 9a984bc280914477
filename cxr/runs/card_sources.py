"""What a model card is made of: the run's provenance, and the notes that evaluate.py and explain.py have left."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr.config.run_files import RESULT
from cxr.explain.scores import ALL
from cxr.report.model_card import CHECKPOINT, FREEZING, TRAINING, escaped, figures_at
from cxr.report.without_paths import command_without_paths
from cxr.runs.ensemble_file import FILE
from cxr.runs.measured_notes import EVALUATION, EXPLANATION, FOLDER, call_of, read_notes
from cxr.runs.named_detector import BEST, NamedDetector
from cxr.runs.out_of_fold import OUT_OF_FOLD
from cxr.runs.provenance import PROVENANCE
from cxr.runs.restored_network import of_studies

_OF_BOXES = ("ap50", "ap40", "ap", "recall", "sensitivity@1fp", "auc")
_OF_IMAGES = ("roc_auc", "average_precision", "ece")


@dataclass
class Noted:
    """What the notes of a script say, and where each is from.

    Args:
        entries: a note each, as the card has it.
        sources: name → file and command.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)


def commands_for(named: NamedDetector) -> dict[str, str]:
    """Return what to type for the figures that a detector's card may lack, by the name of the figures."""
    if of_studies(named.members[0]) or not all(member.films for member in named.members):
        return {}
    ckpt = "ckpt=RUN" if named.folder is not None else f"ckpt=RUN/{BEST}"
    folds = named.folder is not None and all(_folds(member.config) for member in named.members)
    evaluate, explain = " ".join(call_of(EVALUATION)), " ".join(call_of(EXPLANATION))
    return {
        "evaluate": f"{evaluate} {ckpt}{f' split={OUT_OF_FOLD}' if folds else ''}",
        "evaluate_elsewhere": f"{evaluate} {ckpt} data=course data.root=FOLDER split=all",
        "explain": f"{explain} {ckpt}",
    }


def sources_of(named: NamedDetector, home: Path) -> dict[str, dict[str, Any]]:
    """Return the sources of what training has left: its figures, the checkpoints, and what a sweep has frozen."""
    run = named.members[0].path.absolute().parent.parent
    sessions = _sessions(run / PROVENANCE)
    last: Mapping[str, Any] = sessions[-1] if sessions else {}
    words = [str(word) for word in last.get("command", [])]
    called = [call_of("train")[0], *words] if words[:1] == ["train.py"] else words
    trained = {
        "command": command_without_paths(called),
        "git": last.get("git"),
        "versions": last.get("versions", dict(named.members[0].versions)),
        "sessions": len(sessions),
        "films": last.get("films"),
        "unreadable": len(last.get("unreadable", [])),
    }
    sources = {TRAINING: {"file": RESULT, **trained}, CHECKPOINT: {"file": str(BEST), **trained}}
    if named.folder is not None:
        sources = {CHECKPOINT: {"file": "", **trained}}
        frozen_by = next((note for _, note in read_notes(home, named, EVALUATION) if note["digest"] is None), {})
        sources |= {FREEZING: {"file": FILE, "command": frozen_by.get("command", "")}} if named.frozen else {}
    return sources


def evaluations(home: Path, named: NamedDetector) -> Noted:
    """Return the evaluations of a detector that its home has notes of, the most telling one first.

    That is one on the detector's own data and on films it was not trained on: its test films, or each film out of fold.
    """
    noted = Noted()
    for name, note in read_notes(home, named, EVALUATION):
        noted.entries.append(_evaluation(name, note))
        noted.sources[name] = _source(name, note)
    order = {"test": 0, OUT_OF_FOLD: 1}
    noted.entries.sort(
        key=lambda one: (bool(one["seen"]["trained_on"]), one["external"], order.get(one["split"], 2), one["source"])
    )
    return noted


def explanations(home: Path, named: NamedDetector) -> Noted:
    """Return how good the maps of a detector are, as its home has notes of it."""
    noted = Noted()
    for name, note in read_notes(home, named, EXPLANATION):
        figures = [
            {"method": row["method"], "name": row["figure"], "finding": "", **_numbers(row), "n": row["patients"],
             "source": name, "at": f"/scores/{place}"}
            for place, row in enumerate(note["scores"])
            if row["finding"] == ALL
        ]  # fmt: skip
        sanity = [
            {"method": method, "name": part, "value": value, "source": name, "at": f"/sanity/{method}/{part}"}
            for method, parts in note["sanity"].items()
            for part, value in parts.items()
        ]
        noted.entries.append({"source": name, "films": note["films"], "figures": figures, "sanity": sanity})
        noted.sources[name] = _source(name, note)
    return noted


def _evaluation(name: str, note: Mapping[str, Any]) -> dict[str, Any]:
    letter, metrics = note["letter"], note["metrics"]
    here, place = metrics["checkpoints"][letter], f"/metrics/checkpoints/{letter}"
    screening = note["screening"][letter]
    figures = figures_at(name, f"{place}/all_findings", here["all_findings"], _OF_BOXES)
    figures += figures_at(name, f"{place}/image", here["image"], _OF_IMAGES)
    for finding, values in here["findings"].items():
        figures += figures_at(name, f"{place}/findings/{finding}", values, _OF_BOXES, finding)
    screened = screening["figures"] or {}
    return {
        "source": name,
        "split": note["split"],
        "external": note["external"],
        "settings": note["settings"],
        "counts": {
            "films": here["films"],
            "patients": here["patients"],
            "normal": here["normal_films"],
            "findings": {
                finding: {key: values[key] for key in ("boxes", "films", "patients")}
                for finding, values in here["findings"].items()
            },
        },
        "left_out": _left_out(metrics["films"]),
        "seen": here["these_films"],
        "figures": figures,
        "froc": {"source": name, "at": f"{place}/all_findings/froc", "points": here["all_findings"]["froc"]},
        "reliability": {"source": name, "at": f"{place}/image/reliability", "bins": here["image"]["reliability"]},
        "screening": {
            "from": screening["from"],
            "figures": figures_at(name, f"/screening/{letter}/figures", screened, screened),
        },
        "folds": len(here.get("folds", [])),
        "subgroups": _subgroups(name, f"{place}/subgroups", here.get("subgroups")),
        "shift": _shift(here.get("shift")),
        "promises": [
            {"of": one["of"], "level": one["promise"]["level"], **_estimate_of(one["risk"]), "source": name,
             "at": f"{place}/promises/{n}/risk"}
            for n, one in enumerate(here.get("promises", []))
        ],
    }  # fmt: skip


def _subgroups(source: str, place: str, measured: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the figures of groups of films, each with its place; None where none were measured."""
    if measured is None:
        return None
    groups = []
    for kind, named in measured["kinds"].items():
        for group, of in named.items():
            at = f"{place}/kinds/{escaped(kind)}/{escaped(group)}/figures"
            figures = [
                {
                    "name": name,
                    "finding": "",
                    **_estimate_of(beside["value"]),
                    "source": source,
                    "at": f"{at}/{name}/value",
                    "difference": beside["difference"]["value"],
                    "p_holm": beside["p_holm"],
                    "differs": beside["differs"],
                }
                for name, beside in of["figures"].items()
            ]
            groups.append(
                {"kind": kind, "group": group, "films": of["films"], "patients": of["patients"], "figures": figures}
            )
    kept = {key: measured[key] for key in ("least_patients", "tests", "all_films", "all_in_one_group")}
    return {**kept, "groups": groups}


def _shift(measured: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return whether the films differed from those that the detector was chosen on; None where nobody asked."""
    if measured is None:
        return None
    return {key: value for key, value in measured.items() if key != "in_words"}


def _estimate_of(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value[key] for key in ("value", "low", "high", "n", "reason")}


def _left_out(films: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many films of an evaluation were not measured, in which its lines name no film."""
    refused = films.get("not_assessed") or {"films": 0, "by_reason": {}}
    counts = {key: len(films[key]) for key in ("failed", "unreadable")}
    return {**counts, "not_assessed": refused["films"], "by_reason": refused["by_reason"]}


def _source(name: str, note: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: note.get(key) for key in ("command", "git", "versions", "data")}
    return {"file": f"{FOLDER}/{name}.json", **kept}


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("value", "low", "high")}


def _sessions(path: Path) -> list[dict[str, Any]]:
    """Return what is known of the processes that trained a run; [] where their list is absent or damaged."""
    try:
        sessions = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [one for one in sessions if isinstance(one, dict)] if isinstance(sessions, list) else []


def _folds(config: Mapping[str, Any]) -> bool:
    data = config.get("data")
    return isinstance(data, Mapping) and bool(data.get("folds"))
