"""Does a promise hold? Drawn films are cut 500 times into films that choose the thresholds and films that check them.

    python benchmarks/promises.py CKPT OUT [--films 1600] [--splits 500] [--drawn FOLDER] [--validation FOLDER]

CKPT: a checkpoint of train.py on drawn films, such as the demo's. OUT takes the films, the detections and the figures
(promises.json, promises.md); what is there is not made again. None of the films was seen in training or chosen on.
``--drawn`` is a folder of films that are drawn already, of which those for testing count.

Each cut takes half of the patients for the thresholds, and again 40 films. A row is a promise: on how many patients it
was made, the mean over the cuts of what the other patients lost, with its standard error; where 90 % of the cuts lie;
and how often there was no promise, with the number of patients that it asked for. Cuts without a promise have no loss
in the second mean, as nothing was promised there: the theorem speaks of this one.

``--validation`` is the folder of the films that the checkpoint was trained on: the promises of its own validation
films, on which its epoch was chosen too, are then held against the drawn films.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.data.dataset import RadiographDataset
from cxr.data.film import Film
from cxr.data.sources.course import read_course
from cxr.detect.inference import film_results
from cxr.files import write_json
from cxr.measure.intervals import Values
from cxr.measure.kept_results import as_plain, from_plain
from cxr.measure.promises import choose_promises, reached_promises
from cxr.measure.results import FilmResult
from cxr.measure.risk_control import FalseBoxes, Loss, MissedBoxes, PutAside, promise
from cxr.phantom.films import write_course_layout
from cxr.progress import track
from cxr.read.cache import FilmCache
from cxr.runs.checkpoint import Checkpoint, read_checkpoint
from cxr.runs.restore import load_data, load_task, restored_intensity

SEED = 20261
LEVELS, RATES = (0.1, 0.05), (1.0, 0.5)
FEW = 40


@dataclass(frozen=True)
class Part:
    """Some of the patients of a loss."""

    whole: Loss
    chosen: NDArray[np.bool_]

    @property
    def patients(self) -> int:
        return int(self.chosen.sum())

    @property
    def most(self) -> float:
        return self.whole.most

    @property
    def thresholds(self) -> Values:
        return self.whole.thresholds

    def __call__(self, threshold: float) -> Values:
        return self.whole(threshold)[self.chosen]


@dataclass
class Row:
    """What the cuts gave of one promise."""

    of: str
    level: float
    films: int
    patients: float
    refused: float
    needed: str
    mean: float
    error: float
    mean_all: float
    error_all: float
    low: float
    high: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--films", type=int, default=1600)
    parser.add_argument("--drawn", type=Path)
    parser.add_argument("--splits", type=int, default=500)
    parser.add_argument("--validation", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    checkpoint = read_checkpoint(given.checkpoint)
    root = given.drawn or given.out / "films"
    if given.drawn is None:
        write_course_layout(root, films=8, test_films=given.films, size=512, seed=SEED)
    films = [film for film in read_course(root, checkpoint.findings) if film.split == "test"]
    results = detected(checkpoint, films, given.out / "detections.json")
    names = checkpoint.findings.names
    rows = [*cut(results, names, given.splits, 0.5), *cut(results, names, given.splits, FEW / len(results))]
    own = {}
    if given.validation is not None:
        data = load_data(checkpoint, {"root": str(given.validation), "cache": str(given.out / "cache")})
        data.prepare_data()
        data.setup()
        kept = choose_promises(detected(checkpoint, data.films["val"], given.out / "validation.json"), names)
        own = {"films": kept.films, "promises": [asdict(one) for one in reached_promises(kept, results)]}
    write_json(given.out / "promises.json", {"films": len(results), "rows": [asdict(r) for r in rows], "own": own})
    text = "\n".join(table(rows, given.splits))
    (given.out / "promises.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def detected(checkpoint: Checkpoint, films: Sequence[Film], kept: Path) -> list[FilmResult]:
    """Return what the detector says of films, from the file where it is there."""
    if not kept.exists():
        cache = FilmCache(kept.parent / "cache", restored_intensity(checkpoint), checkpoint.size)
        cache.fill([film.path for film in films])
        found = film_results(
            load_task(checkpoint), RadiographDataset(list(films), checkpoint.findings, cache, checkpoint.size)
        )
        write_json(kept, [as_plain(one) for one in track(found, "detecting", len(films))])
    return [from_plain(one) for one in json.loads(kept.read_text(encoding="utf-8"))]


def cut(results: Sequence[FilmResult], names: Sequence[str], splits: int, share: float) -> Iterator[Row]:
    """Yield what cuts gave, in which ``share`` of the patients choose the thresholds."""
    everyone = np.unique([result.patient for result in results])
    draws = np.random.default_rng(SEED)
    chosen = [draws.permutation(len(everyone)) < round(share * len(everyone)) for _ in range(splits)]
    asked = [(name, MissedBoxes(results, label), level) for label, name in enumerate(names, 1) for level in LEVELS]
    asked += [("screening", PutAside(results), level) for level in LEVELS]
    asked += [("false boxes a film", FalseBoxes(results), rate) for rate in RATES]
    for name, loss, level in track(asked, "cutting", len(asked)):
        bearing = np.isin(everyone, patients_of(results, names, name))
        yield row(name, loss, level, [one[bearing] for one in chosen], round(share * len(results)))


def patients_of(results: Sequence[FilmResult], names: Sequence[str], of: str) -> list[str]:
    """Return the patients that a loss counts."""
    if of in names:
        label = names.index(of) + 1
        return [result.patient for result in results if (result.truth_labels == label).any()]
    return [result.patient for result in results if of != "screening" or not result.normal]


def row(name: str, loss: Loss, level: float, chosen: Sequence[NDArray[np.bool_]], films: int) -> Row:
    """Return what became of one promise in all cuts."""
    risks, needed, patients = [], set(), []
    for one in chosen:
        made = promise(Part(loss, one), level)
        patients.append(made.patients)
        needed |= set() if made.threshold is not None else {made.needed}
        risks.append(math.nan if made.threshold is None else float(loss(made.threshold)[~one].mean()))
    lost = np.array(risks)
    held, lost_all = lost[~np.isnan(lost)], np.nan_to_num(lost)
    told = sorted(number for number in needed if number is not None)
    words = (f"{told[0]}" + (f" to {told[-1]}" if len(told) > 1 else "")) if told else ""
    words += (", or none is enough" if told else "none is enough") if None in needed else ""
    low, high = np.percentile(held, (5, 95)) if len(held) else (math.nan, math.nan)
    return Row(
        name, level, films, float(np.mean(patients)), float(np.isnan(lost).mean()), words,
        float(held.mean()) if len(held) else math.nan, error(held), float(lost_all.mean()), error(lost_all),
        float(low), float(high),
    )  # fmt: skip


def error(values: Values) -> float:
    """Return the standard error of a mean."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def table(rows: Sequence[Row], splits: int) -> Iterator[str]:
    """Yield a table in Markdown."""
    yield f"{splits} cuts"
    yield "| promised | films | patients | at most | mean ± error | with the refused as 0 | 90 % of cuts | refused |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in rows:
        refused = f"{100 * one.refused:.0f} %" + (f" (needed: {one.needed})" if one.needed else "")
        held = f"{one.mean:.4f} ± {one.error:.4f}" if one.refused < 1 else "–"
        spread = f"{one.low:.3f} to {one.high:.3f}" if one.refused < 1 else "–"
        yield (
            f"| {one.of} | {one.films} | {one.patients:.0f} | {one.level:g} | {held} |"
            f" {one.mean_all:.4f} ± {one.error_all:.4f} | {spread} | {refused} |"
        )


if __name__ == "__main__":
    main()
