"""Whether this machine's processor is faster in bfloat16, and the precision of a training that follows from it.

bfloat16 halves the bytes of a number and is several times as fast where the processor has instructions for it
(AVX-512 bf16, AMX). Where it has none it is far slower: on AVX2 a product of matrices runs at 0.9 GFLOP/s in bfloat16
and at 126 in float32, because oneDNN, which computes both, has no kernel for it.
"""

import functools
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock

from cxr.config.errors import ConfigError
from cxr.config.run_files import COMMAND
from cxr.files import DamagedFileError, read_mapping, write_json

_log = logging.getLogger(__name__)

AUTO = "auto"
"""What is typed as ``trainer.precision`` for whichever of the two is faster on this processor."""
BFLOAT16, FLOAT32 = "bf16-mixed", "32-true"

WORTH_IT = 1.5
"""Times as fast that a product must be for a step to gain: the rest of a step stays in float32, and casting costs."""
_SIDE = 256  # of the matrices: 34 MFLOP, 0.3 ms in float32, and still 40 ms at the 0.9 GFLOP/s seen on AVX2
_TURNS = 16
_ENOUGH_S = 0.1  # a processor so slow in bfloat16 need not be timed any longer
_NOTE = "precision.json"  # in a sweep's folder: what its jobs have in common
_WAIT_S, _POLL_S = 300.0, 0.05


@dataclass(frozen=True)
class Bfloat16:
    """What bfloat16 is worth on this processor.

    Args:
        instructions: whether oneDNN has kernels for it here. They want AVX-512 BW at least, where they may be slow.
        times_as_fast: as float32, in a product of matrices; 0 without instructions, where it is not timed.
    """

    instructions: bool
    times_as_fast: float

    @property
    def faster(self) -> bool:
        """Whether a training is expected to be faster in it."""
        return self.instructions and self.times_as_fast >= WORTH_IT

    def __str__(self) -> str:
        if not self.instructions:
            return "this processor has no bfloat16 instructions"
        enough = "" if self.faster else f", and less than {WORTH_IT:g} times is not worth it"
        return f"products in bfloat16 are {self.times_as_fast:.1f} times as fast as in float32 here{enough}"


@functools.cache
def bfloat16() -> Bfloat16:
    """Measure what bfloat16 is worth on this processor: some milliseconds, once a process."""
    if not _has_instructions():
        return Bfloat16(False, 0.0)
    in_float32, in_bfloat16 = _seconds_of_products()
    return Bfloat16(True, in_float32 / in_bfloat16)


def faster() -> str:
    """Return the precision that a training is faster in on this processor."""
    return BFLOAT16 if bfloat16().faster else FLOAT32


def settled(accelerator: str, run: Path, sweep: Path | None, rank: int) -> str:
    """Return the precision of a training that asks for ``AUTO``.

    It is the one that the run in the folder ``run`` was begun with, wherever that was. A new run gets what is faster on
    this processor; of a sweep, in the folder ``sweep``, the first job chooses for the others, which are to be compared
    with it. Of the processes of one run the first one chooses (``rank`` 0), and the others wait for its note.

    Raises:
        ConfigError: another accelerator may be used; or the first process has left no note within 5 minutes.
    """
    if accelerator != "cpu" and (accelerator != "auto" or torch.accelerator.is_available()):
        raise ConfigError(
            f"trainer.precision=auto chooses for a CPU, and trainer.accelerator is {accelerator}; type"
            f" trainer.precision={BFLOAT16} or {FLOAT32}"
        )
    begun = run / COMMAND
    if rank > 0:
        _wait_for(begun)
    if (before := _precision_of(begun)) is not None:
        return before
    return faster() if sweep is None else _of_sweep(sweep)


def tell(used: str, resumed: bool) -> None:
    """Log the precision of a training on this processor and why; where it is the slower one, with what to type."""
    begun = ", as this run was begun" if resumed else ""
    if used not in (BFLOAT16, FLOAT32) or used == faster():
        _log.info("trainer.precision is %s%s: %s", used, begun, bfloat16())
        return
    _log.log(
        logging.WARNING if used == BFLOAT16 else logging.INFO,  # which can be 100 times as slow
        "trainer.precision is %s%s, the slower one here: %s. To train in the faster one from the start, type "
        "trainer.precision=%s (and another hydra.run.dir, where you type one)",
        used, begun, bfloat16(), faster(),
    )  # fmt: skip


def _precision_of(begun: Path) -> str | None:
    """Return the precision a run was begun with; None where its files do not say: its folder then raises the error."""
    try:
        return str(read_mapping(begun)["config"]["trainer"]["precision"])
    except (OSError, DamagedFileError, KeyError, TypeError):
        return None


def _of_sweep(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / _NOTE
    with FileLock(folder / f".{_NOTE}.lock"):  # jobs start together
        if not note.exists():
            write_json(note, {"precision": faster()})
    return str(read_mapping(note)["precision"])


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not file.exists():
        if time.monotonic() > deadline:
            raise ConfigError(f"{file}: the first process of this run has not written it within {_WAIT_S:g} s")
        time.sleep(_POLL_S)


def _has_instructions() -> bool:
    # No public name says it (seen in torch 2.11 to 2.15); builds without oneDNN lack this one too
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[no-untyped-call]


def _seconds_of_products() -> tuple[float, float]:
    """Return the seconds of the fastest product of two matrices in float32 and in bfloat16.

    In turns and on one thread, so that other work on the machine meets both alike and no thread waits for another.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        matrices = [torch.ones(_SIDE, _SIDE, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
        seconds: list[tuple[float, ...]] = []
        while len(seconds) < _TURNS and sum(map(sum, seconds)) < _ENOUGH_S:
            seconds.append(tuple(_seconds_of_product(matrix) for matrix in matrices))
    finally:
        torch.set_num_threads(threads)
    in_float32, in_bfloat16 = (min(some) for some in zip(*seconds, strict=True))
    return in_float32, in_bfloat16


def _seconds_of_product(matrix: torch.Tensor) -> float:
    start = time.perf_counter()
    torch.mm(matrix, matrix)
    return time.perf_counter() - start
