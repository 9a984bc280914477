"""``cxr doctor``: what is there, what is wrong, and what to type for it, on machines that are played."""

import importlib.metadata
import sys
from collections.abc import Callable
from dataclasses import replace
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cxr import installation
from cxr.doctor import __main__ as doctor
from cxr.doctor import decoders, machine, packages
from cxr.doctor.check import Check, guarded
from cxr.read.decode import SUPPORTED
from cxr.read.radiograph import Radiograph
from cxr.runs import precision
from cxr.runs.precision import Bfloat16


def versions(monkeypatch: pytest.MonkeyPatch, **changed: str | None) -> None:
    """Play a machine where the packages in ``changed`` have these versions; None: not there."""
    true = packages._version
    monkeypatch.setattr(packages, "_version", lambda package: changed.get(package, true(package)))


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], tuple[str, int]]:
    """Run the doctor; what it printed and its exit code."""
    monkeypatch.setattr(sys, "argv", ["cxr doctor"])
    monkeypatch.setenv("COLUMNS", "200")

    def run() -> tuple[str, int]:
        with pytest.raises(SystemExit) as end:
            doctor.main("cxr doctor")
        return capsys.readouterr().out, int(str(end.value.code))

    return run


def test_all_that_is_needed_works_here(
    printed: Callable[[], tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, code = printed()
    assert code == 0
    assert "All that is needed works" in text
    for word in ("Python", f"torch {torch.__version__.partition('+')[0]}", "dicom", "bfloat16", "GPU", "GB"):
        assert word in text
    assert all(syntax.keyword in text for syntax in SUPPORTED)
    assert not list(tmp_path.iterdir())  # looking leaves nothing


def test_a_missing_extra_is_named_with_what_to_type_and_is_not_wrong(
    monkeypatch: pytest.MonkeyPatch, printed: Callable[[], tuple[str, int]]
) -> None:
    versions(monkeypatch, highdicom=None)
    text, code = printed()
    assert code == 0
    assert "lacks highdicom" in text
    assert "pip install 'cxr[dicom]'" in text  # brackets are not read as a style


@pytest.mark.parametrize(
    ("version", "result", "advice"),
    [
        (None, "not installed", "pip install 'lightning!=2.6.2,!=2.6.3,>=2.6.1'"),
        ("2.6.0", "2.6.0, expected", "pip install 'lightning"),
        ("2.6.2", "2.6.2", "compromised (GHSA-w37p-236h-pfx3): change your passwords and keys"),
        ("2.6.3", "2.6.3", "compromised"),
    ],
)
def test_a_package_that_is_wrong_is_named_with_what_to_type(
    version: str | None, result: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions(monkeypatch, lightning=version)
    (wrong,) = [check for check in packages.needed() if check.state == "wrong"]
    assert wrong.name == "lightning"
    assert wrong.result.startswith(result)
    assert advice in wrong.advice


def test_something_wrong_ends_with_1(monkeypatch: pytest.MonkeyPatch, printed: Callable[[], tuple[str, int]]) -> None:
    versions(monkeypatch, hydra=None, pydicom=None)
    text, code = printed()
    assert code == 1
    assert "1 thing is wrong" in text


def test_of_a_wheel_its_own_metadata_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = Message()
    for extra in ("dicom", "dev"):
        metadata["Provides-Extra"] = extra
    requires = ["numpy>=2.0", "nowhere-to-be-found>=1; extra == 'dicom'", "pytest; extra == 'dev'"]
    wheel = SimpleNamespace(requires=requires, metadata=metadata)
    monkeypatch.setattr(installation, "CLONE", None)
    true = importlib.metadata.distribution
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: wheel if name == "cxr" else true(name))
    (needed,) = packages.needed()
    assert (needed.name, needed.state) == ("1 packages", "ok")
    (extra,) = packages.extras()  # dev is for a clone
    assert (extra.name, extra.state, extra.advice) == ("dicom", "absent", "pip install 'cxr[dicom]'")


def test_every_transfer_syntax_is_tried() -> None:
    checks = list(decoders.decoders())
    assert [check.name for check in checks] == [syntax.keyword for syntax in SUPPORTED]
    assert not [check for check in checks if check.state != "ok"]


def test_a_codec_that_is_missing_or_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    true = decoders.parse_film

    def broken(path: Path, data: bytes) -> Radiograph:
        if path.name == "HTJ2K":
            raise ImportError("no libopenjph")
        film = true(path, data)
        return replace(film, pixels=film.pixels + 9) if path.name == "RLELossless" else film

    monkeypatch.setattr(decoders, "parse_film", broken)
    wrong = {check.name: check.result for check in decoders.decoders() if check.state == "wrong"}
    assert wrong == {"RLELossless": "imagecodecs is off by 9", "HTJ2K": "ImportError: no libopenjph"}


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (Bfloat16(True, 4.0), "4.0 times as fast as in float32 here; trainer=cpu trains in bf16-mixed"),  # Zen 5
        (Bfloat16(False, 0.0), "no bfloat16 instructions; trainer=cpu trains in 32-true"),  # AVX2
        (Bfloat16(True, 0.5), "less than 1.5 times is not worth it; trainer=cpu trains in 32-true"),
    ],
)
def test_the_precision_that_a_training_would_have_is_told(
    probe: Bfloat16, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bfloat16", lambda: probe)
    monkeypatch.setattr(machine, "bfloat16", lambda: probe)
    (result,) = [check.result for check in machine.processor() if check.name == "bfloat16"]
    assert result.endswith(words)


def test_a_machine_with_a_gpu_says_which_and_how_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (int(70e9), int(85e9)))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert list(machine.gpu()) == [Check("GPU 0", "NVIDIA H100, 70.0 of 85.0 GB free, bfloat16", "ok", "trainer=gpu")]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    (absent,) = machine.gpu()
    assert (absent.state, "CPU" in absent.advice) == ("absent", True)


def test_a_full_disk_and_a_folder_that_is_not_ones_own_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=int(70e9)))
    assert [check.state for check in machine.disk()] == ["ok"] * 3
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=int(1e9)))
    assert {(check.state, check.result[:4]) for check in machine.disk()} == {("absent", "1 GB")}
    monkeypatch.setattr(machine.os, "access", lambda folder, mode: False)
    assert {check.state for check in machine.disk()} == {"wrong"}


def test_what_fails_while_it_is_looked_at_is_told_as_wrong() -> None:
    def look() -> list[Check]:
        raise OSError("libtorch.so: cannot open shared object file")

    (check,) = guarded("processor", look)
    assert (check.state, check.result) == ("wrong", "OSError: libtorch.so: cannot open shared object file")
