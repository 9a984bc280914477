"""A model card with everything on it that one can have, of a detector with one finding."""

from typing import Any

from cxr.report.model_card import model_card

ESTIMATE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "reason": ""}
_POINT = {
    "threshold": 0.2, "wanted_sensitivity": 0.99, "films": 50, "abnormal": 40, "patients": 45, "split": "val",
    "limited": True, "sensitivity_on_validation": ESTIMATE, "cleared_share": ESTIMATE,
}  # fmt: skip
_SEEN = {"films": 9, "trained_on": 0, "best_epoch_chosen_on": 0, "operating_point_chosen_on": 0}


def full_card(network: str, finding: str, chinese: str) -> dict[str, Any]:
    """Return the card of a network, whose name and finding may be any text."""
    counts = {"items": 9, "patients": 9, "normal": 4, "unmarked": 0}
    splits = {
        split: {**counts, "findings": {finding: {"items": 5, "boxes": 6, "looked_for": 9}}}
        for split in ("train", "val", "test")
    }
    held = [{"level": level, "threshold": 0.3, "patients": 9, "risk": 0.1, "needed": None} for level in (0.05, 0.1)]
    frozen = {
        "format": 1,
        "model": {
            "name": network, "task": "detection", "kind": "radiograph", "size": 256, "parameters": 12345,
            "begun_from": "random", "intensity": ["LogWindow scale 2.5"], "views": [{}], "digest": "ab",
            "members": [{"checkpoint": "ab", "fold": 0}, {"checkpoint": "cd", "fold": 1}],
        },
        "training": {
            "epochs": 3, "chosen_by": "val/map_50", "optimizer": "AdamW", "learning_rate": 0.001, "batch_size": 4,
            "scheduler": "cosine", "precision": "bf16-mixed", "augment": [], "seed": 0,
        },
        "data": {
            "read_by": ["read_course"], "drawn": True, "fingerprints": ["6b34"], "folds": 2, "val_fraction": 0.1,
            "test_fraction": 0.1, "normal_fraction": 0.5, "splits": splits,
        },
        "findings": [{"name": finding, "chinese": chinese, "codes": []}],
        "operating_point": _POINT,
        "thresholds": {finding: 0.4},
        "promises": {
            "split": "val", "films": 50, "findings": {finding: held}, "screening": held, "points": [None, None],
            "false_boxes": [{**held[0], "threshold": None, "needed": 99}],
        },
        "groups": _groups(network),
        "reference": {"films": 9, "features": ["dark", "noise"]},
        "gate": {"least_px": [128, 64], "learnt_from": 21, "limit_chosen_on": 9},
        "versions": {"torch": "2"},
    }  # fmt: skip
    made = {"git": None, "versions": {"cxr": "0.9.8"}, "unreadable": 0, "films": {"train": 9}}
    sources = {
        name: {"file": f"{name}.json", "command": f"python {network}", **made}
        for name in ("training", "checkpoint", "evaluate-1", "explain-1")
    }
    sources["evaluate-1"]["git"] = {"commit": "0123456789abcdef", "modified": True}
    evaluations = [_evaluation(finding, network), {**_evaluation(finding, network), "external": True}]
    measured = {"training": [], "evaluations": evaluations, "explanations": [_explanation(network)]}
    return {**model_card(frozen, sources, measured, {"explain": "python explain.py"}), "made": "2026-11-26"}


def _groups(machine: str) -> dict[str, Any]:
    some = {"films": 9, "patients": 9}
    kinds = {kind: {"not stated": some} for kind in ("sex", "view", "maker", "year", "source")}
    return {
        "least_patients": 10,
        "films": 9,
        "patients": 9,
        "kinds": {**kinds, "age": {"65+": some}, "machine": {machine: some}},
    }


def _evaluation(finding: str, machine: str) -> dict[str, Any]:
    names = ("ap50", "ap", "sensitivity@1fp", "recall", "auc", "roc_auc", "average_precision", "ece")
    place = {**ESTIMATE, "source": "evaluate-1", "at": "/x"}
    figures = [{"name": name, "finding": of, **place} for name in names for of in ("", finding)]
    counts = {"boxes": 6, "films": 5, "patients": 5}
    told = {"name": "sensitivity@1fp", "finding": "", **place, "difference": -0.2, "p_holm": 0.01, "differs": True}
    group = {"kind": "machine", "group": machine, "films": 9, "patients": 9, "figures": [told]}
    return {
        "source": "evaluate-1", "split": "test", "external": False, "seen": _SEEN, "folds": 0, "figures": figures,
        "settings": {"rule": "iou50", "samples": 100, "seed": 0},
        "counts": {"films": 9, "patients": 9, "normal": 4, "findings": {finding: counts}},
        "left_out": {"failed": 0, "unreadable": 1, "not_assessed": 2, "by_reason": {"lateral": 2}},
        "froc": {"points": [{"rate": rate, "sensitivity": 0.5, "low": 0.4, "high": 0.6} for rate in (0.125, 1, 8)]},
        "reliability": {"bins": [{"score": 0.3, "positive": ESTIMATE, "films": 9}]},
        "screening": {
            "from": "frozen in the checkpoint", "figures": [{"name": "npv@0.05", "finding": "", **place}],
        },
        "subgroups": {
            "least_patients": 10, "tests": 4, "all_films": {"sensitivity@1fp": 0.7}, "groups": [group],
            "all_in_one_group": {"sex": "F"},
        },
        "shift": {"differs": True, "can_tell": True, "films": 9, "reference_films": 9, "false_alarm_rate": 0.01,
                  "features": {"noise": {"differs": True}}},
        "promises": [{"of": finding, "level": 0.05, **place}],
    }  # fmt: skip


def _explanation(method: str) -> dict[str, Any]:
    place = {**ESTIMATE, "source": "explain-1", "at": "/x", "finding": ""}
    figures = [{"name": name, "method": method, **place} for name in ("hit", "energy")]
    sanity = [{"method": method, "name": "head", "value": 0.1, "source": "explain-1", "at": "/x"}]
    return {"source": "explain-1", "films": 3, "figures": figures, "sanity": sanity}
