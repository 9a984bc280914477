"""Says how doctors changed our boxes, and how far doctors agree: ``python -m cxr changes FOLDER``.

FOLDER holds films and measurement reports (DICOM SR), ours and doctors', as studies come from a PACS. What came back
from Label Studio, CVAT or as a COCO json is read with the key that ``cxr annotate`` left: ``EXPORT --key FOLDER``.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cxr.data.corrections import KINDS, Corrected, count_changes, overlap_of_moved
from cxr.data.sources import coco_pictures, cvat, labelstudio, sr
from cxr.data.sources.documents import read_json
from cxr.data.sources.layouts import VOCABULARY, read_vocabulary
from cxr.data.sources.readers import agreement
from cxr.files import write_json
from cxr.findings import FindingVocabulary
from cxr.read.dicom import ReadError
from cxr.report.annotation_pictures import annotation_picture
from cxr.report.figures import Marks, film_picture
from cxr.report.page import Card, Chip, finding_chip, finding_row, write_page
from cxr.report.words import LANGUAGES, words

PAGE, FIGURES = "index.html", "changes.json"

_SHOWN = 12  # films on the page, those that were changed most
_WIDTH = 560  # px of a film on the page


def read_corrections(root: Path, findings: FindingVocabulary, key: Path | None) -> list[Corrected]:
    """Return the films at ``root`` that doctors read. Its files show the layout. Raises ``OSError``, ``ValueError``."""
    if key is None:
        return sr.read_corrected(root, findings)
    first = root if root.is_file() else next((path for path in sorted(root.glob("*")) if path.suffix == ".xml"), root)
    if first.suffix == ".xml":
        return cvat.read_corrected(root, findings, str(key))
    if root.is_file() and isinstance(read_json(root), dict):
        return coco_pictures.read_corrected(root, findings, str(key))
    return labelstudio.read_corrected(root, findings, str(key))


def figures(corrected: Sequence[Corrected], findings: FindingVocabulary) -> dict[str, Any]:
    """Return how doctors changed our boxes and how far they agree, by finding, as plain containers.

    ``kept``, ``moved``, ``renamed``, ``deleted`` and ``added`` are numbers of boxes; a box that two doctors saw counts
    twice. ``overlap`` is the mean IoU of moved boxes. See ``cxr.data.sources.readers.Agreement``.
    """
    counts, overlaps = count_changes(corrected, findings.names), overlap_of_moved(corrected, findings.names)
    every = [one for film in corrected for one in film.changes()]
    renamed = Counter(f"{one.finding} → {one.renamed_to}" for one in every if one.kind == "renamed")
    shown = [one for one in corrected if one.ours is not None]
    agreed = agreement((one.film for one in corrected), findings.names)
    return {
        "films": len(corrected),
        "shown": len(shown),
        "unchanged": sum(all(change.kind == "kept" for change in one.changes()) for one in shown),
        "readers": len({reading.rater for one in corrected for reading in one.film.readings}),
        "changes": {name: {**counts[name], "overlap": overlaps[name]} for name in findings.names},
        "renamed": dict(renamed.most_common()),
        "agreement": {name: {**asdict(of), "share": of.share} for name, of in agreed.items()},
    }


def write_report(folder: Path, corrected: Sequence[Corrected], findings: FindingVocabulary, language: str) -> Path:
    """Write ``changes.json`` and the page; return the path of the page."""
    content = figures(corrected, findings)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FIGURES, content)
    most = sorted(corrected, key=lambda one: sum(change.kind != "kept" for change in one.changes()), reverse=True)
    cards = [card for one in most[:_SHOWN] if one.changes() and (card := _card(one, findings, language)) is not None]
    return write_page(
        folder / PAGE,
        "changes.html",
        language,
        counts=content,
        changed=[finding_row(findings, name, _cells(of), language) for name, of in content["changes"].items()],
        agreed=[finding_row(findings, name, _agreed(of), language) for name, of in content["agreement"].items()],
        renamed=content["renamed"],
        cards=cards,
    )


def _cells(of: dict[str, Any]) -> list[str]:
    return [*(str(of[kind]) for kind in KINDS), _two_digits(of["overlap"])]


def _agreed(of: dict[str, Any]) -> list[str]:
    shares = [_two_digits(of[name]) for name in ("share", "kappa", "box_f1", "overlap")]
    return [f"{of['marked']} / {of['films']}", *shares]


def _two_digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _card(one: Corrected, findings: FindingVocabulary, language: str) -> Card | None:
    """Return a film with the doctors' boxes solid and ours dashed; None where it cannot be read any more."""
    film, ours = one.film, one.ours
    if ours is None:
        return None
    try:
        picture = np.asarray(annotation_picture(film.path, None) / 255, np.float32)
    except ReadError:
        return None
    detections = Marks(ours.boxes, ours.findings, np.array(ours.scores, np.float32))
    drawn = film_picture(picture, Marks(film.boxes, film.findings), detections, findings, _WIDTH, language)
    kinds = Counter((change.kind, change.finding) for change in one.changes())
    say = words(language)["changes"]
    chips = [finding_chip(findings, name, f"{say[kind]} {n}", language) for (kind, name), n in kinds.items()]
    return Card(film.study, drawn, chips or [Chip(say["kept"])])


def show(content: dict[str, Any], findings: FindingVocabulary, console: Console) -> None:
    """Print the changes as a table."""
    table = Table(title="What became of our boxes", title_justify="left")
    table.add_column("finding")
    for name in (*KINDS, "overlap of moved"):
        table.add_column(name, justify="right")
    for name, of in content["changes"].items():
        table.add_row(findings.label(name), *_cells(of))
    table.caption = f"{content['films']} films read, on {content['shown']} of them our boxes were seen"
    console.print(table)


def main(prog: str = "python -m cxr.report.changes") -> None:
    """Write the report on the corrections of the command line."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("root", type=Path, help="a folder of films and reports, or what came back from annotators")
    parser.add_argument("--key", type=Path, help="key.json of cxr annotate, or its folder: root is what came back")
    parser.add_argument("--findings", type=Path, default=VOCABULARY, help="the vocabulary (default: eda's)")
    parser.add_argument("--out", type=Path, default=Path("changes"), help="folder of the page (default %(default)s)")
    parser.add_argument("--language", choices=LANGUAGES, default="en")
    given = parser.parse_args()
    try:
        findings = read_vocabulary(given.findings)
        corrected = read_corrections(given.root, findings, given.key)
        page = write_report(given.out, corrected, findings, given.language)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    show(figures(corrected, findings), findings, Console())
    print(page)


if __name__ == "__main__":
    main()
