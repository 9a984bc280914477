"""What is promised stands beside what films gave, on the page and on the terminal."""

import math

import pytest
from rich.console import Console

from cxr.findings import FindingVocabulary
from cxr.measure.intervals import Estimate
from cxr.measure.promises import Reached
from cxr.measure.risk_control import Promise
from cxr.report.promise_table import KeptHere, print_promises, promise_table

FINDINGS = FindingVocabulary([{"name": "heart", "chinese": "心"}, {"name": "spine", "chinese": "脊"}])
NONE = Estimate(math.nan, math.nan, math.nan, 7, "no promise")
KEPT = KeptHere(
    [
        Reached("heart", Promise(0.1, 0.25, 50, 0.08), Estimate(0.12, 0.05, 0.2, 90)),
        Reached("heart", Promise(0.2, 0.5, 50, 0.18), Estimate(0.2, 0.1, 0.3, 90)),  # metrics.json alone has it
        Reached("spine", Promise(0.1, None, 4, 0.0, 9), NONE),
        Reached("screening", Promise(0.1, 0.3, 60, 0.07), Estimate(0.05, 0.01, 0.1, 95)),
        Reached("false_boxes", Promise(0.5, 0.4, 70, 0.4), Estimate(0.45, 0.3, 0.6, 120)),
    ],
    "val",
    80,
    chose=3,
)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_promise_has_its_patients_threshold_and_what_these_films_gave(language: str) -> None:
    table = promise_table(KEPT, FINDINGS, language)
    assert table is not None
    assert [row.cells[1:] for row in table["rows"]] == [
        ["10 %", "50", "0.25", "0.120\n[0.050, 0.200]", "90"],
        ["10 %", "4", table["rows"][1].cells[3], "–", "7"],
        ["10 %", "60", "0.3", "0.050\n[0.010, 0.100]", "95"],
        ["0.5", "70", "0.4", "0.450\n[0.300, 0.600]", "120"],
    ]
    assert "9" in table["rows"][1].cells[3]
    assert "80" in table["lead"]
    assert "3" in table["warning"]
    assert promise_table(None, FINDINGS, language) is None


def test_the_terminal_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    print_promises(KEPT, Console(width=110))
    out = capsys.readouterr().out
    assert "heart" in out
    assert "0.120 [0.050, 0.200]" in out
    assert "no promise: 4 patients, 9 are needed" in out
    assert "missed boxes" not in out
    print_promises(None, Console())
    assert capsys.readouterr().out == ""
