"""Detectors on films of a source that they never saw: what is lost there, and what each arm wins back, as Markdown.

    python benchmarks/held_out_source.py FOLDER OUT --epochs 20 [--hold-out A,B C,D] [--arms "as it is" hospitals …]

FOLDER holds ``annotations.coco.json``, with findings as conf/findings/eda.yaml names them; the field ``source`` of each
image says where it is from. Each source is held out once, or each group of ``--hold-out``: a detector learns from all
other films and is tested on these. What is lost against a detector that knows the source is measured by folds over all
films, whose test films are pooled: each is tested by the detector that did not see its patient.

A finding is judged on films of those sources that mark it somewhere: of the others nobody knows whether they show it,
and a detector that tells sources apart would be praised for it. AP50 and AP are the mean over the findings that are
marked on both sides, their intervals are over patients, and "won back" is the share of the first arm's loss.

OUT keeps a copy of the films, the runs and what they detected; the same command goes on where it was cut off. A
training of 160 films for 20 epochs takes two minutes on two cores, and there is one for each arm and source.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
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
"""What is typed beside ``experiment=course_cpu``; the first one chosen is what the others are compared with."""

Coco = Mapping[str, Any]
Results = dict[str, FilmResult]  # by the id of the image, as text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help=f"folder of {TABLE}, whose images name their source")
    parser.add_argument("out", type=Path, help="folder for the runs")
    parser.add_argument("--hold-out", nargs="+", help="sources held out together, A,B; none: each source by itself")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--folds", type=int, default=2, help="of the detectors that know the source (default 2)")
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.root, given.out = given.root.absolute(), given.out.absolute()  # train.py runs in another folder
    coco = json.loads((given.root / TABLE).read_text(encoding="utf-8"))
    if unnamed := [image["file_name"] for image in coco["images"] if not image.get("source")]:
        parser.error(f"{given.root / TABLE}: {len(unnamed)} images name no source, first {unnamed[0]}")
    sources = sorted({image["source"] for image in coco["images"]})
    groups = given.hold_out or sources
    if unknown := sorted({source for group in groups for source in group.split(",")} - set(sources)):
        parser.error(f"--hold-out names {', '.join(unknown)}, expected some of {', '.join(sources)}")
    run = partial(detected, given.root, given.out, coco, epochs=given.epochs, seed=given.seed)
    held_out = {(group, arm): run(group, films_of(coco, group), ARMS[arm]) for arm in given.arms for group in groups}
    knowing: Results = {}
    for number, test in enumerate(folds(coco, given.folds, given.seed)):
        knowing |= run(f"fold_{number}", test, ARMS[given.arms[0]])
    head = ("held out", "detector", "AP50 [95 %]", "AP50 of each finding", "AP", "above the first", "won back")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for group in groups:
        arms = {arm: held_out[group, arm] for arm in given.arms}
        for row in rows(arms, knowing, looked_for(coco), vocabulary()):
            print(f"| {group} | {' | '.join(row)} |")


def vocabulary() -> FindingVocabulary:
    recipe = yaml.safe_load((ROOT / "conf" / "findings" / "eda.yaml").read_text(encoding="utf-8"))
    return FindingVocabulary(recipe["findings"])


def films_of(coco: Coco, group: str) -> set[str]:
    """Return the ids of the films of a source, or of several, "A,B"."""
    return {str(image["id"]) for image in coco["images"] if image["source"] in group.split(",")}


def folds(coco: Coco, count: int, seed: int) -> list[set[str]]:
    """Return the ids of each fold: whole patients, and of each source and finding as even a part as can be."""
    marked = {annotation["image_id"]: annotation["category_id"] for annotation in coco["annotations"]}
    order = np.random.default_rng(seed).permutation(len(coco["images"]))
    films = [coco["images"][number] for number in order]
    films.sort(key=lambda image: (image["source"], marked.get(image["id"], 0)))
    of_patient: dict[str, int] = {}
    parts: list[set[str]] = [set() for _ in range(count)]
    for image in films:
        patient = str(image.get("patient", image["id"]))
        part = of_patient.setdefault(patient, len(of_patient) % count)
        parts[part].add(str(image["id"]))
    return parts


def looked_for(coco: Coco) -> dict[str, set[str]]:
    """Return for each film, by id, the findings that are marked anywhere in its source."""
    findings, source_of = vocabulary(), {image["id"]: image["source"] for image in coco["images"]}
    names = {c["id"]: findings.resolve([c["name"]], source=TABLE)[0] for c in coco["categories"]}
    marked: dict[str, set[str]] = defaultdict(set)
    for annotation in coco["annotations"]:
        marked[source_of[annotation["image_id"]]].add(names[annotation["category_id"]])
    return {str(image["id"]): marked[image["source"]] for image in coco["images"]}


def detected(
    root: Path, out: Path, coco: Coco, plan: str, test: set[str], words: str, epochs: int, seed: int
) -> Results:
    """Train without the films ``test``, and return what the detector says of these."""
    plan = re.sub(r"[^\w-]+", "-", plan)  # Hydra takes no comma in a path
    folder = out / "runs" / re.sub(r"[^\w-]+", "-", f"{plan}-{words}-{epochs}-{seed}")
    kept = folder / "test.json"
    if not kept.exists():
        data = split_data(root, out, coco, plan, test)
        train(
            ["data=coco", f"data.root={data}", *words.split(), f"trainer.max_epochs={epochs}", f"seed={seed}"], folder
        )
        write_json(kept, dict(test_results(folder / "checkpoints" / "best.ckpt")))
    return {name: from_plain(plain) for name, plain in json.loads(kept.read_text(encoding="utf-8")).items()}


def split_data(root: Path, out: Path, coco: Coco, plan: str, test: set[str]) -> Path:
    """Copy the films once, and return a table of them that says which are for testing."""
    films = out / "films"
    for image in coco["images"]:
        copy = films / image["file_name"]
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / image["file_name"], copy)
    images = [image | {"split": "test" if str(image["id"]) in test else "train"} for image in coco["images"]]
    table = films / f"{plan}.json"
    write_json(table, {**coco, "images": images})
    return table


def train(words: Sequence[str], folder: Path) -> None:
    """Train as a user would; the same command in the same folder goes on where it was cut off."""
    command = [sys.executable, str(ROOT / "train.py"), "experiment=course_cpu", *words, f"hydra.run.dir={folder}"]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=ROOT, env=here)  # noqa: S603  the table alone on stdout


def test_results(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield id and result of each test film of a checkpoint's data."""
    checkpoint = read_checkpoint(path)
    data = load_data(checkpoint)
    data.prepare_data()
    data.setup()
    films = RadiographDataset(data.films["test"], data.findings, data.cache, data.size)
    for film, result in zip(films.films, film_results(load_task(checkpoint), films, data.batch_size), strict=True):
        yield film.id, as_plain(result)


def rows(
    arms: Mapping[str, Results], knowing: Results, looked: Mapping[str, set[str]], findings: FindingVocabulary
) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each detector on the films of one group: those of the arms, then the one that knows them."""
    first = next(iter(arms.values()))
    films = sorted(first)
    elsewhere = set().union(*(looked[film] for film in looked.keys() - first.keys()))
    names = [name for name in findings.names if name in elsewhere & set().union(*(looked[film] for film in films))]
    labels = [findings.index(name) for name in names]

    def judged(results: Results) -> list[FilmResult]:
        return [_told(results[film], [findings.index(name) for name in looked[film]]) for film in films]

    baseline = judged(first)
    lost = ap50(judged(knowing), labels).value - ap50(baseline, labels).value
    for arm, results in {**arms, "knows the source": knowing}.items():
        these = judged(results)
        above = paired_bootstrap(baseline, these, partial(MeanAveragePrecision, labels=labels, ious=(0.5,)))[0]
        each = ", ".join(f"{name} {ap50(these, [label]).value:.3f}" for name, label in zip(names, labels, strict=True))
        precision = average_precision(these, labels, PRECISIONS["ap"]).value
        gain = (
            ("", "") if results is first else (shown(above), f"{100 * above.value / lost:.0f} %" if lost > 0 else "–")
        )
        yield arm, shown(ap50(these, labels)), each, f"{precision:.3f}", *gain


def _told(result: FilmResult, labels: Sequence[int]) -> FilmResult:
    """Return a result without detections of findings that the film's source did not look for."""
    kept = np.isin(result.labels, labels)
    return replace(result, boxes=result.boxes[kept], labels=result.labels[kept], scores=result.scores[kept])


def ap50(results: Sequence[FilmResult], labels: Sequence[int]) -> Estimate:
    return average_precision(results, labels, PRECISIONS["ap50"])


def shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


if __name__ == "__main__":
    main()
