"""What a model card says is computed from what was recorded: its hash, what the model is not for, and CLAIM's items."""

import copy
from typing import Any

import pytest

from cxr.report.model_card import figures_at, model_card, revision_of, training_figures
from cxr.report.model_card_claim import claim_items
from cxr.report.model_card_limits import limits

POINT = {
    "threshold": 0.2, "wanted_sensitivity": 0.99, "films": 50, "abnormal": 40, "patients": 45, "split": "val",
    "limited": True, "sensitivity_on_validation": {"value": 1.0, "low": 0.91, "high": 1.0, "n": 40, "reason": ""},
    "cleared_share": {"value": 0.5, "low": 0.2, "high": 0.8, "n": 10, "reason": ""},
}  # fmt: skip
COMMANDS = {"evaluate": "python evaluate.py ckpt=RUN/checkpoints/best.ckpt"}
NOTHING: dict[str, Any] = {"training": [], "evaluations": [], "explanations": []}


def counts(nodule: int, effusion: int) -> dict[str, Any]:
    of = {"nodule": nodule, "effusion": effusion}
    findings = {name: {"items": n, "boxes": n, "looked_for": 100} for name, n in of.items()}
    return {"items": 100, "patients": 90, "normal": 50, "unmarked": 0, "findings": findings}


@pytest.fixture
def frozen() -> dict[str, Any]:
    """The frozen part of a detector that was taught 40 nodules and no effusion."""
    return {
        "format": 1,
        "model": {"name": "fasterrcnn (tiny)", "task": "detection", "kind": "radiograph", "members": [{}]},
        "data": {"drawn": False, "splits": {"train": counts(40, 0), "val": counts(9, 0), "test": counts(9, 0)}},
        "findings": [{"name": "nodule"}, {"name": "effusion"}],
        "operating_point": POINT,
        "promises": None,
        "groups": None,
        "gate": {"least_px": [128, 64], "learnt_from": 0, "limit_chosen_on": 0},
    }


def codes(frozen: dict[str, Any], measured: dict[str, Any] = NOTHING) -> dict[str, dict[str, Any]]:
    return {limit["code"]: limit for limit in limits(frozen, measured, COMMANDS)}


def test_a_finding_that_no_film_taught_is_named(frozen: dict[str, Any]) -> None:
    told = codes(frozen)
    assert told["never_taught"]["findings"] == ["effusion"]
    assert "few_taught" not in told  # 40 nodules are no few
    frozen["data"]["splits"]["train"] = counts(29, 30)
    assert codes(frozen)["few_taught"]["findings"] == ["nodule"]
    frozen["data"]["splits"] = {}
    assert {"counts_unknown"} <= codes(frozen).keys()


def test_what_the_gate_refuses_and_what_it_cannot_know(frozen: dict[str, Any]) -> None:
    assert {"views", "too_small", "no_gate"} <= codes(frozen).keys()
    frozen["gate"]["learnt_from"] = 21
    assert "unlike" in codes(frozen)
    assert "no_gate" not in codes(frozen)
    frozen["model"]["kind"] = "CT"  # of slices only the size is asked
    assert not {"views", "unlike", "no_gate"} & codes(frozen).keys()


def test_the_old_and_the_young_of_whom_no_film_taught_it_are_named(frozen: dict[str, Any]) -> None:
    some = {"films": 50, "patients": 45}
    kinds: dict[str, Any] = {kind: {"not stated": some} for kind in ("view", "maker", "year", "source")}
    kinds |= {"sex": {"F": some, "M": some}, "age": {"40-64": some}, "machine": {"DRAWN 1": some, "too few": some}}
    frozen["groups"] = {"least_patients": 10, "films": 50, "patients": 45, "kinds": kinds}
    missing = [limit for limit in limits(frozen, NOTHING, COMMANDS) if limit["code"] == "groups_missing"]
    assert [(limit["kind"], limit["groups"]) for limit in missing] == [("age", ["<40", "65+"])]
    assert codes(frozen)["machines"]["groups"] == ["DRAWN 1"]
    kinds["sex"] = {"not stated": some}
    assert codes(frozen)["groups_unknown"]["kind"] == "sex"


def test_too_few_abnormal_films_and_what_is_not_measured(frozen: dict[str, Any]) -> None:
    told = codes(frozen)
    assert told["point_limited"] == {"code": "point_limited", "abnormal": 40, "wanted": 0.99}
    assert told["no_intervals"]["command"] == COMMANDS["evaluate"]
    none = {"level": 0.1, "threshold": None, "patients": 3, "risk": 0.5, "needed": 9}
    kept = {**none, "threshold": 0.4, "needed": None}
    frozen["promises"] = {"findings": {"nodule": [none, kept], "effusion": [none, none]}}
    assert codes(frozen)["no_promise"]["findings"] == ["effusion"]
    frozen["operating_point"] = None
    assert "no_point" in codes(frozen)


def test_a_finding_is_tested_where_any_evaluation_has_marks_of_it(frozen: dict[str, Any]) -> None:
    def evaluation(nodule: int, trained_on: int = 0) -> dict[str, Any]:
        of = {"nodule": {"boxes": nodule}, "effusion": {"boxes": 0}}
        return {"external": False, "counts": {"findings": of}, "seen": {"trained_on": trained_on}}

    told = codes(frozen, {**NOTHING, "evaluations": [evaluation(14), evaluation(29)]})
    assert told["few_tested"]["findings"] == ["nodule"]
    assert told["never_tested"]["findings"] == ["effusion"]
    assert "no_intervals" not in told
    assert "tested_on_training" not in told
    told = codes(frozen, {**NOTHING, "evaluations": [evaluation(14, trained_on=5), evaluation(30)]})
    assert "few_tested" not in told
    assert told["tested_on_training"]["films"] == 5


def test_the_card_has_one_hash_of_what_is_frozen_and_one_of_all(frozen: dict[str, Any]) -> None:
    card = model_card(frozen, {}, NOTHING, COMMANDS)
    other_order = dict(reversed(list(copy.deepcopy(frozen).items())))
    assert model_card(other_order, {}, NOTHING, COMMANDS)["id"] == card["id"]
    tested = training_figures("training", {"test/map_50": 0.5})
    measured = model_card(frozen, {}, {**NOTHING, "training": tested}, COMMANDS)
    assert measured["id"] == card["id"]
    assert measured["revision"] != card["revision"]
    frozen["operating_point"] = {**POINT, "threshold": 0.21}
    assert model_card(frozen, {}, NOTHING, COMMANDS)["id"] != card["id"]
    assert revision_of({**card, "made": "2026-11-26"}) == card["revision"]
    assert revision_of({**card, "limits": []}) != card["revision"]  # somebody took the limits out


def test_test_figures_of_a_training_know_their_place() -> None:
    metrics = {
        "test/map_50": 0.5, "test/loss": 1.0, "test/loss_box": 1.0, "val/map_50": 0.6, "epoch": 3.0,
        "test/only_detected/nodule": 4.0, "test/auc/nodule": 0.9, "test/auc/nodule/low": 0.8,
        "test/auc/nodule/high": 0.95,
    }  # fmt: skip
    assert training_figures("training", metrics) == [
        {"name": "map_50", "finding": "", "value": 0.5, "source": "training", "at": "/metrics/test~1map_50"},
        {"name": "auc", "finding": "nodule", "value": 0.9, "low": 0.8, "high": 0.95, "source": "training",
         "at": "/metrics/test~1auc~1nodule"},
    ]  # fmt: skip


def test_figures_of_a_file_keep_interval_reason_and_place() -> None:
    estimate = {"value": None, "low": None, "high": None, "n": 0, "reason": "nobody marked it on these films"}
    (figure,) = figures_at("evaluate-1", "/metrics/A", {"ap50": estimate}, ("ap50", "recall"), "nodule")
    assert figure == {**estimate, "name": "ap50", "finding": "nodule", "source": "evaluate-1", "at": "/metrics/A/ap50"}


def test_claim_has_44_items_and_invents_nothing(frozen: dict[str, Any]) -> None:
    items = {one["item"]: one for one in claim_items(frozen, NOTHING)}
    assert list(items) == list(range(1, 45))
    assert items[44]["status"] == "for_you"  # funding
    assert items[33]["status"] == "not_measured"  # external test
    assert items[27]["status"] == "does_not_apply"  # ensembling, of one detector
    frozen["model"]["members"] = [{}, {}]
    assert {one["item"]: one for one in claim_items(frozen, NOTHING)}[27] == {
        "item": 27, "status": "answered", "section": "1",
    }  # fmt: skip
