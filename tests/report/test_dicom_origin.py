"""UIDs of our objects: an archive knows an object again by nothing else."""

from dataclasses import replace

import pytest
from pydicom import Dataset

pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[dicom]'")

from cxr.report.algorithm import Algorithm
from cxr.report.dicom_origin import derived_uid, origin

ALGORITHM = Algorithm("0.3", "00112233aabbccdd", 0.3, maps="seed 0")


def uids(kind: str, algorithm: Algorithm = ALGORITHM, maps: str = "") -> tuple[str, str]:
    """The series and the instance of an object about one film."""
    film = Dataset()
    film.StudyInstanceUID, film.SOPInstanceUID = "1.2", "1.2.3"
    made = origin(film, algorithm, kind, maps)
    return str(made["series_instance_uid"]), str(made["sop_instance_uid"])


def test_a_later_version_of_this_project_gives_the_same_words_the_same_uid() -> None:
    """2.25 and the whole number of the name-based UUID of RFC 9562 (PS3.5 B.2), as an archive has had it since 2026."""
    assert derived_uid("series", "1.2.3") == "2.25.123383443568350804778789417928641184553"


def test_maps_of_other_settings_are_other_objects_and_the_report_stays_the_same() -> None:
    other = replace(ALGORITHM, maps="seed 1")
    assert set(uids("pm", maps="drise")).isdisjoint(uids("pm", other, maps="drise"))
    assert set(uids("pm", maps="drise")).isdisjoint(uids("pm", maps="gradcam"))
    assert uids("sr") == uids("sr", other)
