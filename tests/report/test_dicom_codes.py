"""Codes of findings and sites are those of the standards, and private ones are apart."""

import pytest
import yaml
from pydicom.sr.codedict import codes

from scripts import ROOT

pytest.importorskip("highdicom", reason="the extra is not installed: pip install 'cxr[dicom]'")

from cxr.findings import Finding, FindingVocabulary
from cxr.report import dicom_codes

EDA = {
    key: value for key, value in yaml.safe_load((ROOT / "conf/findings/eda.yaml").read_text()).items() if key[0] != "_"
}
FINDINGS = FindingVocabulary(**EDA)


def verhoeff(number: str) -> bool:
    """Whether the last digit of a SNOMED CT identifier checks the others (SNOMED CT Release File Specification 2.3)."""
    turn = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)

    def times(a: int, b: int) -> int:  # in the dihedral group of ten
        return (a + b) % 5 + (b // 5) * 5 if a < 5 and b < 5 else (
            (a + b) % 5 + 5 if a < 5 else (a - b) % 5 + 5 if b < 5 else (a - b) % 5
        )  # fmt: skip

    check = 0
    for place, digit in enumerate(int(d) for d in reversed(number)):
        for _ in range(place % 8):
            digit = turn[digit]
        check = times(check, digit)
    return check == 0


def test_every_snomed_code_has_its_check_digit_and_every_site_is_the_standards() -> None:
    assert not verhoeff("8186002")
    every = [code for finding in FINDINGS.findings for code in finding.codes]
    assert {code for code in every if code.scheme != "SCT"} == {("DCM", "112121", "Infiltrate")}
    assert codes.DCM.Infiltrate.value == "112121"
    assert all(finding.codes[0].scheme == "SCT" for finding in FINDINGS.findings if finding.codes)  # what we write
    assert all(verhoeff(code.value) for code in every if code.scheme == "SCT")
    assert verhoeff("399208008")
    assert verhoeff("168537006")
    standard = {codes.SCT.ThoracicAorta, codes.SCT.Heart, codes.SCT.Pleura, codes.SCT.Lung, codes.SCT.Spine}
    assert set(dicom_codes._SITES.values()) <= standard | {codes.SCT.ThoracicSpine}
    assert set(dicom_codes._SITES) == set(FINDINGS.names)


def test_private_codes_fit_their_fields_and_are_apart() -> None:
    made = [dicom_codes.finding_code(finding) for finding in (*FINDINGS.findings, Finding("effusion"))]
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in made)
    assert len({code.value for code in made}) == len(made)
    assert dicom_codes.finding_site("effusion") is None
