"""Detectors on films of a source that they never saw: what is lost there, and what each arm wins back, as Markdown.

    python benchmarks/held_out_source.py FOLDER OUT --epochs 20 [--arms "as it is" hospitals …]

FOLDER holds ``annotations.coco.json``, with findings as conf/findings/eda.yaml names them; the field ``source`` of each
image says where it is from. Each source is held out once: a detector learns from all others and is tested on it. What
is lost against a detector that knows the source is measured by folds over all films, whose test films are pooled: each
is tested by the detector that did not see its patient. Findings are judged where they are marked: AP50 and AP over the
findings that the source and the training films share, intervals over patients. "won back" is the share of the loss of
the first arm.

OUT keeps a copy of the films, the runs and what they detected; the same command goes on where it was cut off. A
training of 160 films for 20 epochs takes some minutes on two cores, and there is one for each arm and source.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cxr.data.dataset import RadiographDataset
from cxr.detect.inference import film_results
from cxr.files import write_json
from cxr.findings import FindingVocabulary
from cxr.measure.average_precision import MeanAveragePrecision, average_precision
from cxr.measure.evaluation import PRECISIONS
from cxr.measure.intervals import Estimate, paired_bootstrap
from cxr.measure.kept_results import as_plain, from_plain
from cxr.measure.results import FilmResult
from cxr.runs.checkpoint import read_checkpoint
from cxr.runs.restore import load_data, load_task

ROOT = Path(__file__).parents[1]
TABLE = "annotations.coco.json"
ARMS = {
    "as it is": "intensity=voi",
    "hospitals": "intensity=voi augment=hospitals",
    "log window": "intensity=log_window",
    "percentile": "intensity=percentile",
    "histogram": "intensity=histogram",
    "band energy": "intensity=band_energy",
    "hospitals, percentile": "intensity=percentile augment=hospitals",
    "hospitals, histogram": "intensity=histogram augment=hospitals",
    "hospitals, band energy": "intensity=band_energy augment=hospitals",
}
"""What is typed beside ``experiment=course_cpu``; the first one is what the others are compared with."""

Coco = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help=f"folder of {TABLE}, whose images name their source")
    parser.add_argument("out", type=Path, help="folder for the runs")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--folds", type=int, default=2, help="of the detectors that know the source (default 2)")
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    coco = json.loads((given.root / TABLE).read_text(encoding="utf-8"))
    if unnamed := [image["file_name"] for image in coco["images"] if not image.get("source")]:
        parser.error(f"{given.root / TABLE}: {len(unnamed)} images name no source, first {unnamed[0]}")
    run = partial(detected, given.root, given.out, coco, epochs=given.epochs, seed=given.seed)
    recipe = yaml.safe_load((ROOT / "conf" / "findings" / "eda.yaml").read_text(encoding="utf-8"))
    findings = FindingVocabulary(recipe["findings"])
    sources = {
        source: {image["file_name"] for image in coco["images"] if image["source"] == source}
        for source in sorted({image["source"] for image in coco["images"]})
    }
    held_out = {
        (source, arm): run(f"without_{source}", test, ARMS[arm])
        for arm in given.arms
        for source, test in sources.items()
    }
    knowing: dict[str, FilmResult] = {}
    for number, test in enumerate(folds(coco, given.folds, given.seed)):
        knowing |= run(f"fold_{number}", test, ARMS[given.arms[0]])
    head = ("source", "detector", "AP50 [95 %]", "of each finding", "AP", "above the first", "won back")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for source, test in sources.items():
        names = findings.resolve(shared(coco, test), source=TABLE)
        arms = {arm: held_out[source, arm] for arm in given.arms}
        for row in rows(arms, knowing, names, findings):
            print(f"| {source} | {' | '.join(row)} |")


def folds(coco: Coco, count: int, seed: int) -> list[set[str]]:
    """Return the file names of each fold: whole patients, and of each source and finding as even a part as can be."""
    names = {category["id"]: category["name"] for category in coco["categories"]}
    marked = {image["id"]: "" for image in coco["images"]}
    for annotation in coco["annotations"]:
        marked[annotation["image_id"]] = names[annotation["category_id"]]
    films = np.random.default_rng(seed).permutation(np.array(coco["images"], object)).tolist()
    films.sort(key=lambda image: (image["source"], marked[image["id"]]))
    of_patient: dict[str, int] = {}
    parts: list[set[str]] = [set() for _ in range(count)]
    for image in films:
        patient = str(image.get("patient", image["file_name"]))
        part = of_patient.setdefault(patient, len(of_patient) % count)
        parts[part].add(image["file_name"])
    return parts


def shared(coco: Coco, test: set[str]) -> list[str]:
    """Return the findings that are marked on films of ``test`` and on others."""
    names = {category["id"]: category["name"] for category in coco["categories"]}
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    marked = [(names[a["category_id"]], files[a["image_id"]] in test) for a in coco["annotations"]]
    return [name for name in names.values() if (name, True) in marked and (name, False) in marked]


def detected(
    root: Path, out: Path, coco: Coco, plan: str, test: set[str], words: str, epochs: int, seed: int
) -> dict[str, FilmResult]:
    """Train without the films ``test``, and return by study what the detector says of these."""
    folder = out / "runs" / re.sub(r"[^\w-]+", "-", f"{plan}-{words}-{epochs}-{seed}")
    kept = folder / "test.json"
    if not kept.exists():
        data = split_data(root, out, coco, plan, test)
        train(
            ["data=coco", f"data.root={data}", *words.split(), f"trainer.max_epochs={epochs}", f"seed={seed}"], folder
        )
        write_json(kept, [as_plain(result) for result in test_results(folder / "checkpoints" / "best.ckpt")])
    results = [from_plain(plain) for plain in json.loads(kept.read_text(encoding="utf-8"))]
    return {result.study: result for result in results}


def split_data(root: Path, out: Path, coco: Coco, plan: str, test: set[str]) -> Path:
    """Copy the films once, and return a table of them that says which are for testing."""
    films = out / "films"
    for image in coco["images"]:
        copy = films / image["file_name"]
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / image["file_name"], copy)
    images = [image | {"split": "test" if image["file_name"] in test else "train"} for image in coco["images"]]
    table = films / f"{plan}.json"
    write_json(table, {**coco, "images": images})
    return table


def train(words: Sequence[str], folder: Path) -> None:
    """Train as a user would; the same command in the same folder goes on where it was cut off."""
    command = [sys.executable, str(ROOT / "train.py"), "experiment=course_cpu", *words, f"hydra.run.dir={folder}"]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=ROOT, env=here)  # noqa: S603  the table alone on stdout


def test_results(path: Path) -> Iterator[FilmResult]:
    """Yield what a checkpoint says of the test films of its data."""
    checkpoint = read_checkpoint(path)
    data = load_data(checkpoint)
    data.prepare_data()
    data.setup()
    films = RadiographDataset(data.films["test"], data.findings, data.cache, data.size)
    yield from film_results(load_task(checkpoint), films, data.batch_size)


def rows(
    arms: Mapping[str, Mapping[str, FilmResult]],
    knowing: Mapping[str, FilmResult],
    names: Sequence[str],
    findings: FindingVocabulary,
) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each detector on the films of one source: those of the arms, then the one that knows it."""
    first = next(iter(arms.values()))
    studies = sorted(first)
    baseline = [first[study] for study in studies]
    labels = [findings.index(name) for name in names]
    figure = partial(MeanAveragePrecision, labels=labels, ious=PRECISIONS["ap50"])
    lost = ap50([knowing[study] for study in studies], labels).value - ap50(baseline, labels).value
    for arm, results in {**arms, "knows the source": knowing}.items():
        these = [results[study] for study in studies]
        above = paired_bootstrap(baseline, these, figure)[0]
        share = "" if results is first or lost <= 0 else f"{100 * above.value / lost:.0f} %"
        each = ", ".join(f"{name} {ap50(these, [findings.index(name)]).value:.3f}" for name in names)
        precision = average_precision(these, labels, PRECISIONS["ap"]).value
        cells = (each, f"{precision:.3f}", "" if results is first else shown(above), share)
        yield arm, shown(ap50(these, labels)), *cells


def ap50(results: Sequence[FilmResult], labels: Sequence[int]) -> Estimate:
    return average_precision(results, labels, PRECISIONS["ap50"])


def shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


if __name__ == "__main__":
    main()
