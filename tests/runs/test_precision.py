"""A training on a CPU takes bfloat16 only where the processor is faster in it, and keeps what it was begun with."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from cxr.config.errors import ConfigError
from cxr.runs import precision
from cxr.runs import train as run
from scripts import ROOT, call

# What oneDNN says of its instructions, and the seconds of a product in float32 and in bfloat16
MACHINES = {"avx2": (False, 0.3e-3, 40e-3), "avx512bw": (True, 0.3e-3, 1.4e-3), "amx": (True, 0.3e-3, 0.06e-3)}


class Machine:
    """A processor that is played; counts how often it is timed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timed = 0
        self._monkeypatch = monkeypatch

    def play(self, name: str) -> None:
        instructions, *seconds = MACHINES[name]

        def timed() -> list[float]:
            self.timed += 1
            return seconds

        self._monkeypatch.setattr(precision, "_has_instructions", lambda: instructions)
        self._monkeypatch.setattr(precision, "_seconds_of_products", timed)
        precision.bfloat16.cache_clear()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    yield Machine(monkeypatch)
    precision.bfloat16.cache_clear()


@pytest.mark.parametrize(("name", "chosen"), [("avx2", "32-true"), ("avx512bw", "32-true"), ("amx", "bf16-mixed")])
def test_bfloat16_is_chosen_only_where_it_is_there_and_faster(machine: Machine, name: str, chosen: str) -> None:
    machine.play(name)
    assert precision.faster() == chosen


def test_a_processor_without_the_instructions_is_not_timed_and_one_with_them_once(machine: Machine) -> None:
    machine.play("avx2")
    precision.faster()
    assert machine.timed == 0
    machine.play("amx")
    precision.faster()
    precision.faster()
    assert machine.timed == 1


def test_timing_ends_early_on_a_processor_that_is_very_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(number * 0.04 for number in range(1000))  # 40 ms a product, as in bfloat16 on AVX2
    asked: list[float] = []

    def clock() -> float:
        asked.append(next(now))
        return asked[-1]

    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=clock))
    assert precision._seconds_of_products() == pytest.approx((0.04, 0.04))
    assert asked[-1] < 0.3


def test_timing_leaves_the_number_of_threads_as_it_was() -> None:
    threads = torch.get_num_threads()
    precision._seconds_of_products()
    assert torch.get_num_threads() == threads


def test_this_machine_can_be_asked() -> None:
    known = precision.bfloat16()
    assert known.instructions == (known.times_as_fast > 0)
    assert "bfloat16" in str(known)


def begun(folder: Path, used: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "command.json").write_text(json.dumps({"overrides": [], "config": {"trainer": {"precision": used}}}))
    return folder


@pytest.mark.parametrize(("there", "here"), [("bf16-mixed", "avx2"), ("32-true", "amx")])
def test_a_resumed_run_keeps_the_precision_of_the_machine_it_was_begun_on(
    machine: Machine, tmp_path: Path, there: str, here: str
) -> None:
    machine.play(here)
    assert precision.settled("cpu", begun(tmp_path / "run", there), None, rank=0) == there


@pytest.mark.parametrize("text", ["", '{"ove', "[]", '{"config": {}}'])
def test_a_torn_note_of_a_run_is_left_to_whoever_holds_the_folder(machine: Machine, tmp_path: Path, text: str) -> None:
    """run_folder says in one message what is wrong with it; a traceback from here would come before."""
    machine.play("avx2")
    (tmp_path / "command.json").write_text(text)
    assert precision.settled("cpu", tmp_path, None, rank=0) == "32-true"


def test_the_jobs_of_a_sweep_train_in_what_its_first_job_chose(machine: Machine, tmp_path: Path) -> None:
    machine.play("amx")
    assert precision.settled("cpu", tmp_path / "sweep" / "a", tmp_path / "sweep", rank=0) == "bf16-mixed"
    machine.play("avx2")  # another machine of the cluster
    assert precision.settled("cpu", tmp_path / "sweep" / "b", tmp_path / "sweep", rank=0) == "bf16-mixed"
    assert precision.settled("cpu", tmp_path / "alone", None, rank=0) == "32-true"


def test_other_processes_take_what_the_first_has_chosen(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.play("avx2")
    assert precision.settled("cpu", begun(tmp_path / "run", "bf16-mixed"), None, rank=1) == "bf16-mixed"
    monkeypatch.setattr(precision, "_WAIT_S", 0.0)
    with pytest.raises(ConfigError, match="the first process of this run has not written it"):
        precision.settled("cpu", tmp_path / "new", None, rank=1)


def test_another_accelerator_is_refused_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"trainer\.accelerator is gpu; type trainer\.precision=bf16-mixed or 32-true"
    ):
        precision.settled("gpu", tmp_path, None, rank=0)


def test_the_log_says_which_and_why_and_what_to_type_where_it_is_the_slow_one(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    machine.play("avx2")
    precision.tell("32-true", resumed=False)
    assert caplog.records[-1].levelname == "INFO"
    assert caplog.messages[-1] == "trainer.precision is 32-true: this processor has no bfloat16 instructions"
    precision.tell("bf16-mixed", resumed=True)
    assert caplog.records[-1].levelname == "WARNING"
    assert "as this run was begun, the slower one here" in caplog.messages[-1]
    assert "type trainer.precision=32-true" in caplog.messages[-1]
    machine.play("amx")
    precision.tell("bf16-mixed", resumed=False)
    assert "5.0 times as fast as in float32" in caplog.messages[-1]
    precision.tell("32-true", resumed=True)
    assert "type trainer.precision=bf16-mixed" in caplog.messages[-1]


def composed(folder: Path, *overrides: str) -> DictConfig:
    cfg = compose("train", ["experiment=smoke", f"run_dir={folder}", *overrides], return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(folder)
        cfg.hydra.mode = "RUN"
        HydraConfig.instance().set_config(cfg)
        del cfg["hydra"]
    return cfg


@pytest.mark.usefixtures("configs")
def test_a_run_is_kept_with_what_it_uses_and_goes_on_with_it_on_the_other_machine(
    machine: Machine, tmp_path: Path
) -> None:
    machine.play("amx")
    with run.opened(composed(tmp_path / "run")):
        kept = json.loads((tmp_path / "run" / "command.json").read_text(encoding="utf-8"))
    assert kept["config"]["trainer"]["precision"] == "bf16-mixed"
    machine.play("avx2")
    again = composed(tmp_path / "run")
    with run.opened(again):
        assert again.trainer.precision == "bf16-mixed"  # what the trainer is built with, and every checkpoint keeps
    with (
        pytest.raises(ConfigError, match=r"trainer\.precision: bf16-mixed there, 32-true now"),
        run.opened(composed(tmp_path / "run", "trainer.precision=32-true")),
    ):
        pass


def test_each_precision_that_a_yaml_names_for_a_cpu_has_its_reason() -> None:
    named = {}
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for node in (content, (content or {}).get("trainer") or {}):
            if isinstance(node, dict) and "precision" in node:
                named[path.stem] = (node.get("accelerator"), node["precision"])
    assert named == {
        "default": ("auto", "32-true"),
        "cpu": ("cpu", "auto"),
        "gpu": ("gpu", "bf16-mixed"),
        "ddp": ("gpu", "bf16-mixed"),
        "course_imagenet": (None, "32-true"),  # its convolutions of single channels are slower in bfloat16
    }


@pytest.mark.slow
def test_a_run_goes_from_a_machine_with_bfloat16_to_one_without_and_back(place: Path) -> None:
    if not precision.bfloat16().faster:
        pytest.skip("this processor is not faster in bfloat16: it cannot play one that is")

    def train(folder: str, epochs: int, **environment: str) -> str:
        words = ["experiment=smoke", f"hydra.run.dir={folder}", f"trainer.max_epochs={epochs}"]
        return call("train.py", place, *words, **environment)

    avx2 = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert "trainer.precision is bf16-mixed: products in bfloat16 are" in train("with", 1)
    assert "trainer.precision is 32-true: this processor has no bfloat16 instructions" in train("without", 1, **avx2)
    output = train("with", 2, **avx2)
    assert "WARNING trainer.precision is bf16-mixed, as this run was begun, the slower one here" in output
    assert "type trainer.precision=32-true" in output
    assert "trainer.precision is 32-true, as this run was begun, the slower one here" in train("without", 2)
    for folder, used in (("with", "bf16-mixed"), ("without", "32-true")):
        last = torch.load(place / folder / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["cxr"]["config"]["trainer"]["precision"] == used
        sessions = json.loads((place / folder / "provenance.json").read_text(encoding="utf-8"))
        assert [session["precision"] for session in sessions] == [used, used]
        assert sessions[0]["hardware"]["bfloat16"] != sessions[1]["hardware"]["bfloat16"]
