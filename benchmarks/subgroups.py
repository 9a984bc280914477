"""Does evaluate.py find a weak scanner, and does it find groups where there are none? As Markdown.

    python benchmarks/subgroups.py CKPT OUT [--films 480] [--permutations 200] [--root FOLDER]

CKPT: a checkpoint of train.py on drawn films (experiment=demo). Films of another seed are drawn, 15 % of the patients
on a weak scanner (``cxr.phantom.scanner``), and their groups are measured as evaluate.py measures them. Then the groups
are given to other patients, by chance, so that none differs: how often is any called different? Of 200 such evaluations
10 may be. ``--root`` takes drawn films that are there already (``train.csv``, ``test.csv``).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxr.data.dataset import RadiographDataset
from cxr.data.groups import Groups, groups_of
from cxr.data.sources.course import read_course
from cxr.detect.inference import film_results
from cxr.measure.results import FilmResult
from cxr.measure.subgroups import Settings, Subgroups, measure_groups
from cxr.phantom.films import write_course_layout
from cxr.progress import track
from cxr.read.cache import FilmCache
from cxr.report.subgroup_tables import as_plain, group_rows, in_words
from cxr.runs.checkpoint import Checkpoint, read_checkpoint
from cxr.runs.restore import load_task, restored_intensity
from cxr.runs.restored_network import operating_point

SEED, SIZE = 1, 512
LEAST = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="folder for subgroups.json and subgroups.md")
    parser.add_argument("--films", type=int, default=480, help="that are drawn (default 480)")
    parser.add_argument("--permutations", type=int, default=200, help="of the groups (default 200)")
    parser.add_argument("--root", type=Path, help="folder of the drawn films (default OUT/films)")
    given = parser.parse_args()
    root = given.root or given.out / "films"
    if given.root is None:
        write_course_layout(root, 10, given.films, SIZE, SEED, weak_scanner={})
    checkpoint = read_checkpoint(given.checkpoint)
    results, groups = judged(checkpoint, root, given.out / "cache")
    found = measured(checkpoint, results, groups, Settings(LEAST))
    told = [
        measured(checkpoint, results, permuted(results, groups, seed), Settings(LEAST, samples=2, seed=seed))
        for seed in track(range(given.permutations), "permuted groups")
    ]
    write(given.out, found, told)


def judged(checkpoint: Checkpoint, root: Path, cache: Path) -> tuple[list[FilmResult], list[dict[str, str]]]:
    """Return what the detector says of the test films, and their groups."""
    films = [film for film in read_course(root, checkpoint.findings) if film.split == "test"]
    decoded = FilmCache(cache, restored_intensity(checkpoint), checkpoint.size)
    decoded.fill([film.path for film in films])
    data = RadiographDataset(films, checkpoint.findings, decoded, checkpoint.size)
    results = track(film_results(load_task(checkpoint), data), "detecting", len(films))
    return list(results), [groups_of(film) for film in films]


def measured(
    checkpoint: Checkpoint, results: Sequence[FilmResult], groups: Sequence[Groups], settings: Settings
) -> Subgroups:
    """Return the figures of the groups, of all findings."""
    labels = range(1, 1 + len(checkpoint.findings.names))
    return measure_groups(results, results, groups, labels, operating_point(checkpoint), settings)


def permuted(results: Sequence[FilmResult], groups: Sequence[Groups], seed: int) -> list[Groups]:
    """Return the groups with those of each patient given to another one, drawn by chance."""
    of_patient = {result.patient: group for result, group in zip(results, groups, strict=True)}
    names = list(of_patient)
    drawn = np.random.default_rng([SEED, seed]).permutation(len(names))
    given = {name: of_patient[names[place]] for name, place in zip(names, drawn, strict=True)}
    return [given[result.patient] for result in results]


def write(out: Path, found: Subgroups, told: Sequence[Subgroups]) -> None:
    """Write what was found and how often permuted groups were called different, and print it."""
    false = [len(list(one.differing())) for one in told]
    tests = sum(one.tests for one in told)
    lines = [*in_words(found, "en"), "", "| group | films | patients | " + " | ".join(found.whole) + " |"]
    lines.append("|---" * (3 + len(found.whole)) + "|")
    cells = ([text.replace("\n", " · ") for text in (row.heading, *row.cells)] for row in group_rows(found, "en"))
    lines += [f"| {' | '.join(of_row)} |" for of_row in cells]
    any_false = sum(count > 0 for count in false)
    lines += ["", f"permuted groups: {any_false} of {len(told)} evaluations call a group different"]
    lines.append(f"({sum(false)} of {tests} tests; {found.tests} tests with the groups as they are)")
    out.mkdir(parents=True, exist_ok=True)
    content = {"found": as_plain(found), "permuted": {"evaluations": len(told), "with_a_finding": any_false}}
    (out / "subgroups.json").write_text(json.dumps(content, indent=1, default=vars), encoding="utf-8")
    (out / "subgroups.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
