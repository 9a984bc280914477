"""Checks of the machine: processor and number formats, memory, GPU and disk; and of the font for pictures."""

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
import torchvision

from cxr.doctor.check import Check
from cxr.fonts import picture_font
from cxr.read.workers import usable_cores
from cxr.runs.precision import bfloat16, faster

_GB = 1e9
_ENOUGH = 5.0  # GB. The demo's films, their cache and a dozen runs take less than 1 GB; real films need more
_OF_A_RUN = {".cache": "decoded films", "outputs": "runs", "data": "drawn films"}


def processor() -> Iterator[Check]:
    """Check processor and memory, and which number format is faster on this processor."""
    name, cores = _processor_name(), usable_cores()
    yield Check("processor", f"{name}, {cores} of {os.cpu_count()} cores usable, {torch.get_num_threads()} threads")
    yield _memory()
    yield Check("bfloat16", f"{bfloat16()}; trainer=cpu trains in {faster()}")


def gpu() -> Iterator[Check]:
    """Check which GPUs torch can use, and with one operator whether torch and torchvision fit together."""
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.1]])
    if len(torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5)) != 1:
        yield Check("torchvision", "does not work with this torch", "wrong", "install both together, of one source")
    if not torch.cuda.is_available():
        built = "no GPU that torch can use" + ("" if torch.version.cuda else " (this torch is built for the CPU alone)")
        yield Check(
            "GPU",
            built,
            "absent",
            "training runs on the CPU: experiment=demo, or experiment=course_cpu for films of your own",
        )
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        half = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bfloat16"
        result = f"{torch.cuda.get_device_name(number)}, {free / _GB:.1f} of {total / _GB:.1f} GB free, {half}"
        yield Check(f"GPU {number}", result, "ok", "trainer=gpu")


def disk() -> Iterator[Check]:
    """Check the free disk space in the folders for films and for runs, below the current folder."""
    for name, holds in _OF_A_RUN.items():
        folder = next(path for path in (Path(name), *Path(name).resolve().parents) if path.is_dir())
        free = shutil.disk_usage(folder).free / _GB
        result = f"{free:.0f} GB free for {holds}"
        if not os.access(folder, os.W_OK):
            yield Check(f"{name}/", "the folder cannot be written to", "wrong", "stand in a folder of your own")
        elif free < _ENOUGH:
            yield Check(f"{name}/", result, "absent", "make room: a film of 1024 px takes 2 MB in the cache")
        else:
            yield Check(f"{name}/", result)


def font() -> Iterator[Check]:
    """Check whether the bundled font draws Chinese names."""
    width = picture_font(12).getlength("心臟肥大")
    result = "bundled, draws Chinese in pictures and pages on any machine"
    yield Check("font", result) if width > 0 else Check("font", "draws nothing", "wrong", "install cxr again")


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GB
    return Check("memory", f"{total:.1f} GB")


def _processor_name() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
