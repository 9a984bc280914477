"""Checkpoints made to harm: each is one message, and nothing is written, drawn, resolved or called."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr.config.errors import ConfigError
from cxr.phantom.drawn_set import PhantomError
from cxr.runs.checkpoint import read_checkpoint
from cxr.runs.restore import intensity_of_films, load_data, load_task


def remove(whole: Any, key: str) -> None:
    """Take away what stands at a dotted key below ``cxr``."""
    node = whole["cxr"]
    *parents, last = key.split(".")
    for name in parents:
        node = node[name]
    del node[last]


def spoil(whole: Any, name: str, value: float) -> None:
    """Give the first number of a weight another value."""
    tensor = whole["state_dict"][name]
    tensor[(0,) * tensor.ndim] = value


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the scripts are begun."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def use(path: Path) -> None:
    """Do with a checkpoint what predict.py, evaluate.py and explain.py do."""
    checkpoint = read_checkpoint(path)
    load_task(checkpoint)
    intensity_of_films(checkpoint)
    data = load_data(checkpoint)
    try:
        data.prepare_data()
    except PhantomError as error:  # as the scripts say it
        raise ConfigError(str(error)) from error


def test_the_checkpoint_that_the_hostile_ones_are_made_of_is_a_good_one(
    tmp_path: Path, content: Any, draw_phantoms: Callable[[Path], None]
) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    draw_phantoms(tmp_path / "phantoms")
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    assert load_task(checkpoint).findings.names == ("nodule", "effusion")
    assert load_data(checkpoint, {"root": str(tmp_path / "phantoms")}).size == 64


WEIGHT = "detector.backbone.body.layer1.0.0.weight"


NAN, INF = math.nan, math.inf


STEP = "config.data.intensity.steps.0"


DAMAGED: dict[str, tuple[str, Any, str]] = {  # key below "cxr", value, message
    "a threshold of studies that is NaN": (
        "thresholds",
        {"nodule": NAN},
        r"thresholds\.'nodule' is nan, expected 0 to",
    ),
    "size -5": ("config.data.size", -5, r"data\.size is -5, expected 32 to 8192 pixels"),
    "size 0": ("config.data.size", 0, r"data\.size is 0, expected 32 to 8192"),
    "size 10⁶": ("config.data.size", 10**6, r"data\.size is 1000000, expected 32 to 8192"),
    "size beyond 64 bits": ("config.data.size", 2**100, r"data\.size is 12676.*, expected 32 to 8192"),
    "size a text": ("config.data.size", "64", r"data\.size is '64', expected int"),
    "size true": ("config.data.size", True, r"data\.size is True, expected int"),
    "batches of 10⁹ films": ("config.data.batch_size", 10**9, r"batch_size is 10.*, expected 1 to 1024"),
    "a seed beyond 64 bits": ("config.data.seed", 2**90, r"data\.seed is 1237.*, expected 0 to 9223"),
    "a fraction that is NaN": ("config.data.val_fraction", NAN, r"val_fraction is nan, expected float"),
    "a share as a text": ("config.data.normal_fraction", "half", "normal_fraction is 'half', expected"),
    "10⁹ phantoms": ("config.data.read.films", 10**9, r"read\.films is 1000000000, expected 0 to 1000000"),
    "phantoms of 200,000 pixels": ("config.data.read.size", 200_000, r"read\.size is 200000, expected 1"),
    "phantoms of -1 film": ("config.data.read.test_films", -1, r"test_films is -1, expected 0 to 10000"),
    "phantoms by the number of a text": ("config.data.read.films", "8", r"read\.films is '8', expected"),
    "phantoms with an argument more": ("config.data.read.x", 1, "read_phantom takes no argument 'x'"),
    "phantoms that ask to be drawn": ("config.data.read.draw", True, "none are drawn because a check"),
    "a reader that is a list": ("config.data.read", [], r"data\.read.* expected"),
    "an environment variable": ("config.data.root", "${oc.env:HOME}", r"^\$\{oc\.env:HOME\}: the phanto"),
    "a root elsewhere": ("config.data.root", "/nowhere/films", r"data\.root=/nowhere/films: there is no"),
    "a root that is a list": ("config.data.root", ["a"], r"data\.root is \['a'\], expected"),
    "a root longer than a path": ("config.data.root", "a" * 5000, "too long|there is no such"),
    "a logarithm divided by 0": (f"{STEP}.scale", 0.0, r"steps\.0\.scale is 0\.0, expected 0\.01 to 1000"),
    "a logarithm by infinity": (f"{STEP}.scale", INF, r"steps\.0\.scale is inf, expected float"),
    "a window as a text": (f"{STEP}.window", "0", r"steps\.0\.window is '0', expected int"),
    "no steps": ("config.data.intensity.steps", [], "an intensity needs at least one step"),
    "a step that is no class": (STEP, {"_target_": "cxr.read.intensity.Step"}, r"intensity.*abstract"),
    "an argument more": ("config.model.x", 1, "faster_rcnn takes no argument 'x'"),
    "a mean that is NaN": ("config.model.backbone.mean", [NAN], r"backbone\.mean is \[nan\], expected Sequence\[float"),
    "a mean that is a number": ("config.model.backbone.mean", 0.5, r"backbone\.mean is 0\.5, expected Sequence"),
    "a spread of 0": ("config.model.backbone.std", [0.0], r"backbone\.std is \[0\.0\], expected 1e-06 to"),
    "a million channels": ("config.model.backbone.mean", [0.5] * 10**6, "more than 1,000,000 instructions"),
    "1,000 channels": ("config.model.backbone.mean", [0.5] * 1000, r"mean holds 1,000 values, expected at most 64"),
    "1,000 anchors": ("config.model.anchors.ratios", [1.0] * 1000, "ratios holds 1,000 values"),
    "anchors of a text": ("config.model.anchors.sizes", "all", r"anchors\.sizes is 'all', expected Sequen"),
    "a head that fills the memory": ("config.model.regions.width", 10**7, "expected 1 to 4096"),
    "a pyramid that fills the memory": ("config.model.pyramid.channels", 10**6, "expected 1 to 2048"),
    "a backbone of 10⁶ channels": ("config.model.backbone.channels", [10**6] * 5, "expected 1 to 512"),
    "a backbone of no channels": ("config.model.backbone.channels", [], "model does not fit its weights"),
    "a backbone of one stage": ("config.model.backbone.channels", [8, 8], "model does not fit its weights"),
    "anchors for another pyramid": ("config.model.anchors.sizes", [[0.5]], r"anchors\.sizes has 1 lists"),
    "a pyramid of no stride": ("config.model.pyramid.least_stride", 48, r"least_stride is 48, expected one of"),
    "a pool of another name": ("config.model.regions.pool", "os.system", r"pool is 'os\.system', expected Literal"),
    "no regions": ("config.model.proposals.post_nms_top_n", 0, "post_nms_top_n is 0, expected 1 to"),
    "a threshold nothing reaches": ("config.model.score_thresh", 1.5, r"score_thresh is 1\.5, expected 0"),
    "a threshold that is NaN": ("config.model.score_thresh", NAN, "score_thresh is nan, expected float"),
    "no findings": ("findings", {"findings": [], "normal": []}, "needs at least one finding"),
    "findings twice": ("findings.findings", [{"name": "a"}, {"name": "A"}], "is a spelling of both"),
    "100,000 findings": (
        "findings.findings",
        [{"name": f"f{n}"} for n in range(100_000)],
        "100,000 findings, allowed are 200",
    ),
    "findings of numbers": ("findings.findings", [1, 2], r"cxr\.findings is no vocabulary"),
    "a finding without a name": ("findings.findings", [{}], r"cxr\.findings is no vocabulary"),
    "a finding named by a number": ("findings.findings.0.name", 7, r"cxr\.findings is no vocabulary"),
    "a finding that is a path": ("findings.findings.0.name", "../../x", r"the name '\.\./\.\./x', expec"),
    "a finding of 1,000 letters": ("findings.findings.0.name", "a" * 1000, "expected up to 100 letters"),
    "findings of another number": ("findings.findings", [{"name": "a"}], "model does not fit its weigh"),
    "a point that is NaN": ("operating_point.threshold", NAN, "threshold is nan, expected 0 to 1"),
    "a point that clears all": ("operating_point.threshold", 2, "threshold is 2, expected 0 to 1"),
    "a point as a text": ("operating_point.threshold", "0.5", r"threshold is 0\.5, expected 0 to 1"),
    "a point with more": ("operating_point.x", 1, "operating_point does not fit"),
    "a point on 10³⁰ films": ("operating_point.films", 10**30, "films is 10+, expected a number of films"),
    "an interval of texts": ("operating_point.cleared_share", "all", "cleared_share is all, expected"),
    "an infinite interval": ("operating_point.cleared_share.high", INF, "cleared_share is .* expected v"),
    "a point in a list": ("operating_point", [0.5], r"cxr\.operating_point is list, expected dict"),
    "promises in a list": ("promises", [0.5], r"cxr\.promises is list, expected dict"),
    "promises of nothing": ("promises", {}, r"cxr\.promises does not fit this version: it has the fields"),
    "a config that is a list": ("config", [], r"cxr\.config is list, expected dict"),
    "versions that are a list": ("versions", [1], r"cxr\.versions is list, expected dict"),
    "a kind that is a number": ("kind", 5, r"cxr\.kind is int, expected str"),
    "a fingerprint that is a number": ("data", 5, r"cxr\.data is int, expected str"),
    "films that are a list": ("films", [1], r"cxr\.films is list, expected dict"),
    "films of other splits": ("films", {"train": torch.arange(2)}, r"cxr\.films has \['train'\], expected the spl"),
    "films of a split more": ("films.x", torch.arange(2), r"cxr\.films has .*'x'\], expected the splits train"),
    "films without digests": ("films.val", None, r"cxr\.films\.val is NoneType, expected int64 \[films\], a dige"),
    "films by names": ("films.val", ["Wang^Mei"], r"cxr\.films\.val is list, expected int64 \[films\]"),
    "films of fractions": ("films.train", torch.ones(3), r"films\.train is torch\.float32 \[3\], expected int64"),
    "films in rows": ("films.train", torch.ones(3, 2).long(), r"films\.train is torch\.int64 \[3, 2\], expected"),
    "films of one number": ("films.test", torch.tensor(1), r"films\.test is torch\.int64 \[\], expected int64"),
}


HOSTILE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a weight that is NaN": (
        lambda whole: spoil(whole, WEIGHT, NAN),
        r"can say nothing of a film: 1 of \d+ values of detector",
    ),
    "a weight that is infinite": (lambda whole: spoil(whole, WEIGHT, -INF), "1 of .* are not finite"),
    "a fusion weight that is NaN": (
        lambda whole: spoil(whole, "detector.image_head.film_weight", NAN),
        "film_weight are not fin",
    ),
    "a fusion weight of 7": (
        lambda whole: spoil(whole, "detector.image_head.box_weight", 7),
        r"box_weight is 7\.0, expected 0 t",
    ),
    "a weight that is a text": (
        lambda whole: whole.update(state_dict={"a": "b"}),
        r"state_dict\.'a' is str, expected the n",
    ),
    "weights of one name that is a number": (
        lambda whole: whole.update(state_dict={1: torch.ones(1)}),
        r"state_dict\.1 is Tensor, expected the name",
    ),
    "no weights": (lambda whole: whole.update(state_dict={}), "model does not fit its weights"),
    "no size": (lambda whole: remove(whole, "config.data.size"), r"data\.size is None, expected int"),
    "phantoms that are not there": (
        lambda whole: None,
        r"phantoms: the phantoms .* Type data\.root=FOLDER.*\+data\.read\.draw=true",
    ),
    "no reader": (lambda whole: remove(whole, "config.data.read"), r"data\.read\._target_ is None, expected str"),
    "no data": (lambda whole: remove(whole, "config.data"), r"config's data.* is None, expected"),
    "no task": (lambda whole: remove(whole, "config.task"), r"task\._target_ is None, expected str"),
    "no name": (lambda whole: remove(whole, "config.name"), "name is None, expected str"),
    "half a point": (
        lambda whole: remove(whole, "operating_point.films"),
        r"operating_point does not fit .* it has the fields",
    ),
}


def assert_one_message(content: dict[str, Any], folder: Path, message: str) -> None:
    """The scripts, begun in ``folder``, refuse this checkpoint in one short message and leave no file."""
    torch.save(content, folder / "hostile.ckpt")
    began = time.monotonic()
    with pytest.raises(ConfigError, match=message) as refused:
        use(folder / "hostile.ckpt")
    assert time.monotonic() - began < 20  # one second, on a machine that does nothing else
    assert len(str(refused.value)) < 2500
    assert {path.name for path in folder.iterdir()} <= {"hostile.ckpt", ".cache"}
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / "hostile.ckpt"]


@pytest.mark.parametrize(("key", "value", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_hostile_value_is_one_message(
    content: Any, set_value: Any, here: Path, key: str, value: Any, message: str
) -> None:
    set_value(content["cxr"], key, value)
    assert_one_message(content, here, message)


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_checkpoint_is_one_message(content: Any, here: Path, change: Any, message: str) -> None:
    change(content)
    assert_one_message(content, here, message)
