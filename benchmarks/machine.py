"""What this machine is and what it can do by itself, so that a figure measured elsewhere can be held against it.

    python -m benchmarks.machine

Cores and instruction sets; GFLOP/s of a product of matrices and of a 3×3 convolution of 64 channels (forward, and
forward with backward) in float32 and bfloat16; gigabytes of memory copied a second. Some ten seconds. The best of a few
repetitions counts, as other work on the machine can only make one slower. Nothing that names the machine or its owner.
"""

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cxr.read.workers import usable_cores
from cxr.runs.precision import bfloat16

_SETS = (
    *("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "asimdhp", "bf16", "i8mm", "sve", "sve2"),
)
_BUDGET_S = 0.6  # of repetitions; one more than that is never begun
_SIDE = 512  # of the matrices: 0.3 s a product even where bfloat16 has no kernel


def machine() -> dict[str, Any]:
    """Return what this machine is, and its own figures."""
    return {
        "name": name(),
        "processor": processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "instructions": instructions(),
        "memory_gib": memory_gib(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "bfloat16": str(bfloat16()),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "gflops": {
            f"{what}, {kind}": gflops(work, dtype)
            for what, work in (("matrix product", _product), ("convolution", _forward), ("its training", _training))
            for kind, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        },
        "copy_gb_s": copied_gb_s(),
    }


def name() -> str:
    """Return a file name for this kind of machine: its processor, cores, and GPU where there is one."""
    words = [processor(), f"{usable_cores()} cores"]
    if torch.cuda.is_available():
        words.append(torch.cuda.get_device_name())
    return slug(" ".join(words))


def slug(words: str) -> str:
    """Return words as a file name: "Intel(R) Xeon(R) 6975P-C CPU @ 2.60GHz" becomes "intel-xeon-6975p-c"."""
    plain = re.sub(r"\((r|tm)\)|@\s*[\d.]+\s*ghz|\b(cpu|processor|\d+-core)\b", " ", words.lower())
    return "-".join(re.findall(r"[a-z0-9]+(?:\.[0-9]+)*", plain))


def processor() -> str:
    """Return the processor's model; where it names none, as on some virtual machines, with its newest instructions."""
    if platform.system() == "Darwin":
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)  # noqa: S607
        return asked.stdout.strip() or platform.machine()
    model = _cpuinfo("model name") or platform.machine()
    return model if re.search(r"\d", slug(model)) else f"{model} {instructions()[-1] if instructions() else ''}".strip()


def instructions() -> list[str]:
    """Return the instruction sets that matter here, the newest last."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return [one for one in _SETS if one in flags] or [torch.backends.cpu.get_cpu_capability().lower()]


def memory_gib() -> float | None:
    """Return the memory of the machine; None where the system does not tell."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def gflops(work: Callable[[torch.dtype], tuple[float, Callable[[], object]]], dtype: torch.dtype) -> float:
    """Return the GFLOP/s of a piece of work; ``work`` gives its operations and what does them once."""
    operations, once = work(dtype)
    return round(operations / best_s(once) / 1e9, 1)


def copied_gb_s() -> float:
    """Return the gigabytes that a copy of 64 MB moves a second, counted once."""
    source = np.ones(64 << 20, np.uint8)
    target = np.empty_like(source)
    return round(source.nbytes / best_s(lambda: np.copyto(target, source)) / 1e9, 1)


def best_s(once: Callable[[], object]) -> float:
    """Return the seconds of the fastest repetition, of at least two."""
    seconds: list[float] = []
    while len(seconds) < 2 or (sum(seconds) < _BUDGET_S and len(seconds) < 50):
        start = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _product(dtype: torch.dtype) -> tuple[float, Callable[[], object]]:
    matrix = torch.ones(_SIDE, _SIDE, dtype=dtype)
    return 2.0 * _SIDE**3, lambda: torch.mm(matrix, matrix)


def _forward(dtype: torch.dtype) -> tuple[float, Callable[[], object]]:
    layer, images, operations = _convolution(dtype)

    @torch.no_grad()
    def once() -> object:
        return layer(images)

    return operations, once


def _training(dtype: torch.dtype) -> tuple[float, Callable[[], object]]:
    layer, images, operations = _convolution(dtype)
    images.requires_grad_()

    def once() -> None:
        layer(images).sum().backward()

    return 3 * operations, once  # gradients of images and of weights cost a forward pass each


def _convolution(dtype: torch.dtype) -> tuple[nn.Conv2d, torch.Tensor, float]:
    layer = nn.Conv2d(64, 64, 3, padding=1, bias=False).to(dtype)
    return layer, torch.ones(8, 64, 64, 64, dtype=dtype), 2.0 * 8 * 64 * 64 * 64 * 64 * 9


def _cpuinfo(key: str) -> str:
    """Return the first value of a key of /proc/cpuinfo, "" where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), "")


if __name__ == "__main__":
    print(json.dumps(machine(), indent=2))
