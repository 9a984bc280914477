"""What a header states of groups: bands and years leave it, never an age, a date or a name."""

from pathlib import Path

import numpy as np
import pytest

from cxr.phantom.course_layout import write_film
from cxr.read.film_groups import age_band, name_of, read_groups, view_of


def groups_in(folder: Path, **stated: str) -> dict[str, str]:
    path = folder / "film.dcm"
    write_film([path], np.full((8, 8), 99, np.uint16), "Doe^Jane", "x", stated)
    return read_groups(path)


def test_groups_of_a_header(tmp_path: Path) -> None:
    found = groups_in(
        tmp_path, PatientSex="F", PatientAge="071Y", StudyDate="20190315", Manufacturer="Philips  Medical",
        ManufacturerModelName="DigitalDiagnost", ViewPosition="AP", InstitutionName="Saint Nowhere",
    )  # fmt: skip
    machine = "PHILIPS MEDICAL DIGITALDIAGNOST"
    maker = {"maker": "PHILIPS MEDICAL", "machine": machine}
    assert found == {"sex": "F", "age": "65+", "view": "AP", "year": "2019", **maker}


@pytest.mark.parametrize(
    ("stated", "band"),
    [
        ({"PatientAge": "006M"}, "<40"),
        ({"PatientAge": "040Y"}, "40-64"),
        ({"PatientAge": "064Y"}, "40-64"),
        ({"PatientAge": "098Y"}, "65+"),
        ({"PatientBirthDate": "19500601", "StudyDate": "20150531"}, "40-64"),  # a day before the 65th birthday
        ({"PatientBirthDate": "19500601", "AcquisitionDate": "20150602"}, "65+"),
        ({"PatientBirthDate": "19500601"}, None),
        ({"PatientBirthDate": "20200101", "StudyDate": "20190101"}, None),  # not born yet
        ({"PatientBirthDate": "19000101", "StudyDate": "20200101"}, None),  # a placeholder: nobody known is 120
        ({"PatientAge": "999Y"}, None),
    ],
)
def test_age_is_stated_or_follows_from_two_dates(tmp_path: Path, stated: dict[str, str], band: str | None) -> None:
    assert groups_in(tmp_path, **stated).get("age") == band


def test_what_is_not_stated_is_missing(tmp_path: Path) -> None:
    assert groups_in(tmp_path) == {"view": "PA"}
    assert groups_in(tmp_path, PatientSex="X", StudyDate="", ViewPosition="") == {}
    picture = tmp_path / "film.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert read_groups(picture) == {}


def test_a_damaged_or_missing_file_states_nothing(tmp_path: Path) -> None:
    damaged = tmp_path / "film.dcm"
    damaged.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 50)
    assert read_groups(damaged) == {}
    assert read_groups(tmp_path / "none.dcm") == {}


def test_names_of_machines_have_one_spelling_and_obey_no_table() -> None:
    assert name_of(" Siemens   AG ") == name_of("SIEMENS AG") == "SIEMENS AG"
    assert name_of("=cmd|' /C calc'!A0") == "CMD /C CALC A0"
    assert name_of("<b>x</b>\n") == "B X /B"
    assert len(name_of("x" * 500)) == 48
    assert view_of("pa") == "PA"
    assert view_of("Doe^Jane") == ""
    assert [age_band(years) for years in (0, 39.9, 40, 64.9, 65, 125, 126, -1)] == [
        "<40", "<40", "40-64", "40-64", "65+", "65+", "", "",
    ]  # fmt: skip
