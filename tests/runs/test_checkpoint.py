"""Checkpoints made to harm: each is one message, and nothing is written, drawn, resolved or called."""

import copy
import functools
import importlib
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cxr.config.errors import ConfigError
from cxr.config.models import builder
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary
from cxr.measure.operating_point import choose_operating_point
from cxr.measure.results import FilmResult
from cxr.phantom.anatomy import FINDINGS as DRAWN
from cxr.phantom.drawn_set import PhantomError
from cxr.phantom.films import write_course_layout
from cxr.phantom.thorax import FINDINGS as DRAWN_SERIES
from cxr.runs.checkpoint import read_checkpoint
from cxr.runs.restore import intensity_of_films, load_data, load_study_data, load_study_task, load_task
from scripts import ROOT, call

FINDINGS = {"findings": [{"name": "nodule"}, {"name": "effusion", "chinese": "肋膜積水"}], "normal": ["none"]}
STEPS = [{"_target_": "cxr.read.intensity.LogWindow", "scale": 2.5}]
PHANTOM: dict[str, Any] = {"films": 8, "test_films": 2, "size": 96, "seed": 0, "normal_fraction": 0.25}
DATA = "cxr.data.film_data.FilmDataModule"


@functools.cache
def network() -> DetectionTask:
    """Return the smallest detector, with an image head."""
    torch.manual_seed(0)
    model = builder("fasterrcnn_tiny", image_head=True, regions__width=8, anchors__image_size=64)
    return DetectionTask(FindingVocabulary(**FINDINGS), model, lambda parameters: None)  # type: ignore[arg-type]


@functools.cache
def point() -> dict[str, Any]:
    """Return an operating point, chosen on two films."""
    boxes, labels, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
    box, finding_scores = np.ones((1, 4), np.float32), np.array([0.5, 0], np.float32)
    films = [
        FilmResult("a", "a", (8, 8), box, np.array([1]), boxes, labels, scores, finding_scores, 0.75),
        FilmResult("b", "b", (8, 8), boxes, labels, boxes, labels, scores, finding_scores, 0.25),
    ]
    return choose_operating_point(films, samples=2).as_dict()


def node(target: str, **settings: Any) -> dict[str, Any]:
    """Return a node of a config that names something of cxr.detect."""
    return {"_target_": f"cxr.detect.{target}", **settings}


def content() -> dict[str, Any]:
    """Return what train.py would have left of a short run."""
    read = {"_target_": "cxr.data.sources.phantom.read_phantom", "_partial_": True, **PHANTOM}
    intensity = {"_target_": "cxr.read.intensity.Intensity", "steps": copy.deepcopy(STEPS)}
    sizes = [[0.0625, 0.09375], [0.15625, 0.25], [0.40625, 0.65625]]
    model = {
        **node("faster_rcnn.faster_rcnn", _partial_=True, weights=None, image_head=True),
        "backbone": node("backbones.tiny", _partial_=True, weights=None, mean=[0.5], std=[0.25]),
        "pyramid": node("backbones.FeaturePyramid", _partial_=True, least_stride=8, channels=64, coarser=None),
        "anchors": node("anchors.Anchors", image_size=64, sizes=sizes, ratios=[0.25, 0.5, 1, 2, 4]),
        "proposals": node("faster_rcnn.Proposals", post_nms_top_n=100),
        "regions": node("faster_rcnn.Regions", pool="separable", width=8),
    }
    data = {"_target_": DATA, "root": "phantoms", "read": read, "findings": FINDINGS, "intensity": intensity}
    data |= {"augment": None, "size": 64, "cache": ".cache/films", "batch_size": 2, "workers": 0, "val_fraction": 0.25}
    config = {
        "name": "run",
        "seed": 0,
        "task": {"_target_": "cxr.detect.task.DetectionTask"},
        "model": model,
        "data": data,
    }
    card = {"config": config, "findings": copy.deepcopy(FINDINGS), "data": "0f", "versions": {"torch": "2"}}
    card |= {"kind": "radiograph", "operating_point": copy.deepcopy(point())}
    card["films"] = {split: torch.arange(count) for split, count in (("train", 6), ("val", 2), ("test", 2))}
    return {"state_dict": {name: value.clone() for name, value in network().state_dict().items()}, "cxr": card}


def with_value(key: str, value: Any) -> dict[str, Any]:
    """Return the content with another value at a dotted key below ``cxr``."""
    whole = content()
    *parents, last = key.split(".")
    node: Any = whole["cxr"]
    for name in parents:
        node = node[int(name) if name.isdecimal() else name]
    node[int(last) if last.isdecimal() else last] = value
    return whole


def without(key: str) -> dict[str, Any]:
    whole = content()
    *parents, last = key.split(".")
    node: Any = whole["cxr"]
    for name in parents:
        node = node[name]
    del node[last]
    return whole


def with_weight(name: str, value: float) -> dict[str, Any]:
    whole = content()
    tensor = whole["state_dict"][name]
    tensor[(0,) * tensor.ndim] = value
    return whole


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


def test_the_checkpoint_that_the_hostile_ones_are_made_of_is_a_good_one(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "a.ckpt")
    write_course_layout(tmp_path / "phantoms", **PHANTOM, workers=1)
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
HOSTILE: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "a weight that is NaN": (
        lambda: with_weight(WEIGHT, NAN),
        r"can say nothing of a film: 1 of \d+ values of detector",
    ),
    "a weight that is infinite": (lambda: with_weight(WEIGHT, -INF), "1 of .* are not finite"),
    "a fusion weight that is NaN": (
        lambda: with_weight("detector.image_head.film_weight", NAN),
        "film_weight are not fin",
    ),
    "a fusion weight of 7": (
        lambda: with_weight("detector.image_head.box_weight", 7),
        r"box_weight is 7\.0, expected 0 t",
    ),
    "a weight that is a text": (
        lambda: content() | {"state_dict": {"a": "b"}},
        r"state_dict\.'a' is str, expected the n",
    ),
    "weights of one name that is a number": (
        lambda: content() | {"state_dict": {1: torch.ones(1)}},
        r"state_dict\.1 is Tensor, expected the name",
    ),
    "no weights": (lambda: content() | {"state_dict": {}}, "model does not fit its weights"),
    "no size": (lambda: without("config.data.size"), r"data\.size is None, expected int"),
    "phantoms that are not there": (
        content,
        r"phantoms: the phantoms .* Type data\.root=FOLDER.*\+data\.read\.draw=true",
    ),
    "no reader": (lambda: without("config.data.read"), r"data\.read\._target_ is None, expected str"),
    "no data": (lambda: without("config.data"), r"config's data.* is None, expected"),
    "no task": (lambda: without("config.task"), r"task\._target_ is None, expected str"),
    "no name": (lambda: without("config.name"), "name is None, expected str"),
    "half a point": (lambda: without("operating_point.films"), r"operating_point does not fit .* it has the fields"),
    **{name: (functools.partial(with_value, key, value), message) for name, (key, value, message) in DAMAGED.items()},
}


@pytest.mark.parametrize(("make", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_checkpoint_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], dict[str, Any]], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(make(), "hostile.ckpt")
    began = time.monotonic()
    with pytest.raises(ConfigError, match=message) as refused:
        use(tmp_path / "hostile.ckpt")
    assert time.monotonic() - began < 20  # one second, on a machine that does nothing else
    assert len(str(refused.value)) < 2500
    assert {path.name for path in tmp_path.iterdir()} <= {"hostile.ckpt", ".cache"}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "hostile.ckpt"]


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder; there is no such file, expected a checkpoint of train"):
        read_checkpoint(tmp_path)


# --- phantoms


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def test_phantoms_that_are_there_are_read_and_nothing_is_written_beside_them(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write_course_layout("phantoms", **PHANTOM, workers=1)
    (tmp_path / "phantoms" / ".phantom.lock").unlink()  # a folder of another machine, which is read only
    before = files(tmp_path / "phantoms")
    torch.save(content() | {"state_dict": {}}, "a.ckpt")
    data = load_data(with_all_findings(tmp_path / "a.ckpt"))
    data.prepare_data()
    assert files(tmp_path / "phantoms") == before
    (tmp_path / "phantoms" / "test.csv").touch()
    Path("phantoms/phantom.json").replace("phantoms/phantom.unfinished.json")
    with pytest.raises(PhantomError, match="are not there, or not all of them"):
        load_data(with_all_findings(tmp_path / "a.ckpt")).prepare_data()


def with_all_findings(path: Path) -> Any:
    """Return the checkpoint with the vocabulary of the phantoms."""
    return replace(read_checkpoint(path), findings=FindingVocabulary([{"name": name} for name in DRAWN]))


def test_the_user_may_have_them_drawn(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(with_value("config.data.read.workers", 1) | {"state_dict": {}}, "a.ckpt")
    checkpoint = with_all_findings(tmp_path / "a.ckpt")
    load_data(checkpoint, {"read": {"draw": True}}).prepare_data()
    assert (tmp_path / "phantoms" / "phantom.json").is_file()


@pytest.mark.parametrize("module", ["phantom", "phantom_volume", "phantom_patients"])
def test_every_reader_that_draws_can_be_told_not_to(tmp_path: Path, module: str) -> None:
    readers = vars(importlib.import_module(f"cxr.data.sources.{module}"))
    (read,) = (reader for name, reader in readers.items() if name.startswith("read_phantom"))
    names = {"phantom": DRAWN, "phantom_volume": DRAWN_SERIES, "phantom_patients": ("disease",)}[module]
    findings = FindingVocabulary([{"name": name} for name in names])
    with pytest.raises(PhantomError, match=r"are not there.*\+data\.read\.draw=true"):
        read(tmp_path / "phantoms", findings, draw=False)
    assert not (tmp_path / "phantoms").exists()


def test_no_other_function_named_as_a_reader_draws() -> None:
    places = [path for path in (ROOT / "cxr").rglob("*.py") if "def read_phantom" in path.read_text(encoding="utf-8")]
    assert sorted(path.stem for path in places) == ["phantom", "phantom_patients", "phantom_volume"]


# --- the scripts


@pytest.mark.parametrize("script", ["predict", "evaluate", "explain"])
def test_a_run_folder_given_as_a_checkpoint_is_told_what_to_type(tmp_path: Path, script: str) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "best.ckpt").touch()
    images = ["images=."] if script == "predict" else []
    message = refused(script, tmp_path, "ckpt=run", *images)
    assert "ckpt=run: a folder, expected a checkpoint of train.py: type ckpt=run/checkpoints/best.ckpt" in message


@pytest.mark.slow
@pytest.mark.parametrize("script", ["predict", "evaluate", "explain"])
def test_every_script_says_what_is_wrong_with_a_checkpoint(tmp_path: Path, script: str) -> None:
    write_course_layout(tmp_path / "phantoms", **PHANTOM, workers=1)
    images = ["images=phantoms"] if script == "predict" else []
    for whole, message in (
        (with_weight(WEIGHT, NAN), "damaged, it can say nothing of a film: 1 of"),
        (with_value("config.data.size", -5), "data.size is -5, expected 32 to 8192 pixels"),
    ):
        torch.save(whole, tmp_path / "hostile.ckpt")
        output = call(f"{script}.py", tmp_path, "ckpt=hostile.ckpt", *images, code=2)
        assert message in output
        assert "Traceback" not in output
    assert not list(tmp_path.rglob("films.csv"))


def refused(script: str, place: Path, *words: str) -> str:
    """Return what a script says, in ``place``, that ends in a refusal."""
    command = [sys.executable, str(ROOT / f"{script}.py"), *words]
    ended = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 2, ended.stderr
    return ended.stderr


# --- studies


def study(**changes: Any) -> dict[str, Any]:
    """Return the content of a small classifier of drawn series, with other values at dotted keys of its config."""
    from cxr.volume.networks import cnn3d
    from cxr.volume.task import StudyTask

    findings = FindingVocabulary(**FINDINGS)
    task = StudyTask(findings, functools.partial(cnn3d, channels=[4, 4], strides=[2]), lambda parameters: None)  # type: ignore[arg-type]
    read = {
        "_target_": "cxr.data.sources.phantom_volume.read_phantom_volume",
        "_partial_": True,
        "studies": 2,
        "test_studies": 1,
    }
    steps = [{"_target_": "cxr.read.intensity.CtWindow", "center": -300.0, "width": 1400.0}]
    data = {"_target_": "cxr.data.series_data.SeriesDataModule", "root": "series", "read": read, "size": 16}
    data |= {"intensity": {"_target_": "cxr.read.intensity.Intensity", "steps": steps}, "findings": FINDINGS}
    model = {"_target_": "cxr.volume.networks.cnn3d", "_partial_": True, "channels": [4, 4], "strides": [2]}
    config: dict[str, Any] = {"name": "run", "seed": 0, "task": {"_target_": "cxr.volume.task.StudyTask"}}
    config |= {"model": model, "data": data}
    for key, value in changes.items():
        group, name = key.split("__")
        config[group][name] = value
    return {
        "state_dict": dict(task.state_dict()),
        "cxr": {"config": config, "findings": FINDINGS, "data": "", "versions": {}},
    }


def use_studies(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    load_study_task(checkpoint)
    load_study_data(checkpoint).read(Path("series"), FindingVocabulary([{"name": name} for name in DRAWN_SERIES]))


STUDIES: dict[str, tuple[dict[str, Any], str]] = {
    "series that are not there": ({}, r"series: the phantoms .* are not there"),
    "cubes of 10⁵ voxels": ({"data__size": 10**5}, r"data\.size is 100000, expected 16 to 512"),
    "voxels of NaN": ({"data__voxel_mm": NAN}, r"data\.voxel_mm is nan, expected float"),
    "a million channels": ({"model__channels": [10**6, 10**6]}, "channels is .* expected 1 to 512"),
    "100 layers": ({"model__channels": [4] * 100}, "channels holds 100 values, expected at most 8"),
}


@pytest.mark.parametrize(("changes", "message"), STUDIES.values(), ids=STUDIES)
def test_a_hostile_checkpoint_of_studies_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(study(**changes), "hostile.ckpt")
    with pytest.raises((ConfigError, PhantomError), match=message):
        use_studies(tmp_path / "hostile.ckpt")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "hostile.ckpt"]


def test_thresholds_of_studies_are_shares(tmp_path: Path) -> None:
    whole = study()
    whole["state_dict"]["thresholds"] = torch.tensor([0.5, 2.0, 0.5])
    torch.save(whole, tmp_path / "hostile.ckpt")
    with pytest.raises(ConfigError, match=r"the thresholds of its findings is \[0\.5, 2\.0, 0\.5\], expected 0 to 1"):
        load_study_task(read_checkpoint(tmp_path / "hostile.ckpt"))
