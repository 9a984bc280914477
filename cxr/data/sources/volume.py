"""Reads volumes and the findings of each from the table ``studies.csv``."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cxr.data.patients import without_placeholders
from cxr.data.sources.root import Root, wrong_name
from cxr.data.sources.tables import raise_problems, read_rows, records_of, shown, shown_names
from cxr.data.study import Study
from cxr.findings import NORMAL, FindingVocabulary
from cxr.read.dicom import Header, ReadError, find_dicoms, pseudonym, read_header
from cxr.read.tags import open_tags

TABLE = "studies.csv"
_COLUMNS = ("series", "findings")
_OPTIONAL = ("patient", "split", "series_pseudonym")
_SPLITS = {"": "", "train": "", "test": "test"}  # validation studies are drawn from those that are not for testing


def read_volume(root: Path | str, findings: FindingVocabulary, stacked: bool = False) -> list[Study]:
    """Return a study for each row of ``studies.csv`` in ``root``, in its order.

    The column ``series`` is a folder below ``root``. ``findings`` are separated by ``|``, in any spelling that the
    vocabulary knows; an empty cell or ``normal`` means none. These columns are optional: ``patient`` (otherwise the
    PatientID of the files), ``split`` (``test`` for a test study) and ``series_pseudonym`` (the series to read in a
    folder with several).

    ``stacked`` means that folders hold films of a patient, which are stacked (``cxr.data.stack``).

    Raises ``FileNotFoundError`` if the table or a folder is missing, ``UnknownLabelError`` for unknown findings, and
    ``ValueError`` for a table that contradicts itself or leads out of ``root``; one message names all such rows.
    """
    root = Path(root)
    table = root / TABLE
    rows = _rows(table)
    labels = [(number, label) for number, row in rows.items() for label in _labels(row)]
    names = iter(findings.resolve([label for _, label in labels], str(table), rows=[number for number, _ in labels]))
    findings_of = {number: tuple(dict.fromkeys(next(names) for _ in _labels(row))) for number, row in rows.items()}
    _check(table, rows, findings_of)
    if missing := [number for number, row in rows.items() if not (root / row["series"]).is_dir()]:
        first = root / rows[missing[0]]["series"]
        raise FileNotFoundError(
            f"{table}: {len(missing)} of {len(rows)} folders are missing, first in row {missing[0]}: {first}"
        )
    with ThreadPoolExecutor() as pool:
        asked = [(root / row["series"], row["series_pseudonym"]) for row in rows.values()]
        headers = list(pool.map(lambda places: _first_header(*places), asked))
    studies = [
        _study(root, row, tuple(name for name in findings_of[number] if name != NORMAL), header, stacked)
        for (number, row), header in zip(rows.items(), headers, strict=True)
    ]
    return without_placeholders(studies, [bool(row["patient"]) for row in rows.values()])


def _rows(table: Path) -> dict[int, dict[str, str]]:
    """Return the records of the table by line, counted from 1; absent columns are ""."""
    if not table.is_file():
        raise FileNotFoundError(f"{table} is missing, expected a csv with the columns {', '.join(_COLUMNS)}")
    rows = read_rows(Root(table.parent).check(table))
    names = next(iter(rows.values()))
    missing, unknown = ([c for c in _COLUMNS if c not in names], [c for c in names if c not in _COLUMNS + _OPTIONAL])
    if missing or unknown:
        raise ValueError(
            f"{table} has the columns {shown_names(names)}; expected {', '.join(_COLUMNS)} and if wanted "
            f"{', '.join(_OPTIONAL)}"
        )
    return records_of(table, rows, _COLUMNS, _OPTIONAL)


def _labels(row: dict[str, str]) -> list[str]:
    return [label for label in row["findings"].split("|") if label.strip()]


def _check(table: Path, rows: dict[int, dict[str, str]], findings_of: dict[int, tuple[str, ...]]) -> None:
    """Raise one ``ValueError`` for all invalid rows of the table."""
    problems = []
    place = Root(table.parent)
    first: dict[tuple[str, str], int] = {}
    for number, row in rows.items():
        if not row["series"]:
            problems.append(f"row {number}: no series")
        elif problem := wrong_name(row["series"]) or place.refusal(table.parent / row["series"]):
            problems.append(f"row {number}: the series {shown(row['series'])} {problem}")
        if (other := first.setdefault((row["series"], row["series_pseudonym"]), number)) != number:
            problems.append(f"row {number}: the same series as row {other}, expected one row a series")
        if row["split"] not in _SPLITS:
            problems.append(f"row {number}: split is {row['split']!r}, expected test, train or nothing")
        if NORMAL in findings_of[number] and len(findings_of[number]) > 1:
            problems.append(f"row {number}: both normal and {', '.join(n for n in findings_of[number] if n != NORMAL)}")
    raise_problems(table, problems)


def _study(root: Path, row: dict[str, str], findings: tuple[str, ...], header: Header | None, stacked: bool) -> Study:
    name = pseudonym(row["series"])
    return Study(
        path=root / row["series"],
        id=row["series"],
        study=header.study if header else name,
        patient=pseudonym(row["patient"]) if row["patient"] else header.patient if header else name,
        findings=findings,
        split=_SPLITS[row["split"]],
        modality=header.modality if header else "",
        series=row["series_pseudonym"],
        stacked=stacked,
    )


def _first_header(folder: Path, series: str) -> Header | None:
    """Return the first readable header of the ``series``, None if there is none; reading pixels raises the error."""
    for path in find_dicoms(folder):
        try:
            if series:
                with open_tags(path, ["SeriesInstanceUID"]) as tags:
                    if pseudonym(tags.text("SeriesInstanceUID")) != series:
                        continue
            return read_header(path)
        except ReadError:
            continue
    return None
