"""What a run says at its end: lines whole, and a warning where pseudonyms have no secret."""

import pytest

from cxr.read.radiograph import PSEUDONYM_KEY
from cxr.runs.result import tell, warn_without_key


def test_a_line_with_a_path_is_neither_cut_nor_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    line = f"checkpoint: /data/[/old]/{'long/' * 40}best.ckpt"
    tell(line)
    assert capsys.readouterr().out == f"{line}\n"


def test_a_missing_secret_of_pseudonyms_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PSEUDONYM_KEY, "a secret")
    warn_without_key()
    assert capsys.readouterr().out == ""
    monkeypatch.delenv(PSEUDONYM_KEY)
    warn_without_key()
    assert f"{PSEUDONYM_KEY} is not set" in capsys.readouterr().out
