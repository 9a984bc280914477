"""What a sweep has frozen: kept, read back, and refused where it belongs to other checkpoints."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cxr.config.errors import ConfigError
from cxr.detect.views import View
from cxr.findings import FindingVocabulary
from cxr.measure.box_scores import ScoreCurve
from cxr.measure.intervals import Estimate
from cxr.measure.operating_point import OperatingPoint
from cxr.runs.ensemble_file import FILE, Frozen, read_frozen, write_frozen

FINDINGS = FindingVocabulary([{"name": "heart"}, {"name": "spine"}])
SHARE = Estimate(0.9, 0.8, 1.0, 40)
POINT = OperatingPoint(0.25, 0.99, SHARE, SHARE, 50, 40, 50, "out-of-fold", limited=True)
FROZEN = Frozen(POINT, {"heart": 0.4}, {"heart": ScoreCurve(1.5, -0.25)})
MEMBERS = {"a/best.ckpt": "0f", "b/best.ckpt": "1e"}
PLAIN, LARGER = (View(),), (View(), View(scale=1.1))


def read(folder: Path, members: dict[str, str] = MEMBERS, views: tuple[View, ...] = PLAIN) -> Frozen | None:
    return read_frozen(folder, members, views, FINDINGS)


def test_what_is_frozen_comes_back_for_these_views_alone(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    write_frozen(tmp_path, MEMBERS, PLAIN, FROZEN)
    assert read(tmp_path) == FROZEN
    assert read(tmp_path, views=LARGER) is None
    other = replace(FROZEN, thresholds={"heart": 0.6})
    write_frozen(tmp_path, MEMBERS, LARGER, other)
    assert (read(tmp_path), read(tmp_path, views=LARGER)) == (FROZEN, other)
    write_frozen(tmp_path, MEMBERS, PLAIN, other)
    assert read(tmp_path) == other


def test_a_changed_checkpoint_or_a_new_job_makes_it_stale(tmp_path: Path) -> None:
    write_frozen(tmp_path, MEMBERS, PLAIN, FROZEN)
    for changed in (MEMBERS | {"b/best.ckpt": "2d"}, MEMBERS | {"c/best.ckpt": "3c"}, {"a/best.ckpt": "0f"}):
        with pytest.raises(ConfigError, match=r"chosen for other checkpoints, the first is [bc]/best.ckpt; .* anew"):
            read(tmp_path, changed)
        with pytest.raises(ConfigError, match="other checkpoints"):  # whatever the views
            read(tmp_path, changed, LARGER)
    write_frozen(tmp_path, MEMBERS | {"b/best.ckpt": "2d"}, LARGER, FROZEN)
    assert read(tmp_path, MEMBERS | {"b/best.ckpt": "2d"}) is None  # what the old checkpoint had chosen is gone


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": 2}, "format is 2"),
        ({"thresholds": {"heart": 1.5}}, r"thresholds.heart is 1.5, expected 0 to 1"),
        ({"thresholds": {"fracture": 0.5}}, "it names the finding 'fracture', expected heart, spine"),
        ({"calibration": {"heart": {"slope": -1, "offset": 0}}}, "the slope above 0"),
        ({"calibration": {"heart": {"slope": "x", "offset": 0}}}, "expected two numbers"),
        ({"operating_point": {}}, "it has the fields"),
    ],
)
def test_a_damaged_file_is_refused_with_what_to_type(tmp_path: Path, change: dict[str, object], told: str) -> None:
    path = write_frozen(tmp_path, MEMBERS, PLAIN, FROZEN)
    content = json.loads(path.read_text())
    (content if "format" in change else content["chosen"][0]).update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=rf"(?s)is damaged: .*{told}.*split=out_of_fold to choose anew"):
        read(tmp_path)


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"format": 1, "mem')
    with pytest.raises(ConfigError, match="damaged"):
        read(tmp_path)


def test_a_file_larger_than_any_is_refused_unread(tmp_path: Path) -> None:
    path = write_frozen(tmp_path, MEMBERS, PLAIN, FROZEN)
    os.truncate(path, 64 * 2**20 + 1)
    with pytest.raises(ConfigError, match=r"ensemble\.json has 67,108,865 bytes, expected at most 67,108,864"):
        read(tmp_path)
