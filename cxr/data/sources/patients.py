"""Reads patients with a film, a series or both, and their findings, from the table ``patients.csv``."""

from collections.abc import Mapping
from pathlib import Path

from cxr.data.pair import Patient
from cxr.data.sources.root import Root, wrong_name
from cxr.data.sources.tables import TableError, read_rows, records_of, shown
from cxr.data.study import Study
from cxr.findings import NORMAL, FindingVocabulary
from cxr.read.dicom import pseudonym

TABLE = "patients.csv"
_COLUMNS = ("film", "series", "findings")


def read_patients(root: Path | str, findings: FindingVocabulary) -> list[Patient]:
    """Return the patients of ``patients.csv`` in ``root``: columns film, series, findings[, patient][, split].

    Film and series are relative to ``root``; one of them may be empty. Findings are separated by ``|``; an empty cell
    or ``normal`` means a normal patient. Without ``patient`` each row is another patient; all rows of one patient are
    in the same split. ``split`` may be ``test``.

    Raises:
        FileNotFoundError: the table, a film or a series is missing.
        ValueError: a column is missing, a path leads out of ``root``, a row has neither film nor series, or a split is
            unknown.
        UnknownLabelError: a finding is not in the vocabulary.
    """
    root = Path(root)
    table = root / TABLE
    if not table.is_file():
        raise FileNotFoundError(f"{table}: there is no such file, expected a table with {', '.join(_COLUMNS)}")
    place = Root(root)
    records = records_of(table, read_rows(place.check(table)), _COLUMNS, ("patient", "split"))
    return [_patient(place, table, line, record, findings) for line, record in records.items()]


def _patient(place: Root, table: Path, number: int, row: Mapping[str, str], findings: FindingVocabulary) -> Patient:
    film, series = (place.folder / row[name] if row[name] else None for name in ("film", "series"))
    if film is None and series is None:
        raise ValueError(f"{table}: row {number} has neither film nor series, expected one at least")
    for path in (film, series):
        if path is None:
            continue
        if problem := wrong_name(str(path)) or place.refusal(path):
            raise TableError(f"{table}: row {number}: {shown(str(path))} {problem}")
        if not path.exists():
            raise FileNotFoundError(f"{table}: row {number}: {path} is not there")
    split = row["split"]
    if split not in ("", "test"):
        raise ValueError(f"{table}: row {number}: split is {split!r}, expected test or nothing")
    labels = [label for label in row["findings"].split("|") if label.strip()]
    names = findings.resolve(labels, str(table), [number] * len(labels))
    present = tuple(dict.fromkeys(name for name in names if name != NORMAL))
    study = pseudonym(f"{row['film']} {row['series']}")
    patient = pseudonym(row["patient"] or f"{row['film']} {row['series']}")
    volume = None if series is None else Study(series, row["series"], study, patient, present)
    return Patient(film, volume, study, patient, present, split)
