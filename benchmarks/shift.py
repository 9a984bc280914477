"""After how many films is a changed machine told, and how often are unchanged films called different? As Markdown.

    python benchmarks/shift.py CKPT OUT [--root FOLDER] [--weeks 200] [--data root=FOLDER]

CKPT: a checkpoint of train.py on drawn films (experiment=demo). Where it keeps no reference, one is made here of its
validation films. The films of the weeks are drawn with another seed (``--root``: where they are drawn already; those of
a weak scanner are left out). A week is ``FILMS`` of them, drawn by chance, a film of each patient. "Changed" films are
the same with another exposure or more noise, as another vendor's machine has. Both are compared as evaluate.py does it,
with one look at all films, and as serve.py does it, which looks at 25 patients, at 50 and at 100.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxr.data.groups import groups_of
from cxr.data.inputs import Decoded
from cxr.data.sources.course import read_course
from cxr.detect.stream import sample
from cxr.detect.task import DetectionTask
from cxr.measure.shift import FEATURES, RATE, Reference, compare, first_of_each, of_scores
from cxr.phantom.films import write_course_layout
from cxr.phantom.scanner import WEAK_MAKER
from cxr.progress import track
from cxr.read.dicom import read_film
from cxr.read.film_statistics import film_statistics
from cxr.read.frame import at_working_size, to_longest_side
from cxr.read.preprocessing import Preprocessing
from cxr.read.radiograph import Radiograph
from cxr.runs.checkpoint import Checkpoint, read_checkpoint
from cxr.runs.frozen_films import reference_of
from cxr.runs.gate import known_films
from cxr.runs.restore import load_data, load_task, restored_intensity
from cxr.serve.film_watch import looks

SEED, SIZE, FILMS = 1, 512, 100
Picture = NDArray[np.float32]
CHANGES: Mapping[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "none": lambda picture, rng: picture,
    "exposure: a fifth less": lambda picture, rng: 0.8 * picture,
    "tone curve: gamma 0.75": lambda picture, rng: picture ** np.float32(0.75),
    "noise: 0.02 more": lambda picture, rng: picture + _noise(picture, rng, 0.02),
    "another vendor: 0.9, gamma 0.85, noise 0.015": lambda picture, rng: (
        0.9 * picture ** np.float32(0.85) + _noise(picture, rng, 0.015)
    ),
}
"""Of the picture in 0..1 with air dark that the course's normalisation makes of a film's stored values."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="folder for shift.json and shift.md")
    parser.add_argument("--root", type=Path, help="folder of the drawn films (default OUT/films)")
    parser.add_argument("--weeks", type=int, default=200, help="of each change (default 200)")
    parser.add_argument("--data", nargs="*", default=[], help="settings over the checkpoint's data: root=FOLDER")
    given = parser.parse_args()
    root = given.root or given.out / "films"
    if given.root is None:
        write_course_layout(root, 10, 480, SIZE, SEED)
    checkpoint, task = read_checkpoint(given.checkpoint), load_task(read_checkpoint(given.checkpoint))
    checkpoint = with_reference(checkpoint, task, dict(word.split("=", 1) for word in given.data))
    films = [film for film in read_course(root, checkpoint.findings) if film.split == "test"]
    films = [film for film in films if groups_of(film)["maker"] != WEAK_MAKER]
    films = [films[place] for place in first_of_each([film.patient for film in films])]
    describe = describing(checkpoint, restored_intensity(checkpoint), task)
    rows = {name: np.array([describe(f.path, name) for f in track(films, name)], np.float32) for name in CHANGES}
    write(given.out, checkpoint.reference, {name: weeks(checkpoint, some, given.weeks) for name, some in rows.items()})


def with_reference(checkpoint: Checkpoint, task: DetectionTask, overrides: Mapping[str, Any]) -> Checkpoint:
    """Return the checkpoint with what training keeps of its films, which is made where it is not there."""
    if checkpoint.reference is not None:
        return checkpoint
    data = load_data(checkpoint, overrides)
    data.prepare_data()
    data.setup()
    known = known_films(data)
    reference = reference_of(task, data, known)
    return replace(checkpoint, reference=reference, known=() if known is None else (known,))


def describing(
    checkpoint: Checkpoint, intensity: Preprocessing, task: DetectionTask
) -> Callable[[Path, str], list[float]]:
    """Return what gives the features of a film after a change."""

    @torch.no_grad()
    def describe(path: Path, change: str) -> list[float]:
        film = changed(read_film(path), change)
        pixels = at_working_size(film, intensity, checkpoint.size)
        height, width = film.pixels.shape
        image, target = sample(Decoded(to_longest_side(pixels, checkpoint.size), height, width, "s", "p"))
        answer = task.detect([image], [target])[0]
        stated = film_statistics(pixels, checkpoint.known).tolist()
        return [*stated, *of_scores(float(answer["abnormal"]), answer["scores"].numpy())]

    task.detector.eval()
    return describe


def changed(film: Radiograph, change: str) -> Radiograph:
    """Return a film as another machine would have taken it."""
    rng = np.random.default_rng(int(film.study[1:], 16))
    picture = np.asarray(-np.log((1 + film.pixels.astype(np.float32)) / 4096) / 2.5, np.float32)
    new = np.clip(CHANGES[change](picture, rng), 0, 1)
    stored = np.asarray(np.rint(4096 * np.exp(np.float32(-2.5) * new) - 1).clip(0, 4095), film.pixels.dtype)
    return film if change == "none" else replace(film, pixels=stored)


def weeks(checkpoint: Checkpoint, rows: NDArray[np.float32], count: int) -> dict[str, Any]:
    """Return how many weeks are called different at one look, how many by serve.py, and after how many films."""
    assert checkpoint.reference is not None
    once, after, names = 0, [], dict.fromkeys(FEATURES, 0)
    for week in range(count):
        drawn = rows[np.random.default_rng([SEED, week]).permutation(len(rows))[:FILMS]]
        shift = _compared(checkpoint.reference, drawn, RATE)
        once += shift.differs
        for one in shift.features:
            names[one.name] += one.differs
        shares = ((size, RATE / (k * (k + 1))) for k, size in enumerate(looks(FILMS), start=1))
        told = (size for size, rate in shares if _compared(checkpoint.reference, drawn[:size], rate).differs)
        after.append(next(told, 0))
    within = [size for size in after if size]
    most = sorted((name for name in names if names[name] > count / 2), key=lambda name: -names[name])
    median = float(np.median(within)) if within else None
    return {"weeks": count, "once": once, "served": len(within), "median": median, "features": most}


def write(out: Path, reference: Reference | None, told: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the table, and print it."""
    columns = ["weeks", "once", "served", "median", "features"]
    lines = ["| change | weeks of 100 films | told at one look | told by serve.py | after films (median) | in |"]
    lines.append("|---" * (1 + len(columns)) + "|")
    for name, one in told.items():
        cells = [", ".join(one[key]) if key == "features" else str(one[key]) for key in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    films = 0 if reference is None else reference.films
    lines.append(f"\nreference of {films} validation films; false alarms allowed: {RATE:.0%} of the weeks")
    out.mkdir(parents=True, exist_ok=True)
    (out / "shift.json").write_text(json.dumps({"reference": films, "told": told}, indent=1), encoding="utf-8")
    (out / "shift.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _compared(reference: Reference, rows: NDArray[np.float32], rate: float) -> Any:
    return compare(reference, {name: rows[:, column] for column, name in enumerate(FEATURES)}, rate)


def _noise(picture: Picture, rng: np.random.Generator, strength: float) -> Picture:
    return np.float32(strength) * rng.standard_normal(picture.shape, dtype=np.float32)


if __name__ == "__main__":
    main()
