"""A checkpoint gives its detector and its data back, and nothing it names is run."""

import copy
import functools
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_type_hints

import hydra
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from cxr.config.entry import resolved
from cxr.config.errors import ConfigError
from cxr.data.film import Film
from cxr.data.film_data import FilmDataModule
from cxr.data.sources.rsna import read_rsna
from cxr.detect.task import DetectionTask
from cxr.findings import FindingVocabulary
from cxr.read.radiograph import Radiograph, ReadError
from cxr.runs.checkpoint import Checkpoint, read_checkpoint
from cxr.runs.restore import (
    intensity_of_films,
    load_data,
    load_study_data,
    load_study_task,
    load_task,
    restored_intensity,
    same_films,
)
from cxr.runs.restored_network import model_builder, of_studies
from cxr.suppress.unet import UNet
from cxr.volume.task import StudyTask

CONF = Path(__file__).parents[2] / "conf"
SMALL = [
    *("model=fasterrcnn_tiny", "augment=strong", "data.size=64", "data.batch_size=2", "data.workers=0", "seed=3"),
]
DRAWN = ["data.read.films=12", "data.read.test_films=3", "data.read.size=96", "+data.read.workers=1"]


@pytest.fixture(scope="module", autouse=True)
def configs() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films") / "phantom"


@functools.cache  # composing takes a tenth of a second
def composed(*overrides: str) -> Any:
    drawn = [] if {"data=merge", "model=cnn3d"} & set(overrides) else DRAWN
    return compose("train", [*SMALL, *drawn, *overrides, "run_dir=outputs/x"])


def card(cfg: Any, data: str = "") -> dict[str, Any]:
    """Return what ``train.py`` keeps in a checkpoint."""
    findings = hydra.utils.instantiate(cfg.findings, _convert_="all")
    return {"config": resolved(cfg), "findings": findings.as_dict(), "data": data, "versions": {"torch": "2"}}


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., tuple[Path, DetectionTask]]:
    """Write the checkpoint of a detector that ``overrides`` compose; return it with the detector itself."""

    def train(*overrides: str) -> tuple[Path, DetectionTask]:
        cfg = composed(*overrides)
        torch.manual_seed(0)
        task = hydra.utils.instantiate(cfg.task, _convert_="all")
        raw = {key: torch.zeros_like(value) for key, value in task.state_dict().items()}  # weight averaging keeps both
        path = tmp_path / "best.ckpt"
        torch.save({"state_dict": task.state_dict(), "current_model_state": raw, "cxr": card(cfg)}, path)
        return path, task

    return train


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Checkpoint]:
    """Write a checkpoint without weights whose config has ``value`` at a dotted ``key``, and read it."""

    def write(key: str = "seed", value: Any = 3, *overrides: str, data: str = "") -> Checkpoint:
        content = {"state_dict": {}, "cxr": card(composed(*overrides), data)}
        *parents, last = key.split(".")
        node: Any = content["cxr"]["config"]
        for name in parents:
            node = node[int(name) if name.isdecimal() else name]
        node[int(last) if last.isdecimal() else last] = value
        torch.save(content, tmp_path / "any.ckpt")
        return read_checkpoint(tmp_path / "any.ckpt")

    return write


# --- the detector


def detected(task: DetectionTask) -> list[dict[str, torch.Tensor]]:
    images = [torch.rand(1, 64, 48, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 48, 64)]
    size = {"scale": torch.tensor([0.5, 0.5]), "size": torch.tensor([128, 128])}
    return task.detect(images, [size, size])


def test_a_restored_detector_finds_what_the_trained_one_found(trained: Any) -> None:
    path, task = trained()
    restored = load_task(read_checkpoint(path))
    expected = detected(task)
    assert len(expected[0]["boxes"]) > 0
    torch.testing.assert_close(detected(restored), expected, rtol=0, atol=0)
    assert not any(module.training for module in restored.modules())
    assert restored.findings.label("scoliosis", "zh") == "脊椎側彎"
    with pytest.raises(RuntimeError, match=r"train\.py trains"):
        restored.configure_optimizers()


def test_the_weights_it_was_trained_from_may_be_gone(trained: Any, tmp_path: Path) -> None:
    # With weights a detector is built with frozen batch normalisation, without with another: it must come back alike
    start = tmp_path / "coco.pth"
    torch.save(ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=8).state_dict(), start)
    path, task = trained("model=ssdlite", f"model.weights={start}")
    start.unlink()
    expected = detected(task)
    assert len(expected[0]["boxes"]) > 0
    torch.testing.assert_close(detected(load_task(read_checkpoint(path))), expected, rtol=0, atol=0)


def test_weights_that_do_not_fit_the_config_are_refused(trained: Any) -> None:
    path, _ = trained()
    content = torch.load(path)
    content["cxr"]["config"]["model"]["regions"]["width"] = 32
    torch.save(content, path)
    with pytest.raises(ConfigError, match=r"(?s)best\.ckpt: its config's model does not fit its weights.*box_head"):
        load_task(read_checkpoint(path))


def test_a_head_for_other_findings_is_refused_not_left_at_random(trained: Any) -> None:
    path, _ = trained()
    content = torch.load(path)
    content["cxr"]["findings"]["findings"].pop()
    torch.save(content, path)
    with pytest.raises(ConfigError, match=r"(?s)its config's model does not fit its weights.*box_predictor"):
        load_task(read_checkpoint(path))


def test_an_argument_this_version_does_not_know_is_named(trained: Any) -> None:
    path, _ = trained()
    content = torch.load(path)
    content["cxr"]["config"]["model"]["dropout"] = 0.5
    torch.save(content, path)
    with pytest.raises(ConfigError, match=r"its config's model does not fit .*'dropout'"):
        load_task(read_checkpoint(path))


# --- what is no checkpoint


def test_what_is_no_checkpoint_is_refused_in_words(tmp_path: Path, trained: Any) -> None:
    whole = trained()[0].read_bytes()
    for name, content, message in (
        ("page.ckpt", b"<html>not found</html>" * 50, "not a checkpoint"),
        ("empty.ckpt", b"", "not a checkpoint: it is empty|Ran out of input"),
        ("torn.ckpt", whole[: len(whole) // 2], "not a checkpoint"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=rf"{name}: ({message})"):
            read_checkpoint(tmp_path / name)
    for absent in (tmp_path / "nothing.ckpt", tmp_path):
        with pytest.raises(ConfigError, match="there is no such file, expected a checkpoint of train"):
            read_checkpoint(absent)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "not a checkpoint of this project"),
        ({"epoch": 3, "state_dict": {}}, "not a checkpoint of this project: expected 'state_dict' and 'cxr'"),
        ({"state_dict": {}, "cxr": {}}, "cxr.config is NoneType, expected dict"),
        (
            {"state_dict": {}, "cxr": {"config": {}, "findings": {"findings": []}, "data": "", "versions": {}}},
            "cxr.findings is no vocabulary: a vocabulary needs at least one finding",
        ),
    ],
)
def test_a_checkpoint_of_another_program_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ConfigError, match=rf"other\.ckpt: {message}"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_an_operating_point_comes_along_and_must_be_plain(tmp_path: Path, written: Any) -> None:
    assert written().operating_point is None
    content = {"state_dict": {}, "cxr": card(composed()) | {"operating_point": {"threshold": 0.25}}}
    torch.save(content, tmp_path / "with.ckpt")
    assert read_checkpoint(tmp_path / "with.ckpt").operating_point == {"threshold": 0.25}
    content["cxr"]["operating_point"] = 0.25
    torch.save(content, tmp_path / "with.ckpt")
    with pytest.raises(ConfigError, match=r"with\.ckpt: cxr\.operating_point is float, expected dict"):
        read_checkpoint(tmp_path / "with.ckpt")


class Payload:
    """Unpickled the unsafe way, it makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.sentinel}",)


def test_a_checkpoint_that_holds_code_is_refused_and_nothing_of_it_is_run(tmp_path: Path) -> None:
    path, sentinel = tmp_path / "bad.ckpt", tmp_path / "sentinel"
    torch.save({"state_dict": {}, "cxr": Payload(sentinel)}, path)
    with pytest.raises(ConfigError, match=r"bad\.ckpt: .* names posix\.system, .*Nothing of it was run") as refused:
        read_checkpoint(path)
    assert "weights_only" not in str(refused.value)  # torch's own words advise to load the file unsafely
    path.write_bytes(pickle.dumps(Payload(sentinel), protocol=2))
    with pytest.raises(ConfigError, match=r"bad\.ckpt: not a checkpoint"):
        read_checkpoint(path)
    assert not sentinel.exists()
    pickle.loads(path.read_bytes())  # noqa: S301  the payload is a live one
    assert sentinel.exists()


# --- what a config may not call


@pytest.fixture
def payload(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A node that makes a file where anybody instantiates it, and that Hydra itself would let pass."""
    sentinel = tmp_path / "sentinel"
    node = {"_target_": "torch.save", "obj": 1, "f": str(sentinel)}
    hydra.utils.instantiate(node)
    sentinel.unlink()  # raises where it was not made: the payload is a live one
    yield node
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "hydra.utils.get_method",
        "hydra.utils.instantiate",
        "builtins.eval",
        "cxr.detect.detector.torch.hub.load",
        "cxr.detect.detr.RTDETR",  # imported there
        "cxr.detect.detector.load_weights",  # likewise
        "cxr.detect.faster_rcnn._region_heads",
        "cxr.detect.faster_rcnn.faster_rcnn.__globals__.get",
        "cxr.detect.detector.finish",
        "cxr.detect.stream.predict_films",
        "cxr.phantom.films.write_course_layout",
        "cxr.runs.train.fit",
        ["os.system"],
        None,
    ],
)
def test_only_builders_of_this_project_make_a_detector(written: Any, target: Any) -> None:
    with pytest.raises(ConfigError, match=r"any\.ckpt: its config's model\._target_ is ") as refused:
        load_task(written("model._target_", target))
    assert repr(target) in str(refused.value)


@pytest.mark.parametrize(
    "key", ["model.backbone.mean", "model.backbone.mean.0", "model.score_thresh", "model._args_", "model"]
)
def test_no_argument_of_a_detector_is_a_call(written: Any, payload: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"its config's {key}[._].* is .*torch\.save|its config's model\._args_"):
        load_task(written(key, payload if key != "model._args_" else [payload]))


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("data", "os.system"),
        ("data", "lightning.LightningDataModule"),
        ("data", "cxr.data.film_data.FilmDataModule.from_datasets"),
        ("data.read", "cxr.data.sources.root.os.system"),
        ("data.read", "cxr.phantom.films.write_course_layout"),
        ("data.read", "cxr.data.sources.phantom.read_course"),  # imported there
        ("data.read", "cxr.data.sources.course.read_csv"),
        ("data.read", "cxr.data.sources.layouts.read_merge_file"),
        ("data.read", "cxr.runs.train.fit"),
        ("data.intensity", "os.system"),
        ("data.intensity", "cxr.read.intensity.LogWindow"),
        ("data.intensity.steps.0", "cxr.read.intensity.Radiograph"),
        ("data.intensity.steps.0", "cxr.read.intensity.Values"),
        ("data.intensity.steps.0", "cxr.read.intensity.Intensity"),
        ("data.intensity.steps.0", "cxr.read.intensity.cv2.imread"),
    ],
)
def test_only_this_projects_own_parts_make_the_data(written: Any, root: Path, key: str, target: str) -> None:
    with pytest.raises(ConfigError, match=rf"its config's {key}\._target_ is '{target}', which a checkpoint may not"):
        load_data(written(f"{key}._target_", target), {"root": str(root.parent)})


@pytest.mark.parametrize(
    "key",
    [
        *("data.val_fraction", "data.size", "data.root", "data.read", "data.read.films", "data.intensity"),
        *("data.intensity.steps", "data.intensity.steps.0", "data.intensity.steps.0.scale"),
    ],
)
def test_no_setting_of_the_data_is_a_call(written: Any, payload: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=r"its config's data\."):
        load_data(written(key, payload))


def test_a_checkpoint_does_not_choose_where_this_machine_writes(written: Any, tmp_path: Path, root: Path) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    cached = load_data(written("data.cache", elsewhere), {"root": str(root.parent)}).cache
    assert cached.folder.parent == Path(".cache/films")
    for phantoms in (elsewhere, "../elsewhere"):  # which would be drawn there
        with pytest.raises(ConfigError, match=r"data\.root=.*elsewhere: there is no such folder; type data\.root="):
            load_data(written("data.root", phantoms))
    assert load_data(written("data.root", "phantoms")).root == Path("phantoms")
    assert not (tmp_path / "elsewhere").exists()


def test_interpolations_in_a_checkpoint_are_text(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "told")
    assert load_data(written("data.root", "${oc.env:SECRET}")).root == Path("${oc.env:SECRET}")
    chosen = {"_target_": "cxr.data.film_data.FilmDataModule", "root": ".", "seed": "${seed}"}
    with pytest.raises(ConfigError, match=r"its config's seed is '\$\{oc\.env:SECRET\}', expected int"):
        load_data(written("seed", "${oc.env:SECRET}"), chosen)


DETECTORS = sorted(p.stem for p in (CONF / "model").glob("*.yaml") if "/task@" not in p.read_text(encoding="utf-8"))
BACKBONES = sorted(p.stem for p in (CONF / "model" / "backbone").glob("*.yaml"))
COMPOSED = [f"model={name}" for name in DETECTORS] + [f"model/backbone={name}" for name in BACKBONES]


def network_of(checkpoint: Checkpoint, kind: type, within: str) -> Any:
    return model_builder(checkpoint, get_type_hints(kind.__init__)["model"], within)  # type: ignore[misc]


@pytest.mark.parametrize("choice", COMPOSED)
def test_every_detector_and_backbone_of_conf_can_come_back(written: Any, choice: str) -> None:
    named = ["model.backbone.name=mobilenetv3_small_050"] if choice.endswith("timm") else []
    checkpoint = written("seed", 3, choice, *named)
    kept = checkpoint.config["model"]
    builder = network_of(checkpoint, DetectionTask, "cxr.detect")
    assert builder.keywords["score_thresh"] == kept["score_thresh"]
    assert builder.keywords["weights"] == str(checkpoint.path)
    if "backbone" in kept:
        assert builder.keywords["backbone"].keywords["mean"] == kept["backbone"]["mean"]
        assert builder.keywords["backbone"].keywords["weights"] is None  # those of the whole count


EXPERIMENTS = sorted(p.stem for p in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("choice", [*(f"model={m}" for m in DETECTORS), *(f"experiment={e}" for e in EXPERIMENTS)])
def test_the_settings_of_every_model_and_experiment_are_within_the_limits(tmp_path: Path, choice: str) -> None:
    cfg = compose("train", [choice, f"++data.root={tmp_path}", "run_dir=outputs/x"])
    if "suppress" in cfg.task._target_:  # of a network that ``cxr.suppress.step`` reads
        return
    torch.save({"state_dict": {}, "cxr": card(cfg)}, tmp_path / "any.ckpt")
    checkpoint = read_checkpoint(tmp_path / "any.ckpt")
    load: Any = load_study_data if of_studies(checkpoint) else load_data
    assert load(checkpoint).batch_size == cfg.data.batch_size
    kind, within = (StudyTask, "cxr.volume") if of_studies(checkpoint) else (DetectionTask, "cxr.detect")
    assert network_of(checkpoint, kind, within)


FILMS = "/inherited/films"
DATA_SETS = sorted(p.stem for p in (CONF / "data").glob("*.yaml") if FILMS in p.read_text(encoding="utf-8"))


@pytest.mark.parametrize("choice", DATA_SETS)
def test_every_data_set_of_conf_can_come_back(tmp_path: Path, choice: str) -> None:
    cfg = compose("train", [f"data={choice}", f"data.root={tmp_path}", "run_dir=outputs/x"])
    torch.save({"state_dict": {}, "cxr": card(cfg)}, tmp_path / "any.ckpt")
    data = load_data(read_checkpoint(tmp_path / "any.ckpt"))
    assert (data.root, data.size, data.val_fraction) == (tmp_path, cfg.data.size, 0.15)


# --- the data


def ready(data: FilmDataModule) -> FilmDataModule:
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(scope="module")
def original(root: Path, tmp_path_factory: pytest.TempPathFactory) -> FilmDataModule:
    """The data as ``train.py`` makes them."""
    cfg = composed(f"data.root={root}", f"data.cache={tmp_path_factory.mktemp('cache')}")
    return ready(hydra.utils.instantiate(cfg.data, _convert_="all"))


def test_the_data_are_those_it_was_trained_on(written: Any, original: FilmDataModule, tmp_path: Path) -> None:
    checkpoint = written("data.root", str(original.root), data=original.fingerprint())
    data = ready(load_data(checkpoint, {"root": None, "cache": str(tmp_path / "cache"), "read": None}))
    assert same_films(checkpoint, data)
    assert {split: [film.path for film in films] for split, films in data.films.items()} == {
        split: [film.path for film in films] for split, films in original.films.items()
    }
    image = data.dataset("test")[0][0]
    assert torch.equal(image, original.dataset("test")[0][0])
    assert max(image.shape) == checkpoint.size == 64
    assert torch.equal(data.dataset("train")[0, 0][0], data.dataset("train")[1, 0][0])  # nothing is augmented


def test_films_that_stand_elsewhere_now_are_found_by_their_root(
    written: Any, original: FilmDataModule, tmp_path: Path
) -> None:
    checkpoint = written("data.root", "/nowhere", data=original.fingerprint())
    with pytest.raises(ConfigError, match=r"data\.root=/nowhere: there is no such folder"):
        load_data(checkpoint)
    moved = {"root": str(original.root), "cache": str(tmp_path / "cache")}
    assert same_films(checkpoint, ready(load_data(checkpoint, moved)))
    other = ready(
        load_data(checkpoint, {**moved, "val_fraction": 0.4})
    )  # other splits: what was trained on would be tested on
    assert not same_films(checkpoint, other)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"size": 128}, r"data\.size=128: films come as .*any\.ckpt was trained; leave it out"),
        ({"augment": {"_target_": "cxr.data.augment.Augment"}}, r"data\.augment="),
        ({"intensity": {"_target_": "cxr.read.intensity.Intensity", "steps": []}}, r"data\.intensity="),
        ({"rot": "x"}, "data does not fit .*'rot'"),
        ({"batch_size": 0}, "data.batch_size is 0, expected 1 to 1024"),
        ({"batch_size": "many"}, "data.batch_size is 'many', expected int"),
    ],
)
def test_settings_that_are_the_detectors_or_nobodys_are_refused(
    written: Any, original: FilmDataModule, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_data(written("data.root", str(original.root)), {"size": 64, **overrides})  # 64 is as it was trained


def test_another_data_set_comes_as_the_detector_needs_it(written: Any, tmp_path: Path) -> None:
    chosen = compose("evaluate", ["ckpt=any.ckpt", "data=course"]).data
    checkpoint = written("seed", 11, "intensity=percentile")
    with pytest.raises(ConfigError, match=r"data\.root has no value yet: type data\.root="):
        load_data(checkpoint, chosen)
    chosen.root = str(tmp_path)
    data = load_data(checkpoint, chosen)
    assert (data.root, data.size, data.seed, data.augment) == (tmp_path, 64, 11, None)  # course.yaml says 512
    assert data.findings is checkpoint.findings
    assert data.cache.intensity.fingerprint() == restored_intensity(checkpoint).fingerprint()
    OmegaConf.set_struct(chosen, False)
    chosen.findngs = "x"
    with pytest.raises(ConfigError, match="findngs"):
        load_data(checkpoint, chosen)


def read_mine(root: Path, findings: FindingVocabulary) -> list[Film]:
    """A reader outside this project."""
    boxes = np.zeros((0, 4), np.float32)
    return [Film(root / f"{i}.png", f"{i}", f"s{i}", f"p{i}", boxes, (), 64, 64) for i in range(4)]


def test_a_user_may_name_a_reader_of_their_own(written: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    chosen = {"_target_": "cxr.data.film_data.FilmDataModule", "root": str(tmp_path)}
    data = load_data(written(), chosen | {"read": {"_target_": "mine.read_mine", "_partial_": True}})
    assert len(data.read(tmp_path, data.findings)) == 4
    with pytest.raises(ConfigError, match=r"expected cxr\.data\.film_data\.FilmDataModule"):
        load_data(written(), {"_target_": "builtins.dict"})


@pytest.mark.parametrize("choice", sorted(p.stem for p in (CONF / "intensity").glob("*.yaml")))
def test_every_intensity_of_conf_comes_back(written: Any, tmp_path: Path, choice: str) -> None:
    chosen = [f"intensity={choice}"]
    if choice == "suppressed":
        chosen.append(f"intensity.steps.1.weights={suppressor(tmp_path / 'unet.ckpt')}")
    trained = hydra.utils.instantiate(composed(*chosen).intensity, _convert_="all")
    checkpoint = written("seed", 3, *chosen)
    before = copy.deepcopy(checkpoint.config)
    assert restored_intensity(checkpoint).fingerprint() == trained.fingerprint()
    assert checkpoint.config == before


def suppressor(path: Path) -> Path:
    """Write the checkpoint of a network that takes nothing off."""
    state = {f"network.{name}": value for name, value in UNet((8, 8)).state_dict().items()}
    config = {"model": {"_target_": "cxr.suppress.unet.UNet", "widths": [8, 8]}, "data": {"size": 16}}
    torch.save({"state_dict": state, "cxr": {"config": config}}, path)
    return path


@pytest.mark.parametrize("key", [f"data.intensity.rows.0{rest}" for rest in ("", ".kind", ".steps.0")])
def test_no_row_of_a_table_of_modalities_is_a_call(written: Any, payload: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=r"its config's data\.intensity\.rows\.0"):
        load_data(written(key, payload, "intensity=by_modality"))


def test_a_detector_takes_films_of_its_own_kind_only(written: Any) -> None:
    checkpoint = replace(written(), kind="radiograph")
    slice_ = Radiograph(Path("slice.dcm"), np.zeros((8, 8), np.uint16), "MONOCHROME2", 12, "s", "p", modality="CT")
    with pytest.raises(ReadError, match=r"slice\.dcm: Modality is 'CT' .* trained on films of kind radiograph"):
        intensity_of_films(checkpoint)(slice_)
    intensity_of_films(written())(slice_)  # a checkpoint of before does not tell


# --- several data sets


MERGED = ("data=merge", "data.read.sources.coco.root=one", "data.read.sources.rsna.root=two")


def test_the_sources_of_a_merge_come_back_with_their_vocabularies(written: Any, root: Path) -> None:
    read = load_data(written("data.root", str(root.parent), *MERGED)).read
    sources = cast(Any, read).keywords["sources"]
    assert sources["rsna"].findings.names == ("lung_opacity",)
    assert sources["rsna"].mapping == {"lung_opacity": "lung_field_infiltration"}
    assert (sources["rsna"].read.func, sources["coco"].root) == (read_rsna, "one")


@pytest.mark.parametrize(
    "key",
    [
        "data.read.sources.rsna.root",
        "data.read.sources.rsna.read",
        "data.read.sources.rsna.mapping",
        "data.read.sources.rsna.findings",
        "data.read.sources.rsna.findings.findings",
    ],
)
def test_no_source_of_a_merge_is_a_call(written: Any, payload: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=r"its config's data\.read\.sources\.rsna"):
        load_data(written(key, payload, *MERGED))


# --- studies


def test_a_classifier_of_studies_comes_back_and_is_no_detector(tmp_path: Path, root: Path) -> None:
    cfg = composed("model=cnn3d", "model.channels=[4,4]", "model.strides=[2]", f"data.root={root.parent}")
    torch.manual_seed(0)
    task = hydra.utils.instantiate(cfg.task, _convert_="all")
    findings = hydra.utils.instantiate(cfg.findings).as_dict()
    torch.save({"state_dict": task.state_dict(), "cxr": card(cfg) | {"findings": findings}}, tmp_path / "any.ckpt")
    checkpoint = read_checkpoint(tmp_path / "any.ckpt")
    batch = {"volume": torch.rand(2, 1, 16, 16, 16), "labels": torch.zeros(2, 2), "item": torch.arange(2)}
    torch.testing.assert_close(load_study_task(checkpoint).classify(batch), task.eval().classify(batch))
    data = load_study_data(checkpoint)
    assert (data.root, data.batch_size, data.seed) == (root.parent, 2, 3)
    with pytest.raises(ConfigError, match=r"of a network for whole studies, not of a detector; python explain\.py"):
        load_task(checkpoint)


@pytest.mark.parametrize("key", ["data.read", "data.intensity.steps.0", "data", "model", "model.channels"])
def test_no_setting_of_studies_is_a_call(written: Any, payload: dict[str, Any], key: str) -> None:
    checkpoint = written(key, payload, "model=cnn3d")
    with pytest.raises(ConfigError, match=r"its config's (data|model)"):
        (load_study_task if key.startswith("model") else load_study_data)(checkpoint)
