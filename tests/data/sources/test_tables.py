"""Damaged csv, json and yaml: one error that names the file and the place, whatever is in it."""

from pathlib import Path

import pytest

from cxr.data.sources.documents import is_key, is_number, read_json, read_yaml
from cxr.data.sources.tables import TableError, raise_problems, read_table, shown
from cxr.findings import FindingVocabulary, UnknownLabelError

LONG = "x" * 200_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n3,\0\n", "line 3 holds a NUL byte"),
        ("a,b\n1,2\n".encode("utf-16-le"), "line 1 holds a NUL byte.*not as UTF-16"),
        ("a,b\n1,2\n".encode("utf-16"), "is not UTF-8"),
        (b"a,b\n1,\xff\n", "is not UTF-8"),
        (f"a,b\n1,2\n3,{LONG}\n".encode(), r"row 3 is not a row of a csv .*at most 131,072 characters"),
        (b'a,b\n1,2\n3,"4\n5,6\n7,8\n', r"row 3 is not a row of a csv .*closed quotation marks"),
        (b'a,b\n1,2\n3,"4"x\n', "row 3 is not a row of a csv"),
        (b"a\n1\n", "no column b; it has a, expected a, b"),
        (b"a;b\n1;2\n", "no column a, b; it has a;b"),
        (b"a,b,a\n1,2,3\n", "the column a twice"),
        (b"a,b\n1,2\n3\n", "row 3: 1 cells for the 2 columns"),
        (b"a,b\n1,2\n3,4,5\n", "row 3: 3 cells for the 2 columns"),
        (b"a,b\n", "column names and no row"),
        (b"", "is empty"),
        (b"\n \n,,\n", "is empty"),
        (b"a," + b"c," * 500 + b"d\n1,2\n", "no column b; it has a, c, c, .* and 482 more"),
    ],
)
def test_a_damaged_csv_is_named_with_the_row(tmp_path: Path, content: bytes, message: str) -> None:
    table = tmp_path / "table.csv"
    table.write_bytes(content)
    with pytest.raises(TableError, match=rf"table\.csv.*{message}|table\.csv: 1 problems\n  {message}") as error:
        read_table(table, ["a", "b"])
    assert len(str(error.value)) < 1000


def test_a_whole_csv_is_read_with_its_lines(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_bytes(b'\xef\xbb\xbf a ,b,c\n1,2,\n\n,,\n"3, and\nmore", 4 ,,\n')
    assert read_table(table, ["a", "b"], ["d"]) == {
        2: {"a": "1", "b": "2", "d": ""},
        6: {"a": "3, and\nmore", "b": "4", "d": ""},
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not a json file that can be read: Expecting property name"),
        (b"", "is not a json file"),
        (b"[1, \xff]", "is not a json file"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": ' * 100_000, "nested too deep"),
        (b"[" + b"9" * 5000 + b"]", "is not a json file that can be read: Exceeds the limit"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' stands twice in one object"),
    ],
)
def test_a_damaged_json_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(TableError, match=rf"t\.json .*{message}"):
        read_json(tmp_path / "t.json")


@pytest.mark.parametrize("content", [b"a: [", b"a: \xff", b"[" * 20_000, b"a: \0", b"a: 2001-99-99", b"? [1]\n: 2"])
def test_a_damaged_yaml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.yaml").write_bytes(content)
    with pytest.raises(TableError, match=r"t\.yaml is not a yaml file"):
        read_yaml(tmp_path / "t.yaml")


def test_true_is_no_number_and_no_id() -> None:
    assert [is_number(value) for value in (1, 1.5, True, None, "1", [1])] == [True, True, False, False, False, False]
    assert [is_key(value) for value in (0, 1.0, "a", True, None, "", 1.5, float("nan"), {}, [])] == [True] * 3 + [
        False
    ] * 7


def test_a_message_shows_twenty_problems_and_counts_the_others() -> None:
    with pytest.raises(TableError, match=r"t: 50 problems\n  0\n(.*\n){19}  and 30 more$") as error:
        raise_problems(Path("t"), [str(i) for i in range(50)])
    assert len(str(error.value).splitlines()) == 22


def test_a_value_is_shown_short_whatever_it_is() -> None:
    nested: list[object] = []
    for _ in range(2000):
        nested = [nested]
    for value in (LONG, 10**400, nested, [LONG] * 100, {LONG: LONG}):
        assert len(shown(value)) < 500
    assert shown("a\0\ud800") == r"'a\x00\ud800'"


def test_unknown_labels_are_shown_short_and_twenty_of_them(findings: FindingVocabulary) -> None:
    with pytest.raises(UnknownLabelError, match=r"'xxxx.*\(200000 characters\) in row 1") as error:
        findings.resolve([LONG])
    assert len(str(error.value)) < 500
    with pytest.raises(UnknownLabelError, match=r"'l19' in row 20; and 30 more\. Known"):
        findings.resolve([f"l{i}" for i in range(50)])
