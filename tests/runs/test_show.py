"""``cxr show`` draws a film with any intensity of conf/intensity/."""

import sys
from pathlib import Path

import numpy as np
import pytest

from cxr.config.errors import ConfigError
from cxr.phantom.course_layout import write_film
from cxr.read.intensity import Intensity, LogWindow
from cxr.runs.show import main, steps_of


def test_the_intensity_is_that_of_its_file() -> None:
    assert steps_of("log_window").fingerprint() == Intensity([LogWindow()]).fingerprint()
    assert steps_of("percentile").fingerprint() != steps_of("voi").fingerprint()
    with pytest.raises(ConfigError, match=r"intensity=voy: there is no such file in conf/intensity/.*voi"):
        steps_of("voy")


def test_the_command_line_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_film([tmp_path / "film.dcm"], np.arange(400, dtype=np.uint16).reshape(20, 20), "H1", "film")
    drawn = []
    for words in ([], ["--intensity", "percentile"], ["--intensity", "voy"]):
        out = tmp_path / f"{len(drawn)}.png"
        monkeypatch.setattr(sys, "argv", ["show", str(tmp_path / "film.dcm"), str(out), *words])
        if "voy" in words:
            with pytest.raises(SystemExit) as refused:
                main()
            assert refused.value.code == 2
            assert "intensity=voy" in capsys.readouterr().err
        else:
            main()
            drawn.append(out.read_bytes())
    assert drawn[0] != drawn[1]
