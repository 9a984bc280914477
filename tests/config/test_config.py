"""A config is judged as a whole, before data and without torch; every YAML of conf/ composes and names what exists."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cxr.config import run_files
from cxr.config.check import check
from cxr.config.entry import not_chosen
from cxr.config.errors import ConfigError
from cxr.config.signatures import constant
from scripts import ROOT

CONF = ROOT / "conf"


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    OmegaConf.register_new_resolver("cxr.run_dir", run_files.run_dir, replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def composed(*overrides: str) -> DictConfig:
    return compose("train", [*overrides, "run_dir=outputs/x"])


def problems(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        check(composed(*overrides))
    return str(error.value)


def options(group: str) -> list[str]:
    return [f"{group}={p.stem}" for p in sorted((CONF / group).glob("*.yaml"))]


GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir() and p.name not in ("hydra", "inherited"))


# What must be typed beside a choice that does not stand alone; FOLDER and FILE are there.
BESIDE = {
    "callbacks=pretrain": ["task=pretrain", "data.root=FOLDER"],
    "callbacks=study": ["model=cnn3d"],
    "callbacks=suppression": ["model=unet"],
    "data=fusion": ["model=fusion"],
    "data=layers": ["model=unet"],
    "data=series": ["model=cnn3d", "data.root=FOLDER"],
    "data=unmarked": ["task=pretrain", "data.root=FOLDER"],
    "data=volume": ["model=cnn3d"],
    "experiment=fewshot": ["model.weights=FILE"],
    "experiment=pretrain": ["data.root=FOLDER"],
    "task=pretrain": ["data.root=FOLDER"],
    "task=study": ["model=cnn3d"],
    "task=suppression": ["model=unet"],
}
BESIDE |= {f"data={name}": ["data.root=FOLDER"] for name in ("chestxdet", "coco", "course", "nih", "rsna")}
BESIDE |= {f"data={name}": ["data.root=FOLDER"] for name in ("vindr", "yolo", "sr", "boxes_csv")}
BESIDE |= {f"data={name}": ["data.root=FOLDER", "data.read.key=FILE"] for name in ("cvat", "labelstudio")}


def test_an_augmentation_that_is_typed_beside_an_experiment_is_the_one_of_its_file() -> None:
    chosen = composed("augment=hospitals").augment
    assert len(chosen.appearance) > 0
    for name in ("course", "course_cpu", "course_imagenet", "demo"):  # these choose another one
        assert composed(f"experiment={name}", "augment=hospitals").augment == chosen


@pytest.mark.parametrize("choice", [choice for group in GROUPS for choice in options(group)])
def test_every_yaml_composes_and_its_callables_take_its_arguments(choice: str, tmp_path: Path) -> None:
    file = tmp_path / "best.ckpt"
    file.touch()
    beside = [o.replace("FOLDER", str(tmp_path)).replace("FILE", str(file)) for o in BESIDE.get(choice, [])]
    if choice.startswith("callbacks=") and not beside:
        choice = f"callbacks=[default,{choice.removeprefix('callbacks=')}]"
    elif choice.startswith("callbacks="):
        choice = f"callbacks=[{choice.removeprefix('callbacks=')}]"
    if choice.startswith("cam=") or choice == "data=checkpoint":
        check(compose("explain", [choice, f"ckpt={file}", "run_dir=outputs/x"]))
    else:
        check(composed(choice, *beside))


@pytest.mark.parametrize(
    ("overrides", "monitor", "data"),
    [
        (["model=r3d"], "val/auc", "cxr.data.series_data.SeriesDataModule"),
        (["data=volume", "model=r3d", "experiment=volume"], "val/auc", "cxr.data.series_data.SeriesDataModule"),
        (["experiment=fusion"], "val/auc", "cxr.data.pair_data.PairDataModule"),
        (["experiment=suppress"], "val/psnr", "cxr.data.layers.LayeredDataModule"),
        (["experiment=pretrain", "data.root=."], "val/score", "cxr.data.unmarked.UnmarkedDataModule"),
        (["task=pretrain", "model=fcos", "data.root=."], "val/score", "cxr.data.unmarked.UnmarkedDataModule"),
        (["experiment=demo", "model=yolov8"], "val/map_50", "cxr.data.film_data.FilmDataModule"),
    ],
)
def test_a_model_brings_its_task_its_data_and_what_it_is_judged_by(
    overrides: list[str], monitor: str, data: str
) -> None:
    cfg = composed(*overrides)
    check(cfg)
    assert (cfg.monitor, cfg.data._target_) == (monitor, data)


def test_a_model_and_data_of_another_kind_are_refused_with_what_to_type() -> None:
    message = problems("model=r3d", "data=phantom")
    assert "FilmDataModule serves films, and cxr.volume.task.StudyTask learns from studies" in message
    assert "type data=fusion or data=series or data=volume" in message
    assert "learns from layers; type data=layers" in problems("model=unet", "data=phantom")


def test_the_data_of_a_stranger_say_themselves_what_they_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hospital.py").write_text(
        "from cxr.data.datamodule import DataModule\nfrom cxr.data.film_data import FilmDataModule\n"
        "class Films(FilmDataModule): pass\nclass Other(DataModule[str]):\n    serves = 'sounds'\n"
        "class Silent(DataModule[str]): pass\n"
    )
    check(composed("data._target_=hospital.Films"))
    inherited = problems("model=cnn3d", "data=phantom", "data._target_=hospital.Films")
    assert "hospital.Films serves films" in inherited
    assert "hospital.Other serves sounds" in problems("data._target_=hospital.Other")
    assert "hospital.Other serves sounds" not in problems("data._target_=hospital.Other", "learns_from=sounds")
    assert "serves" not in problems("data._target_=hospital.Silent")  # told when it is built, not here


def test_a_model_finds_what_its_task_learns_from_in_the_data_it_brings() -> None:
    for model, wanted in (("fasterrcnn", "films"), ("cnn3d", "studies"), ("fusion", "studies"), ("unet", "layers")):
        cfg = composed(f"model={model}")
        assert cfg.learns_from == constant(cfg.data._target_, "serves") == wanted


def test_marked_films_are_named_beside_those_without_marks(tmp_path: Path) -> None:
    words = ["task=pretrain", f"data.root={tmp_path}"]
    named = composed(*words, "data@data.marked=course", f"data.marked.root={tmp_path}", "monitor=val/probe_auc")
    check(named)
    assert named.data.marked._target_ == "cxr.data.film_data.FilmDataModule"
    assert named.data.views.augment.appearance == named.augment.appearance
    assert "type data@data.marked=course" in problems(*words, "monitor=val/probe_auc")
    assert "data.marked.root has no value yet" in problems(*words, "data@data.marked=course")


def test_a_checkpoints_films_are_not_for_training(tmp_path: Path) -> None:
    assert "type data=phantom, data=course or data=coco" in problems("data=checkpoint", f"data.root={tmp_path}")


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: str(p.relative_to(CONF)))
def test_every_yaml_says_what_it_is(path: Path) -> None:
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")]
    assert head[0].startswith("# "), path


def test_all_problems_come_in_one_message() -> None:
    message = problems(
        "data=course", "data.root=/nowhere", "+optimizer.momentun=0.9", "optimizer.lr=fast", "+trainer.max_epoch=3"
    )
    assert "the config has 4 problems; nothing was started" in message
    assert "data.root=/nowhere: there is no such folder" in message
    assert "optimizer.momentun: torch.optim.SGD takes no such argument. Did you mean 'momentum'?" in message
    assert "optimizer.lr is 'fast', expected float" in message
    assert "trainer.max_epoch: lightning.pytorch.Trainer takes no such argument. Did you mean 'max_epochs'?" in message


def test_a_value_still_to_be_given_is_named() -> None:
    assert "data.root has no value yet: type data.root=…" in problems("data=course")


def test_a_target_that_does_not_exist_is_named() -> None:
    assert "optimizer._target_: there is no 'SDG' in 'torch.optim'" in problems("optimizer._target_=torch.optim.SDG")


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("model=fasterrcn", "model=fasterrcn: there is no such file in conf/model/. Did you mean 'fasterrcnn'?"),
        ("optimizer.leraning_rate=1", "optimizer.leraning_rate: there is no such setting."),
        ("data.root=/nowhere", "data.root=/nowhere: "),
    ],
)
def test_what_is_mistyped_is_answered_in_one_message_before_torch_is_imported(
    typed: str, answer: str, tmp_path: Path
) -> None:
    script = (
        f"import runpy, sys; sys.argv = ['train.py', {typed!r}]; sys.path.insert(0, {str(ROOT)!r})\n"
        f"try: runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"
    assert answer in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("outputs/*/*"))  # a refused run leaves no folder


def test_the_cut_off_run_of_the_same_command_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = OmegaConf.create(["seed=1"])

    def run(time: str, overrides: list[str], *files: str) -> Path:
        folder = tmp_path / "outputs" / "cxr" / time
        for name in (run_files.COMMAND, *files):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        (folder / run_files.COMMAND).write_text(json.dumps({"overrides": overrides}))
        return folder

    run("1", ["seed=1"], "checkpoints/last.ckpt", "result.json")  # ended
    run("2", ["seed=2"], "checkpoints/last.ckpt")  # another command
    assert Path(run_files.run_dir("cxr", overrides)).name not in {"1", "2"}
    run("3", ["seed=1"])  # cut off before there was anything to go on from: begun anew, in the same folder
    assert Path(run_files.run_dir("cxr", overrides)).name == "3"
    for torn in ("", '{"overrides": ["seed=1"'):  # of a full disk: it blocks no other run of that name
        (run("3b", ["seed=1"]) / run_files.COMMAND).write_text(torn)
        assert Path(run_files.run_dir("cxr", overrides)).name == "3"
    run("3a", ["seed=1"], "studies/p1/study.json")
    assert Path(run_files.run_dir("cxr", overrides)).name == "3a"
    cut_off = run("4", ["seed=1"], "checkpoints/last.ckpt")
    assert Path(run_files.run_dir("cxr", overrides)).name == "4"
    with FileLock(cut_off / run_files.LOCK):  # it lives: a second one of the same command is a run of its own
        assert Path(run_files.run_dir("cxr", overrides)).name != "4"


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        (["data.size=512"], "model=fasterrcnn_tiny trainer=cpu data.size=256"),
        (["data.size=512", "trainer=cpu"], "model=fasterrcnn_tiny data.size=256"),
        (["data.size=128"], "model=fasterrcnn_tiny trainer=cpu"),  # films of 256 px would take longer
        (["model=fasterrcnn_tiny", "trainer=cpu", "data.size=256"], ""),
    ],
)
def test_a_long_training_is_advised_to_take_only_what_its_config_has_not_chosen(
    typed: list[str], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    cfg = compose("train", ["data=phantom", *typed, "run_dir=outputs/x"], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    assert cfg.callbacks.progress.quicker == advice


def test_outside_a_run_a_group_counts_as_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    cfg = OmegaConf.create({"data": {"size": 256, "name": "a"}})
    assert not_chosen("trainer=cpu data.size=256 data.name=a data.name=b", _root_=cfg) == "trainer=cpu data.name=b"


def test_settings_of_a_callback_that_is_not_chosen_are_named() -> None:
    named = "callbacks.page has settings and no _target_: none of the chosen callbacks=… defines it"
    assert named in problems("experiment=smoke", "callbacks=[]", "data.root=data")
    check(composed("experiment=smoke", "callbacks=[]", "~callbacks.page", "data.root=data"))
    check(composed("callbacks=[]", "logger=[]", "data.root=data"))
