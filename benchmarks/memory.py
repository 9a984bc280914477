"""Peak memory and time of a training step, with and without recomputing the backbone's stages.

    python benchmarks/memory.py --model fasterrcnn --size 1024 --batch 1 --json memory.json
    make bench: --size 512 --turns 2 --json {json}

Each step runs in a process of its own, in turns (as it is, recomputed, …), on the GPU where there is one. Memory is
the peak above what stands before the step, the detector with its weights: of the process's resident memory on a CPU
(Linux), of torch's allocator on a GPU. Time is the processor's on a CPU, which other work disturbs less, and the
clock's on a GPU. The losses of both ways are compared: they must agree.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cxr.config.models import build

MIB = 2**20


def held(device: str) -> float:
    """Return the memory in use, MiB."""
    if device == "cuda":
        return torch.cuda.memory_allocated() / MIB
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / MIB


def peak(device: str) -> float:
    """Return the most memory that was in use so far, MiB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux


def measured_step(model: str, size: int, batch: int, recompute: bool) -> dict[str, Any]:
    """Run one forward and backward pass and say what it took; on a GPU a second one, as the first compiles kernels."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    detector = build(model, 8, checkpoint_backbone=recompute).train().to(device)
    films = [torch.rand(1, size, size, device=device) for _ in range(batch)]
    box, label = torch.tensor([[0.1, 0.1, 0.4, 0.5]], device=device) * size, torch.tensor([1], device=device)
    targets = [{"boxes": box, "labels": label} for _ in films]
    clock = time.perf_counter if device == "cuda" else time.process_time
    before = held(device)
    for _ in range(2 if device == "cuda" else 1):
        detector.zero_grad()
        torch.manual_seed(1)
        start = clock()
        loss = sum(detector(films, targets).values())
        loss.backward()
        value = loss.item()  # waits for the GPU
        seconds = clock() - start
    return {"device": device, "mib": peak(device) - before, "seconds": seconds, "loss": value}


def in_own_process(args: argparse.Namespace, recompute: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--model", args.model, "--size", str(args.size), "--batch", str(args.batch)]
    output = subprocess.run([*command, "--step", str(int(recompute))], check=True, capture_output=True, text=True)  # noqa: S603
    row: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return row


def show(kept: list[dict[str, Any]], recomputed: list[dict[str, Any]], title: str) -> dict[str, float]:
    """Print both ways beside each other and return medians and ratios."""
    figures = {
        f"{name}_{key}": statistics.median(row[key] for row in rows)
        for name, rows in (("kept", kept), ("recomputed", recomputed))
        for key in ("mib", "seconds")
    }
    memory = figures["recomputed_mib"] / figures["kept_mib"]
    duration = figures["recomputed_seconds"] / figures["kept_seconds"]
    table = Table("stages of the backbone", "memory of a step, MiB", "s", title=title)
    table.add_row("kept", f"{figures['kept_mib']:.0f}", f"{figures['kept_seconds']:.2f}")
    table.add_row("recomputed", f"{figures['recomputed_mib']:.0f}", f"{figures['recomputed_seconds']:.2f}")
    table.add_row("ratio", f"{memory:.2f}", f"{duration:.2f}")
    Console().print(table)
    return {**figures, "memory_ratio": memory, "time_ratio": duration}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fasterrcnn", help="a detector of conf/model")
    parser.add_argument("--size", type=int, default=1024, help="height and width of a film, px")
    parser.add_argument("--batch", type=int, default=1, help="films a step")
    parser.add_argument("--turns", type=int, default=3, help="steps each way")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--step", type=int, choices=(0, 1), help=argparse.SUPPRESS)  # in a process of its own
    args = parser.parse_args()
    if args.step is not None:
        print(json.dumps(measured_step(args.model, args.size, args.batch, bool(args.step))))
        return
    turns = [(in_own_process(args, False), in_own_process(args, True)) for _ in range(args.turns)]
    kept, recomputed = (list(rows) for rows in zip(*turns, strict=True))
    losses = {row["loss"] for row in kept + recomputed}
    assert max(losses) - min(losses) <= 1e-5 * max(losses), f"the two ways disagree: losses {losses}"
    title = f"{args.model}, {args.batch} × {args.size} px, {kept[0]['device']}, {torch.get_num_threads()} threads"
    figures = show(kept, recomputed, title)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
