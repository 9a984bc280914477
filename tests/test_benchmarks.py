"""The benchmarks: what they say of a machine, which of them fit it, and that the one for a GPU is code that runs."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import ROOT

SCRIPTS = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if path.name != "__init__.py")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))  # benchmarks are no part of the package


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Intel(R) Xeon(R) 6975P-C", "intel-xeon-6975p-c"),
        ("AMD EPYC 7B13 64-Core Processor", "amd-epyc-7b13"),
        ("Intel(R) Core(TM) i7-8565U CPU @ 1.80GHz", "intel-core-i7-8565u"),
        ("Apple M3", "apple-m3"),
    ],
)
def test_a_file_of_results_is_named_by_the_processor(model: str, name: str) -> None:
    from benchmarks.machine import slug

    assert slug(model) == name


def test_a_processor_that_hides_its_model_is_named_by_what_it_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import machine

    known = {"model name": "Intel(R) Xeon(R) Processor", "flags": "fpu avx2 avx512f amx_bf16"}
    monkeypatch.setattr(machine, "_cpuinfo", lambda key: known.get(key, ""))
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    assert machine.processor() == "Intel(R) Xeon(R) Processor amx_bf16"
    assert machine.instructions() == ["avx2", "avx512f", "amx_bf16"]


def test_the_figures_of_a_machine_follow_from_operations_and_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from benchmarks import machine

    monkeypatch.setattr(machine, "best_s", lambda once: 0.5)
    assert machine.gflops(lambda dtype: (3e9, lambda: None), torch.float32) == 6.0
    assert machine.copied_gb_s() == 0.1  # 64 MiB in half a second
    operations, once = machine._training(torch.float32)
    once()
    assert operations == 3 * 2 * 8 * 64 * 64 * 64 * 64 * 9


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_is_run_with_arguments_it_knows_and_gives_its_figures(path: Path) -> None:
    from benchmarks.__main__ import how

    words = how(path)
    if words is None:
        return  # it wants runs of its own, or is no benchmark
    assert "{json}" in words
    known = {
        node.args[0].value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
        and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    assert {word for word in words.split() if word.startswith("--")} <= known


def script(folder: Path, text: str) -> list[str]:
    path = folder / "bench.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def test_what_a_benchmark_gave_is_kept_with_how_it_ended(tmp_path: Path) -> None:
    from benchmarks.__main__ import ended

    figures = tmp_path / "figures.json"
    good = ended(script(tmp_path, f"open({str(figures)!r}, 'w').write('{{\"ratio\": 2.5}}')"), figures)
    assert (good["status"], good["figures"]) == ("ran", {"ratio": 2.5})
    bad = ended(script(tmp_path, "raise SystemExit('no such film')"), figures)
    assert bad["status"] == "failed: no such film"
    assert ended(script(tmp_path, "print('not run: no GPU')"), figures) == {"status": "not run: no GPU"}
    late = ended(script(tmp_path, "import time; time.sleep(600)"), figures, limit_s=0.5)
    assert late["status"] == "ended after 0.00833 minutes"
    assert late["seconds"] < 60


def test_ratios_are_told_and_seconds_are_not() -> None:
    from benchmarks.__main__ import ratios

    figures = {"pydicom / cxr": {"RLE": 1.5}, "loops": {"ratio": 1.02, "plain_ms": 270.0}, "exact": True}
    assert dict(ratios(figures)) == {"pydicom / cxr · RLE": 1.5, "loops · ratio": 1.02}
    rows = [{"detector": "ssdlite", "runtime": "onnx", "ms": 3.0, "ratio": 1.7, "sides": [256, 192]}]
    assert dict(ratios(rows)) == {"ssdlite, onnx · ratio": 1.7}


def test_without_a_gpu_its_benchmark_says_so_and_is_no_failure() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "not run: no GPU\n"


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_runs_on_a_processor_at_a_tiny_size(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--size", "64", "--films", "4", "--steps", "2", "--batch", "2"]
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.gpu", *words, "--json", str(file)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600, capture_output=True)
    figures = json.loads(file.read_text(encoding="utf-8"))
    for name in ("films_per_second", "inference_films_per_second"):
        quotient = figures["cxr"][name] / figures["torchvision"][name]
        assert figures["cxr / torchvision"][name] == pytest.approx(quotient, rel=0.02)
