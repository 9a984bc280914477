"""Tables of series and of patients: read as those of films are, and never out of their folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxr.data.sources.patients import read_patients
from cxr.data.sources.tables import TableError
from cxr.data.sources.volume import read_volume
from cxr.findings import FindingVocabulary

FINDINGS = FindingVocabulary([{"name": "nodule"}])


def patients(root: Path, place: str) -> list[Any]:
    (root / "patients.csv").write_text(f"film,series,findings\n,{place},nodule\n")
    return list(read_patients(root, FINDINGS))


def studies(root: Path, place: str) -> list[Any]:
    (root / "studies.csv").write_text(f"series,findings\n{place},nodule\n")
    return list(read_volume(root, FINDINGS))


@pytest.mark.parametrize("read", [patients, studies])
@pytest.mark.parametrize("place", ["../other", "/etc", "link", "in/../../other", "x" * 300])
def test_a_series_outside_the_data_set_is_refused(tmp_path: Path, read: Callable[..., list[Any]], place: str) -> None:
    for folder in ("set/in", "other"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "set/link").symlink_to(tmp_path / "other")
    with pytest.raises(TableError, match=r"row 2: .*(outside the data set|too long)"):
        read(tmp_path / "set", place)
    (tmp_path / "root").symlink_to(tmp_path / "set")
    assert [len(read(tmp_path / root, "in")) for root in ("set", "root")] == [1, 1]


@pytest.mark.parametrize(("name", "read"), [("patients.csv", read_patients), ("studies.csv", read_volume)])
@pytest.mark.parametrize("content", ["{0}\n{1}\0\n", '{0}\n"{1}\n', "{0}\n{1},,,,9\n", "{0}\n" + "x" * 140_000, ""])
def test_a_damaged_table_is_named(tmp_path: Path, name: str, read: Callable[..., list[Any]], content: str) -> None:
    columns = "film,series,findings" if name == "patients.csv" else "series,findings"
    (tmp_path / name).write_text(content.format(columns, "in,in,nodule"))
    with pytest.raises(TableError, match=name):
        read(tmp_path, FINDINGS)
