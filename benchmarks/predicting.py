"""predict.py's stream against the bare detector on the same films in the same run, and its memory at 100 and 500 films.

    python benchmarks/predicting.py outputs/…/checkpoints/best.ckpt [--films 500] [--size 512] [--json FILE]
    make bench: {demo} --films 200 --turns 5 --json {json}

Films are drawn by the phantom and written as DICOM. The detector alone gets tensors made before, in batches of
eight; the stream begins with the files and ends with the journal. Its processes stand by when it begins, as they do in
predict.py, which starts them before it imports torch. The two take turns, so that whatever else the machine does meets
both, and the median of the turns counts. Peak memory is that of a fresh process that does nothing else; its readers
hold one film each. Quiet machine, please.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cxr.data.inputs import Decode, read_inputs
from cxr.phantom.films import write_course_layout
from cxr.read.dicom import ReadError
from cxr.read.workers import stand_by, usable_cores

# What needs torch is imported where it is used, as predict.py does: a process that reads films imports this file too.
if TYPE_CHECKING:
    from torch import Tensor

    from cxr.detect.task import DetectionTask

BATCH = 8
STANDING_BY_S = 2.0  # less than what importing torch and restoring a checkpoint take


def restored(checkpoint: Path) -> "tuple[DetectionTask, Decode]":
    from cxr.runs.checkpoint import read_checkpoint
    from cxr.runs.restore import load_task, restored_intensity

    read = read_checkpoint(checkpoint)
    return load_task(read), Decode(restored_intensity(read), read.size)


def stream(task: "DetectionTask", decode: Decode, films: Path, most: int) -> tuple[float, float]:
    """Seconds from files to a whole journal, and of these until the first film was said."""
    from cxr.detect.stream import predict_films
    from cxr.report.journal import Done, Journal

    inputs = read_inputs(films)[:most]
    stand_by(Decode.__module__, usable_cores())
    time.sleep(STANDING_BY_S)
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:
        start, first = time.perf_counter(), 0.0
        for film, said in predict_films(task, inputs, decode, BATCH, usable_cores()):
            if isinstance(said, ReadError):
                raise said
            first = first or time.perf_counter() - start
            journal.add(Done(film.number, journal.name(said), said))
        return time.perf_counter() - start, first


def bare(task: "DetectionTask", images: "list[Tensor]") -> float:
    """Seconds of the detector alone."""
    import torch

    start = time.perf_counter()
    with torch.no_grad():
        for first in range(0, len(images), BATCH):
            task.detector(images[first : first + BATCH])
    return time.perf_counter() - start


def peaks(checkpoint: Path, films: Path, counts: tuple[int, ...]) -> Iterator[dict[str, int]]:
    for count in counts:
        words = [sys.executable, __file__, str(checkpoint), "--memory", str(films), "--films", str(count)]
        yield json.loads(subprocess.check_output(words, text=True).splitlines()[-1])  # noqa: S603


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--films", type=int, default=500)
    parser.add_argument("--size", type=int, default=512, help="px of a film")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--memory", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    task, decode = restored(words.checkpoint)
    if words.memory:
        stream(task, decode, words.memory, words.films)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps({"films": words.films, "mib": peak}))
        return
    from cxr.detect.stream import sample

    with tempfile.TemporaryDirectory() as folder:
        write_course_layout(Path(folder), films=1, test_films=words.films, size=words.size, seed=0)
        films = Path(folder) / "test"
        images = [sample(decode(film))[0] for film in read_inputs(films)]
        turns = [(bare(task, images), *stream(task, decode, films, words.films)) for _ in range(words.turns)]
        alone, whole = (words.films / statistics.median(seconds) for seconds in list(zip(*turns, strict=True))[:2])
        ratios = sorted(turn[0] / turn[1] for turn in turns)
        first = statistics.median(turn[2] for turn in turns)
        del images
        memory = list(peaks(words.checkpoint, films, (100, words.films)))
    console = Console()
    console.print(f"detector alone {alone:.1f} films/s · stream {whole:.1f} films/s · ratio {whole / alone:.2f}")
    console.print(f"turn by turn {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    console.print(f"the stream's first film after {first:.1f} s")
    for peak in memory:
        console.print(f"{peak['films']} films: peak {peak['mib']} MiB")
    if words.json:
        figures = {
            "detector_films_per_second": alone,
            "stream_films_per_second": whole,
            "ratio of stream to detector": whole / alone,
            "ratio of turns": {"lowest": ratios[0], "highest": ratios[-1]},
            "first_film_s": first,
            "memory": memory,
        }
        words.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
