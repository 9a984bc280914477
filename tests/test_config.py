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
from omegaconf import DictConfig, OmegaConf

from cxr import config
from cxr.config import ConfigError, check, run_dir

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    OmegaConf.register_new_resolver("cxr.run_dir", run_dir, replace=True)
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


GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir() and p.name != "hydra")


@pytest.mark.parametrize("choice", [choice for group in GROUPS for choice in options(group)])
def test_every_yaml_composes_and_its_callables_take_its_arguments(choice: str, tmp_path: Path) -> None:
    if choice.startswith("callbacks="):
        choice = f"callbacks=[default,{choice.removeprefix('callbacks=')}]"
    root = [] if choice == "data=phantom" else [f"data.root={tmp_path}"]
    if choice.startswith("cam=") or choice == "data=checkpoint":
        checkpoint = tmp_path / "best.ckpt"
        checkpoint.touch()
        check(compose("explain", [choice, *root, f"ckpt={checkpoint}", "run_dir=outputs/x"]))
    else:
        check(composed(choice, *root))


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
        f"import runpy, sys; sys.argv = ['train.py', {typed!r}]\n"
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
        for name in (config.COMMAND, *files):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        (folder / config.COMMAND).write_text(json.dumps({"overrides": overrides}))
        return folder

    run("1", ["seed=1"], "checkpoints/last.ckpt", "result.json")  # ended
    run("2", ["seed=2"], "checkpoints/last.ckpt")  # another command
    run("3", ["seed=1"])  # cut off before there was anything to go on from
    assert Path(run_dir("cxr", overrides)).name not in {"1", "2", "3"}
    cut_off = run("4", ["seed=1"], "checkpoints/last.ckpt")
    assert Path(run_dir("cxr", overrides)).name == "4"
    with FileLock(cut_off / config.LOCK):  # it lives: a second one of the same command is a run of its own
        assert Path(run_dir("cxr", overrides)).name != "4"
