"""A detector of before names its findings in DICOM by the same codes as it did."""

from cxr.data.sources.layouts import VOCABULARY, read_vocabulary
from cxr.findings import FindingVocabulary
from cxr.runs.finding_codes import with_codes

EDA = read_vocabulary(VOCABULARY)


def codes(fields: dict[str, object]) -> list[str]:
    return [finding.code.value for finding in FindingVocabulary(**with_codes(fields)).findings]  # type: ignore[arg-type]


def test_a_vocabulary_without_codes_gets_those_that_its_reports_had() -> None:
    plain = EDA.as_dict()
    old = {**plain, "findings": [{k: v for k, v in one.items() if k != "codes"} for one in plain["findings"]]}
    assert codes(old) == codes(plain) == [finding.code.value for finding in EDA.findings]
    assert "8186001" in codes(old)
    assert codes({"findings": [{"name": "mass"}]}) == ["MASS"]


def test_a_finding_that_was_saved_without_a_code_has_none() -> None:
    assert codes({"findings": [{"name": "scoliosis", "codes": []}]}) == ["SCOLIOSIS"]
    assert with_codes({"findings": "none"}) == {"findings": "none"}
