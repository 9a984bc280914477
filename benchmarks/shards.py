"""What it costs to list a folder of many films for one shard, and to merge the tables of all shards: seconds, memory.

    python benchmarks/shards.py list --films 1000000 --shards 100
    python benchmarks/shards.py merge --films 100000 --shards 20

The files are empty and the answers made up: neither step looks at a film. Each step runs in a process of its own;
memory is what its resident memory grows by, from after the imports to the peak (Linux).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from cxr.data.inputs import Input
from cxr.detect.prediction import Prediction
from cxr.files import write_json
from cxr.report.film_counts import film_counts
from cxr.report.film_key import FilmKey
from cxr.report.journal import Done, Journal
from cxr.runs.given_films import given_films
from cxr.runs.merge import merge

A_FOLDER = 1000  # films
BOXES = 10  # of a film


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("list", "merge"))
    parser.add_argument("--films", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--at", type=Path, help="folder with what is measured; by default it is made, and removed")
    given = parser.parse_args()
    if given.at:
        print(json.dumps(measured(given.step, given.at, given.shards)))
        return
    with tempfile.TemporaryDirectory() as name:
        {"list": make_folder, "merge": make_shards}[given.step](Path(name), given.films, given.shards)
        command = [sys.executable, __file__, given.step, "--shards", str(given.shards), "--at", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    seconds, mib, held = json.loads(output.splitlines()[-1])
    Console().print(
        f"{given.step}: {given.films:,} films, {given.shards} shards: {seconds:.1f} s, {mib:.0f} MiB above the"
        f" {held:.0f} MiB of the process", highlight=False,
    )  # fmt: skip


def measured(step: str, folder: Path, shards: int) -> tuple[float, float, float]:
    """Do a step and return its seconds, the memory it took and what the process had before, MiB."""
    held, start = resident(), time.perf_counter()
    if step == "list":
        words = {"images": str(folder / "films"), "dates": None, "modality": None, "token": None}
        films = given_films(OmegaConf.create({**words, "shard": 0, "shards": shards}), folder)
        assert len(films)
    else:
        merge(folder)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - held, held


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def make_folder(folder: Path, films: int, shards: int) -> None:
    """Make a folder of empty files, as long as names of films are."""
    for n in range(films):
        place = folder / "films" / f"ward {n // A_FOLDER:05}"
        if n % A_FOLDER == 0:
            place.mkdir(parents=True)
        (place / f"1.2.826.0.1.3680043.8.498.{n:038}.dcm").touch()


def make_shards(folder: Path, films: int, shards: int) -> None:
    """Make what ``predict.py -m shard=0,1,…`` leaves of made-up films."""
    for shard in range(shards):
        run = folder / f"shard={shard}"
        run.mkdir()
        numbers = range(shard, films, shards)
        with Journal(run) as journal, FilmKey(run) as key:
            for number, n in enumerate(numbers, start=1):
                key.add(Input(number, Path(f"films/ward {n // A_FOLDER:05}/{n:038}.dcm")), f"1.2.{n}", "p", "q")
                journal.add(Done(number, f"p{n}", made_up(number)))
            counts = film_counts(journal)
        config = {"images": "films", "shard": shard, "shards": shards}
        write_json(run / "command.json", {"overrides": [], "config": config})
        note = {"findings": ["nodule"], "threshold": 0.5, "images": "films", "several": False}
        write_json(run / "shard.json", note)
        write_json(run / "result.json", {**counts, "algorithm": [], "overrides": [], "seconds": 1.0})


def made_up(number: int) -> Prediction:
    boxes = tuple((1.25 * n, 2.5, 1000.25, 1999.75) for n in range(BOXES))
    scores = tuple(round(0.987654 / (n + 1), 6) for n in range(BOXES))
    return Prediction(number, "p0", "q0", 2048, 2500, boxes, ("nodule",) * BOXES, scores, {"nodule": 0.9}, 0.9)


if __name__ == "__main__":
    main()
