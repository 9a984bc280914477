"""What a checkpoint's config may not call: each is refused by its place, and nothing is called."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest

from cxr.config.errors import ConfigError
from cxr.runs.restore import (
    load_data,
    load_study_data,
    load_study_task,
    load_task,
)


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


@pytest.mark.parametrize("key", [f"data.intensity.rows.0{rest}" for rest in ("", ".kind", ".steps.0")])
def test_no_row_of_a_table_of_modalities_is_a_call(written: Any, payload: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=r"its config's data\.intensity\.rows\.0"):
        load_data(written(key, payload, "intensity=by_modality"))


MERGED = ("data=merge", "data.read.sources.coco.root=one", "data.read.sources.rsna.root=two")


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


@pytest.mark.parametrize("key", ["data.read", "data.intensity.steps.0", "data", "model", "model.channels"])
def test_no_setting_of_studies_is_a_call(written: Any, payload: dict[str, Any], key: str) -> None:
    checkpoint = written(key, payload, "model=cnn3d")
    with pytest.raises(ConfigError, match=r"its config's (data|model)"):
        (load_study_task if key.startswith("model") else load_study_data)(checkpoint)
