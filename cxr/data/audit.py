"""What a data set holds and what is wrong with it: ``python -m cxr.data.audit ROOT``."""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cxr.data.film import Film
from cxr.data.layouts import VOCABULARY, read_films, read_vocabulary
from cxr.data.splits import split_films
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.intensity import FullRange, Intensity

LEFT_OUT = "left out"
"""Films in none of the splits: unreadable ones, and those of patients whom the data set holds back for testing."""

_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class FindingCount:
    """How often a finding is marked in a split. Sizes are the 5, 50 and 95 % quantiles in original pixels."""

    films: int
    boxes: int
    width: tuple[float, ...]
    height: tuple[float, ...]


@dataclass(frozen=True)
class SplitCount:
    """What a split holds, with one entry for each finding of the vocabulary, by name."""

    films: int
    patients: int
    normal: int
    findings: dict[str, FindingCount]

    @property
    def normal_share(self) -> float:
        """Share of normal films, 0..1."""
        return self.normal / self.films if self.films else 0.0


@dataclass(frozen=True)
class Audit:
    """Counts of each split, and problems as texts ready to print; ``asdict`` of it is JSON-able.

    Args:
        splits: by name.
        leaks: patients, and pixels, that stand in more than one split; ``LEFT_OUT`` is none.
        duplicates: films of one split that have different ids and the same pixels.
        copies: films whose further copies are another picture.
        boxes: boxes that are empty or reach out of their film.
        unreadable: files that cannot be decoded, with the reason.
    """

    splits: dict[str, SplitCount]
    leaks: list[str]
    duplicates: list[str]
    copies: list[str]
    boxes: list[str]
    unreadable: list[str]

    @property
    def problems(self) -> dict[str, list[str]]:
        """The problems under headings for a reader, those that were found."""
        headings = {
            "Leaks between splits": self.leaks,
            "Different films with the same pixels": self.duplicates,
            "Copies of one film that differ in pixels": self.copies,
            "Boxes that are empty or reach out of the film": self.boxes,
            "Unreadable files": self.unreadable,
        }
        return {heading: found for heading, found in headings.items() if found}


def audit(films_by_split: Mapping[str, Sequence[Film]], findings: FindingVocabulary, cache: FilmCache) -> Audit:
    """Count a data set and look for what makes a score worthless; all files are decoded, into ``cache``."""
    films = [film for some in films_by_split.values() for film in some]
    files = [path for film in films for path in (film.path, *film.copies)]
    unreadable = cache.fill(files)
    pixels = {path: cache.get(path).digest for path in files if path not in unreadable}
    return Audit(
        splits={split: _count(some, findings) for split, some in films_by_split.items()},
        leaks=_leaks(films_by_split, pixels),
        duplicates=[found for some in films_by_split.values() for found in _duplicates(some, pixels)],
        copies=[
            f"{copy} is not the picture {film.path} is"
            for film in films
            for copy in film.copies
            if film.path in pixels and pixels.get(copy, pixels[film.path]) != pixels[film.path]
        ],
        boxes=[problem for film in films for problem in _bad_boxes(film)],
        unreadable=[str(unreadable[path]) for path in sorted(unreadable)],
    )


def show(report: Audit, findings: FindingVocabulary, console: Console, most: int = 20) -> None:
    """Print an audit as tables, with at most ``most`` of each kind of problem."""
    splits = Table("split", *(_right("films", "patients", "normal", "share")), title="Films")
    boxes = Table("split", "finding", *_right("films", "boxes", "width px", "height px"), title="Findings")
    for name, split in report.splits.items():
        splits.add_row(name, str(split.films), str(split.patients), str(split.normal), f"{split.normal_share:.0%}")
        for finding, count in split.findings.items():
            sizes = ("  ".join(f"{q:.0f}" for q in size) for size in (count.width, count.height))
            boxes.add_row(name, findings.label(finding), str(count.films), str(count.boxes), *sizes)
        boxes.add_section()
    boxes.caption = "width and height: 5, 50 and 95 % quantiles in original pixels"
    console.print(splits, boxes)
    for heading, found in report.problems.items():
        console.print(f"\n[bold red]{heading}: {len(found)}[/]")
        console.print("\n".join(f"  {escape(text)}" for text in found[:most]), highlight=False, soft_wrap=True)
        if len(found) > most:
            console.print(f"  and {len(found) - most} more")
    if not report.problems:
        console.print("\nNo leaks, duplicates, differing copies, bad boxes or unreadable files.")


def _right(*headings: str) -> list[Column]:
    return [Column(heading, justify="right") for heading in headings]


def _count(films: Sequence[Film], findings: FindingVocabulary) -> SplitCount:
    sizes: dict[str, list[np.ndarray]] = defaultdict(list)
    for film in films:
        for finding, box in zip(film.findings, film.boxes, strict=True):
            sizes[finding].append(box[2:] - box[:2])
    counts = {}
    for name in findings.names:
        quantiles = np.quantile(sizes[name], _QUANTILES, axis=0).round(1).T.tolist() if sizes[name] else ((), ())
        marked = sum(name in film.findings for film in films)
        counts[name] = FindingCount(marked, len(sizes[name]), *map(tuple, quantiles))
    return SplitCount(len(films), len({film.patient for film in films}), sum(film.normal for film in films), counts)


def _leaks(films_by_split: Mapping[str, Iterable[Film]], pixels: Mapping[Path, str]) -> list[str]:
    patients: dict[str, dict[str, Film]] = defaultdict(dict)
    pictures: dict[str, dict[str, Film]] = defaultdict(dict)
    for split, films in films_by_split.items():
        for film in films if split != LEFT_OUT else ():
            patients[film.patient].setdefault(split, film)
            if film.path in pixels:
                pictures[pixels[film.path]].setdefault(split, film)
    return [
        f"{what}: " + ", ".join(f"{film.path} ({split})" for split, film in by_split.items())
        for what, groups in (("one patient", patients), ("the same pixels", pictures))
        for by_split in groups.values()
        if len(by_split) > 1
    ]


def _duplicates(films: Iterable[Film], pixels: Mapping[Path, str]) -> list[str]:
    same: dict[str, list[Film]] = defaultdict(list)
    for film in films:
        if film.path in pixels:
            same[pixels[film.path]].append(film)
    return [" = ".join(str(film.path) for film in group) for group in same.values() if len(group) > 1]


def _bad_boxes(film: Film) -> list[str]:
    frame = (film.width, film.height)
    return [
        f"{film.path}: {finding} {box.round(1).tolist()}, expected x0 < x1 and y0 < y1 within {frame[0]} x {frame[1]}"
        for finding, box in zip(film.findings, film.boxes, strict=True)
        # a tolerance of half a pixel: marks and fractions are rounded
        if not ((box[:2] < box[2:]).all() and (box >= -0.5).all() and (box[2:] <= np.add(frame, 0.5)).all())
    ]


def split_as_trained(
    films: Sequence[Film], unreadable: Container[Path], val_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[Film]]:
    """Return the splits that a training with these settings has, and the films it leaves out. Raises ``ValueError``."""
    readable = [film for film in films if any(path not in unreadable for path in (film.path, *film.copies))]
    splits = split_films(readable, val_fraction, test_fraction, seed)
    placed = {id(film) for some in splits.values() for film in some}
    left_out = [film for film in films if id(film) not in placed]
    return splits | ({LEFT_OUT: left_out} if left_out else {})


def main() -> None:
    """Read the command line, print the audit, and exit with 1 if there are problems."""
    parser = argparse.ArgumentParser(prog="python -m cxr.data.audit", description=__doc__)
    parser.add_argument("root", type=Path, help="a data set in the course layout, or with a COCO json")
    parser.add_argument("--findings", type=Path, default=VOCABULARY, help="the vocabulary (default %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path(".cache/films"), help="decoded films (default %(default)s)")
    parser.add_argument("--val-fraction", type=float, default=0.15, help="as data.val_fraction (default %(default)s)")
    parser.add_argument("--test-fraction", type=float, default=0.15, help="as data.test_fraction (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the split, as in training (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the audit here too")
    arguments = parser.parse_args()
    try:
        findings = read_vocabulary(arguments.findings)
        films = read_films(arguments.root, findings)
        cache = FilmCache(arguments.cache, Intensity([FullRange()]), size=64)
        unreadable = cache.fill([path for film in films for path in (film.path, *film.copies)])
        shares = arguments.val_fraction, arguments.test_fraction
        splits = split_as_trained(films, unreadable, *shares, arguments.seed)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    report = audit(splits, findings, cache)
    show(report, findings, Console())
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=1, ensure_ascii=False), encoding="utf-8")
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
