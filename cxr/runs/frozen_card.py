"""The part of a model card that is frozen with the model: what follows from its checkpoints alone.

So its digest is the same wherever the checkpoints lie, and whatever is measured of them later. Reports name the card by
it (``cxr.report.algorithm``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cxr.detect.detector import name_of
from cxr.report.model_card import CARD_FORMAT, card_digest
from cxr.runs.checkpoint import Checkpoint
from cxr.runs.named_detector import NamedDetector

_TASKS = {
    "DetectionTask": "detection",
    "TeacherTask": "detection",
    "StudyTask": "study",
    "SuppressionTask": "suppression",
    "PretrainingTask": "pretraining",
}
_IN_FOLDS = "in_folds"


def card_id(named: NamedDetector) -> str:
    """Return the digest of the frozen part of a detector's card, 16 hexadecimal digits."""
    return card_digest(frozen_part(named))


def frozen_part(named: NamedDetector) -> dict[str, Any]:
    """Return what a detector's card says of it whatever is measured later: plain data without paths and names."""
    first, promises, reference = named.members[0], named.checkpoint.promises, named.checkpoint.reference
    return {
        "format": CARD_FORMAT,
        "model": _model(named),
        "training": _training(first.config),
        "data": _data(named),
        "findings": [
            {"name": one.name, "chinese": one.chinese, "codes": [list(code) for code in one.codes]}
            for one in first.findings.findings
        ],
        "operating_point": named.checkpoint.operating_point,
        "thresholds": named.thresholds or dict(first.thresholds) or None,
        "promises": promises and promises.as_dict(),
        "groups": first.groups,
        "reference": reference and {"films": reference.films, "features": list(reference.features)},
        "gate": _gate(named),
        "versions": dict(sorted(first.versions.items())),
    }


def _model(named: NamedDetector) -> dict[str, Any]:
    first = named.members[0]
    task = _last(first.config.get("task"))
    return {
        "name": " + ".join(dict.fromkeys(name_of(_node(member.config, "model")) for member in named.members)),
        "task": _TASKS.get(task, "other"),
        "kind": first.kind,
        "size": _node(first.config, "data").get("size"),
        "parameters": sum(value.numel() for value in first.state.values()),
        "begun_from": _initial_weights(_node(first.config, "model")),
        "intensity": _steps(_node(first.config, "data").get("intensity")),
        "members": [
            {"checkpoint": digest, "fold": _fold(member)}
            for member, digest in zip(named.members, named.digests, strict=True)
        ],
        "views": [asdict(view) for view in named.views],
        "digest": named.digest,
    }


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    optimizer, trainer, data = (_node(config, name) for name in ("optimizer", "trainer", "data"))
    augment = _node(config, "augment") or _node(data, "augment")
    changes = [_last(step) for kind in augment.values() if isinstance(kind, list) for step in kind]
    return {
        "epochs": trainer.get("max_epochs"),
        "chosen_by": config.get("monitor"),
        "optimizer": _last(optimizer),
        "learning_rate": optimizer.get("lr"),
        "scheduler": _last(config.get("scheduler")),
        "batch_size": data.get("batch_size"),
        "precision": trainer.get("precision"),
        "augment": changes,
        "seed": config.get("seed"),
    }


def _data(named: NamedDetector) -> dict[str, Any]:
    """Return which films the detector was trained on: the reader of their layout, and how many they are."""
    first = named.members[0]
    data = _node(first.config, "data")
    reader = data.get("read", data)
    names = [_last(reader)]
    if isinstance(reader, Mapping):
        sources = reader.get("sources")
        joined = sources.items() if isinstance(sources, Mapping) else ()
        names += [str(name) for name, source in joined if isinstance(source, Mapping) and source.get("root")]
    return {
        "read_by": [name for name in names if name],
        "drawn": "phantom" in _last(reader) or "Layered" in _last(data),
        "fingerprints": sorted({member.fingerprint for member in named.members}),
        "folds": data.get("folds"),
        "val_fraction": data.get("val_fraction"),
        "test_fraction": data.get("test_fraction"),
        "normal_fraction": data.get("normal_fraction"),
        "splits": _splits(named.members),
    }


def _splits(members: Sequence[Checkpoint]) -> dict[str, Any]:
    """Return the counts of each split; of members of other folds, those of train and val together as ``in_folds``."""
    counted = [dict(member.splits) for member in members]
    if not all(counted):
        return {}
    if all(one == counted[0] for one in counted):
        return counted[0]
    together = [_added(one["train"], one["val"]) for one in counted]
    same_test = all(one["test"] == counted[0]["test"] for one in counted)
    if not same_test or any(one != together[0] for one in together):
        return {}
    return {_IN_FOLDS: together[0], "test": counted[0]["test"]}


def _added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sum of two splits' counts. No patient is in both, so patients add up too."""
    return {
        key: _added(value, other[key]) if isinstance(value, Mapping) else value + other[key]
        for key, value in one.items()
    }


def _gate(named: NamedDetector) -> dict[str, Any]:
    """Return what the gate in front of the detector asks a film (``cxr.read.chest_films``)."""
    known, size = named.checkpoint.known, _node(named.members[0].config, "data").get("size")
    return {
        "least_px": [size // 2, size // 4] if isinstance(size, int) else None,
        "learnt_from": known[0].films if known else 0,
        "limit_chosen_on": known[0].chosen_on if known else 0,
    }


def _initial_weights(model: Mapping[str, Any]) -> str:
    """Return what the weights were before the training: "random", the name of published ones, or "a file"."""
    for part in (model, _node(model, "backbone")):
        weights = part.get("weights") or part.get("published")
        if weights:
            text = str(weights)
            return "a file" if "/" in text or "\\" in text or text.endswith((".ckpt", ".pt", ".pth")) else text
    return "random"


def _steps(intensity: Any) -> list[str]:
    """Return the steps from stored values to the detector's grey values, each with its numbers."""
    steps = intensity.get("steps") if isinstance(intensity, Mapping) else None
    return [_step(step) for step in (steps if isinstance(steps, list) else [intensity]) if isinstance(step, Mapping)]


def _step(step: Mapping[str, Any]) -> str:
    numbers = (f"{key} {value:g}" for key, value in step.items() if type(value) in (int, float))
    return " ".join([_last(step), *numbers])


def _fold(member: Checkpoint) -> int | None:
    fold = _node(member.config, "data").get("fold")
    return fold if isinstance(fold, int) and _node(member.config, "data").get("folds") else None


def _node(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    node = config.get(name)
    return node if isinstance(node, Mapping) else {}


def _last(node: Any) -> str:
    """Return the last word of what a node of a config calls; "" where it calls nothing."""
    return str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, Mapping) else ""
