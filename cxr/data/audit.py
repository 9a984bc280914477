"""Shows what a data set holds and what is wrong with it: ``python -m cxr.data.audit ROOT``.

For data sets that are joined: ``python -m cxr.data.audit conf/data/merge.yaml --source vindr=A --source nih=B``. Where
files do not show the layout: ``… ROOT --data coco --read train=train.json --read val=val.json``, as in a training.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cxr.data.film import Film
from cxr.data.source_balance import SourceCount, count_sources, entangled
from cxr.data.sources.layouts import VOCABULARY, read_films, read_merge_file, read_vocabulary, vocabulary_of
from cxr.data.sources.merge import Joined
from cxr.data.sources.readers import Agreement, agreement
from cxr.data.splits import split_items
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.intensity import FullRange, Intensity

LEFT_OUT = "left out"
"""Films in no split: unreadable ones, and further films of patients whom the data set holds back for testing."""

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
    """The counts of one split, with an entry for each finding of the vocabulary, by name."""

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
    """Counts of each split, and problems as texts ready to print. ``asdict`` of it can be written as JSON.

    Args:
        splits: counts by the name of the split.
        leaks: patients or pixels that are in more than one split; ``LEFT_OUT`` is no split.
        duplicates: films of one split with different ids but the same pixels.
        copies: copies of a film that show another picture.
        boxes: boxes that are empty or reach out of their film.
        unreadable: files that cannot be decoded, with the reason.
        sources: films of each finding, by source; empty unless data sets are joined.
        entangled: findings that depend on the source (``cxr.data.source_balance``). This is a warning, no problem.
        dropped: number of boxes whose finding is not mapped, by source and the source's name of the finding.
        agreement: how much readers agree on each finding, on films that several of them marked.
    """

    splits: dict[str, SplitCount]
    leaks: list[str]
    duplicates: list[str]
    copies: list[str]
    boxes: list[str]
    unreadable: list[str]
    sources: dict[str, dict[str, SourceCount]] = field(default_factory=dict)
    entangled: list[str] = field(default_factory=list)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    agreement: dict[str, Agreement] = field(default_factory=dict)

    @property
    def problems(self) -> dict[str, list[str]]:
        """The problems of each kind that there are, by a heading for people."""
        headings = {
            "Leaks between splits": self.leaks,
            "Different films with the same pixels": self.duplicates,
            "Copies of one film that differ in pixels": self.copies,
            "Boxes that are empty or reach out of the film": self.boxes,
            "Unreadable files": self.unreadable,
        }
        return {heading: problems for heading, problems in headings.items() if problems}


def audit(films_by_split: Mapping[str, Sequence[Film]], findings: FindingVocabulary, cache: FilmCache) -> Audit:
    """Count a data set and search for errors that make scores worthless. All files are decoded into ``cache``."""
    films = [film for some in films_by_split.values() for film in some]
    files = [path for film in films for path in (film.path, *film.copies)]
    unreadable = cache.fill(files)
    pixels = {path: cache.get(path).digest for path in files if path not in unreadable}
    sources = count_sources(films, findings.names)
    return Audit(
        splits={split: _count(some, findings) for split, some in films_by_split.items()},
        leaks=_leaks(films_by_split, pixels),
        duplicates=[texts for some in films_by_split.values() for texts in _duplicates(some, pixels)],
        copies=[
            f"{copy} is not the picture {film.path} is"
            for film in films
            for copy in film.copies
            if film.path in pixels and pixels.get(copy, pixels[film.path]) != pixels[film.path]
        ],
        boxes=[problem for film in films for problem in _bad_boxes(film)],
        unreadable=[str(unreadable[path]) for path in sorted(unreadable)],
        sources=sources if len(sources) > 1 else {},
        entangled=entangled(sources),
        agreement=agreement(films, findings.names),
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
    _show_sources(report, findings, console)
    _show_agreement(report, findings, console)
    for heading, problems in report.problems.items():
        console.print(f"\n[bold red]{heading}: {len(problems)}[/]")
        console.print("\n".join(f"  {escape(text)}" for text in problems[:most]), highlight=False, soft_wrap=True)
        if len(problems) > most:
            console.print(f"  and {len(problems) - most} more")
    if not report.problems:
        console.print("\nNo leaks, duplicates, differing copies, bad boxes or unreadable files.")


def _show_sources(report: Audit, findings: FindingVocabulary, console: Console) -> None:
    """Print a table of sources and findings, the dropped boxes, and the findings that depend on the source."""
    if report.sources:
        table = Table("finding", *_right(*report.sources), title="Films with a finding, of those that tell of it")
        for name in next(iter(report.sources.values())):
            counts = [of[name] for of in report.sources.values()]
            table.add_row(findings.label(name), *(f"{c.films} of {c.labelled}" if c.labelled else "–" for c in counts))
        table.caption = "–: the source did not look for it, and is no negative for it"
        console.print(table)
    for source, dropped in report.dropped.items():
        listing = ", ".join(f"{name} {count}" for name, count in sorted(dropped.items()))
        console.print(f"{source}: {sum(dropped.values())} boxes of findings that are not mapped: {listing or 'none'}")
    if report.entangled:
        console.print("\n[bold yellow]Findings that go together with a source: a detector may learn the source[/]")
        console.print("\n".join(f"  {escape(text)}" for text in report.entangled), highlight=False, soft_wrap=True)


def _show_agreement(report: Audit, findings: FindingVocabulary, console: Console) -> None:
    if not report.agreement:
        return
    table = Table(
        "finding", *_right("films marked", "by two or more", "kappa", "box F1"), title="Agreement between readers"
    )
    for name, of in report.agreement.items():
        share, kappa, f1 = ("–" if value is None else f"{value:.2f}" for value in (of.share, of.kappa, of.box_f1))
        table.add_row(findings.label(name), f"{of.marked} of {of.films}", share, kappa, f1)
    table.caption = "kappa: Fleiss, of whole films; box F1: boxes of two readers that overlap by 0.4 or more"
    console.print(table)


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
        # half a pixel is tolerated, because marks and fractions are rounded
        if not ((box[:2] < box[2:]).all() and (box >= -0.5).all() and (box[2:] <= np.add(frame, 0.5)).all())
    ]


def split_as_trained(
    films: Sequence[Film], unreadable: Container[Path], val_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[Film]]:
    """Return the splits of a training with these settings, and the films that it leaves out. Raises ``ValueError``."""
    readable = [film for film in films if any(path not in unreadable for path in (film.path, *film.copies))]
    splits = split_items(readable, val_fraction, test_fraction, seed)
    placed = {id(film) for some in splits.values() for film in some}
    left_out = [film for film in films if id(film) not in placed]
    return splits | ({LEFT_OUT: left_out} if left_out else {})


def _read(
    root: Path, sources: Sequence[str], vocabulary: Path | None, layout: str | None, settings: Sequence[str]
) -> tuple[FindingVocabulary, Joined]:
    """Return vocabulary and films for the arguments of the command. Raises ``OSError`` and ``ValueError``."""
    if wrong := [typed for typed in settings if not all(typed.partition("="))]:
        raise ValueError(f"--read {wrong[0]}: expected KEY=VALUE, such as train=train.json")
    if root.suffix not in (".yaml", ".yml"):
        if sources:
            raise ValueError(
                f"--source is for a yaml that joins data sets, such as conf/data/merge.yaml; {root} is none"
            )
        findings = read_vocabulary(vocabulary) if vocabulary else vocabulary_of(root, layout)
        given = {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in settings)}
        return findings, Joined(read_films(root, findings, layout, **given), {})
    if layout or settings:
        raise ValueError(f"--data and --read are for one data set; {root} joins several")
    if wrong := [typed for typed in sources if not all(typed.partition("="))]:
        raise ValueError(f"--source {wrong[0]}: expected NAME=FOLDER, such as vindr=data/vindr")
    findings = read_vocabulary(vocabulary or VOCABULARY)
    return findings, read_merge_file(
        root, {name: folder for name, _, folder in (s.partition("=") for s in sources)}, findings
    )


def main(prog: str = "python -m cxr.data.audit") -> None:
    """Print the audit of the data set on the command line; exit with 1 if there are problems."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("root", type=Path, help="a data set in any layout the project reads, or a yaml that joins some")
    parser.add_argument("--source", action="append", default=[], metavar="NAME=FOLDER", help="a source of that yaml")
    parser.add_argument("--data", metavar="NAME", help="its layout as in data=NAME (default: what its files show)")
    parser.add_argument("--read", action="append", default=[], metavar="KEY=VALUE", help="as data.read.KEY=VALUE")
    parser.add_argument("--findings", type=Path, help="the vocabulary (default: that of the layout, else eda's)")
    parser.add_argument("--cache", type=Path, default=Path(".cache/films"), help="decoded films (default %(default)s)")
    parser.add_argument("--val-fraction", type=float, default=0.15, help="as data.val_fraction (default %(default)s)")
    parser.add_argument("--test-fraction", type=float, default=0.15, help="as data.test_fraction (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the split, as in training (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the audit here too")
    arguments = parser.parse_args()
    try:
        told = (arguments.source, arguments.findings, arguments.data, arguments.read)
        findings, joined = _read(arguments.root, *told)
        films = joined.films
        cache = FilmCache(arguments.cache, Intensity([FullRange()]), size=64)
        unreadable = cache.fill([path for film in films for path in (film.path, *film.copies)])
        shares = arguments.val_fraction, arguments.test_fraction
        splits = split_as_trained(films, unreadable, *shares, arguments.seed)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    report = replace(audit(splits, findings, cache), dropped={s: dict(n) for s, n in joined.dropped.items()})
    show(report, findings, Console())
    val, test = (f"{100 * share:g} %" for share in shares)
    print(f"Split as a training with seed {arguments.seed}: {val} of the films validate, {test} test, whole patients;")
    print(
        "splits that the data set names stay. An experiment may have other shares: course_cpu has --val-fraction 0.1."
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=1, ensure_ascii=False), encoding="utf-8")
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
