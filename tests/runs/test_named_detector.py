"""What ``ckpt=`` may name, and what is refused before any weights are read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.config.errors import ConfigError
from cxr.detect.views import VIEWS, View
from cxr.findings import FindingVocabulary
from cxr.measure.box_scores import ScoreCurve
from cxr.measure.intervals import Estimate
from cxr.measure.operating_point import OperatingPoint
from cxr.runs import named_detector
from cxr.runs.checkpoint import Checkpoint
from cxr.runs.ensemble_file import Frozen
from cxr.runs.named_detector import named_detector as name
from cxr.runs.named_detector import shown_from

FINDINGS = FindingVocabulary([{"name": "heart"}, {"name": "spine"}])
TASK = {"_target_": "cxr.detect.task.DetectionTask"}
CONFIG: dict[str, Any] = {"task": TASK, "data": {"size": 256, "intensity": {"_target_": "voi"}, "fold": 0, "folds": 2}}
READ = Checkpoint(Path("x"), CONFIG, FINDINGS, "", {}, {}, "radiograph")
SHARE = Estimate(0.9, 0.8, 1.0, 40)
POINT = OperatingPoint(0.25, 0.99, SHARE, SHARE, 50, 40, 50, "out-of-fold", limited=True)


def with_data(**data: Any) -> Checkpoint:
    return replace(READ, config={**CONFIG, "data": {**CONFIG["data"], **data}})


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Checkpoint]:
    """What the files of this folder hold, by name; the files themselves are empty."""
    known = {"a.ckpt": READ, "b.ckpt": READ, "c.ckpt": READ}
    for file in known:
        (tmp_path / file).write_bytes(file.encode())
    monkeypatch.setattr(named_detector, "read_checkpoint", lambda path, _: replace(known[path.name], path=path))
    return known


def listed(folder: Path, *files: str) -> list[str]:
    return [str(folder / file) for file in files]


def job(sweep: Path, number: int, status: str) -> None:
    folder = sweep / f"data.fold={number}"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "command.json").write_text(json.dumps({"overrides": [f"data.fold={number}"], "config": {}}))
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"")
    if status == "completed":
        (folder / "result.json").write_text(json.dumps({"status": status, "score": 0.5, "seconds": 1.0}))
    if status == "failed":
        failure = {"status": status, "reason": "out of memory", "overrides": [], "seconds": 1.0}
        (folder / "failed.json").write_text(json.dumps(failure))


def test_one_checkpoint_on_films_as_they_are_is_no_ensemble(tmp_path: Path, checkpoints: object) -> None:
    path = str(tmp_path / "a.ckpt")
    assert name(path).single
    assert name(path).checkpoint.path == Path(path)
    assert not name(path, views=2).single
    assert name(path, views=2).digest != name(path).digest


def test_members_of_one_split_may_choose_a_point_on_its_validation_films_and_those_of_folds_may_not(
    tmp_path: Path, checkpoints: dict[str, Checkpoint]
) -> None:
    films = {split: np.array(digests) for split, digests in (("train", [1, 2, 3]), ("val", [4]), ("test", [5]))}
    moved = {**films, "train": np.array([1, 2, 4]), "val": np.array([3])}
    checkpoints["a.ckpt"] = checkpoints["b.ckpt"] = replace(READ, films=films)
    checkpoints["c.ckpt"] = replace(READ, films=moved)
    assert not name(listed(tmp_path, "a.ckpt", "b.ckpt")).validates_on_training_films
    assert name(listed(tmp_path, "a.ckpt", "c.ckpt")).validates_on_training_films
    assert not name(str(tmp_path / "c.ckpt"), views=3).validates_on_training_films
    checkpoints["c.ckpt"] = READ  # it does not tell its films
    assert name(listed(tmp_path, "a.ckpt", "c.ckpt")).validates_on_training_films


def test_all_that_is_frozen_belongs_to_the_digest(tmp_path: Path, checkpoints: object) -> None:
    # a run that goes on with another threshold or point would mix films of both
    point, curve = POINT, ScoreCurve(1.5, -0.25)
    frozen = [
        Frozen(point, {"heart": 0.4}, {"heart": curve}),
        Frozen(point, {"heart": 0.5}, {"heart": curve}),
        Frozen(replace(point, threshold=0.2), {"heart": 0.4}, {"heart": curve}),
        Frozen(point, {"heart": 0.4}, {"heart": ScoreCurve(1.5, 0)}),
    ]
    two = name(listed(tmp_path, "a.ckpt", "b.ckpt"))
    assert len({replace(two, frozen=one).digest for one in (None, *frozen)}) == 5


def test_boxes_of_a_finding_that_nobody_marked_are_shown_from_the_usual_score_up(
    tmp_path: Path, checkpoints: object
) -> None:
    two = name(listed(tmp_path, "a.ckpt", "b.ckpt"))
    assert two.thresholds is None
    names = two.members[0].findings.names
    marked = Frozen(POINT, {names[0]: 0.4}, {})
    assert replace(two, frozen=marked).thresholds == {names[0]: 0.4, **dict.fromkeys(names[1:], 0.3)}


def test_members_are_all_or_the_first_or_those_that_are_named(tmp_path: Path, checkpoints: object) -> None:
    three = listed(tmp_path, "a.ckpt", "b.ckpt", "c.ckpt")
    for members, files in ((None, "abc"), (2, "ab"), ([2, 0], "ca")):
        found = name(three, members=members)
        assert [path.path.stem for path in found.members] == list(files)
        assert found.left_out == 3 - len(files)
    for members in (4, 0, [0, 0], [3], [], True, [-1]):
        with pytest.raises(ConfigError, match="expected null, how many of the 3 checkpoints, or which"):
            name(three, members=members)


def test_views_are_a_number_or_settings(tmp_path: Path, checkpoints: object) -> None:
    path = str(tmp_path / "a.ckpt")
    assert name(path, views=3).views == VIEWS[:3]
    assert name(path, views=[{}, {"degrees": -2}]).views == (View(), View(degrees=-2))
    for views, told in ((9, "1 to 6"), ([], "expected a number"), ([{"mirror": True}], "mirror"), ("all", "a number")):
        with pytest.raises(ConfigError, match=told):
            name(path, views=views)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (with_data(size=512), "their data.size differ, 256 and 512"),
        (with_data(intensity={"_target_": "log"}), "their data.intensity differ"),
        (replace(READ, kind="CT"), "their kinds of films differ, radiograph and CT"),
        (replace(READ, findings=FindingVocabulary([{"name": "heart"}])), "their findings differ"),
        (replace(READ, config={**CONFIG, "task": {"_target_": "cxr.volume.task.StudyTask"}}), "only detectors answer"),
    ],
)
def test_members_that_read_other_films_or_know_other_findings_are_refused(
    tmp_path: Path, checkpoints: dict[str, Checkpoint], other: Checkpoint, told: str
) -> None:
    checkpoints["b.ckpt"] = other
    with pytest.raises(ConfigError, match=told):
        name(listed(tmp_path, "a.ckpt", "b.ckpt"))


def test_a_sweep_with_jobs_that_did_not_complete_names_them(tmp_path: Path) -> None:
    job(tmp_path, 0, "completed")
    job(tmp_path, 1, "interrupted")
    job(tmp_path, 2, "failed")
    expected = r"2 of 3 jobs did not complete: data.fold=1 \(interrupted\); data.fold=2 \(failed\)"
    with pytest.raises(ConfigError, match=expected):
        name(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no job of a sweep"):
        name(str(tmp_path / "empty"))


def test_what_is_typed_goes_before_what_a_sweep_has_frozen() -> None:
    assert shown_from(0.5, {"heart": 0.2}) == 0.5
    assert shown_from(None, {"heart": 0.2}) == {"heart": 0.2}
    assert shown_from(None, None) == 0.3
