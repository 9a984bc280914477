"""DICOM to pictures: right grey values, no names, every failure told."""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from cxr.data import convert as convert_module
from cxr.data.convert import INTENSITIES, Converter, convert


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> object:
    """Return the exit code of the command line."""
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, words)])
    try:
        convert_module.main()
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture
def folder(tmp_path: Path, write_film: Callable[..., Path]) -> Path:
    """Two films of one study: a step from 0 to 4095, and its mirror image."""
    pixels = np.zeros((40, 60), np.uint16)
    pixels[:, 30:] = 4095
    for name, film in (("Chen_Mei/a.dcm", pixels), ("Chen_Mei/b", pixels[:, ::-1])):
        write_film(tmp_path / "in" / name, film, patient="Chen^Mei", study="1.2.3")
    return tmp_path / "in"


def test_a_picture_has_air_dark_and_no_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, folder, tmp_path / "out") == 0
    written = sorted((tmp_path / "out").rglob("*.*"))
    assert len(written) == 2
    assert all(path.suffix == ".png" and "Chen" not in str(path.relative_to(tmp_path)) for path in written)
    bright_left, bright_right = sorted(
        (cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in written), key=lambda p: p[0, -1]
    )
    assert bright_left.shape == (40, 60)
    assert bright_left[0, [0, -1]].tolist() == [255, 0]  # MONOCHROME1: 0 is white
    assert bright_right[0, [0, -1]].tolist() == [0, 255]


def test_size_format_and_names_are_the_users(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--format", "jpg", "--size", 30, "--keep-names", "--intensity", "log")
    assert run(monkeypatch, folder, tmp_path / "out", *words) == 0
    names = ("a.dcm.jpg", "b.jpg")
    one, mirrored = (cv2.imread(str(tmp_path / "out" / "Chen_Mei" / name), cv2.IMREAD_UNCHANGED) for name in names)
    assert one.shape == mirrored.shape == (20, 30)
    assert (one[0, 0], one[0, -1]) == pytest.approx((255, 0), abs=3)  # JPEG is lossy
    assert (mirrored[0, 0], mirrored[0, -1]) == pytest.approx((0, 255), abs=3)


def test_a_small_film_is_not_enlarged(folder: Path, tmp_path: Path) -> None:
    convert(folder, Converter(folder, tmp_path / "out", ".png", INTENSITIES["voi"], size=500))
    assert {cv2.imread(str(path)).shape[:2] for path in (tmp_path / "out").iterdir()} == {(40, 60)}


def test_a_failure_is_named_at_the_end_and_the_others_are_converted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (folder / "Chen_Mei/a.dcm").read_bytes()
    (folder / "torn.dcm").write_bytes(whole[:-1000])
    assert run(monkeypatch, folder, tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "torn.dcm" in err
    assert "1 films could not be converted" in err
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize(("words", "message"), [((), "holds no DICOM files"), (("--size", "0"), "--size is 0")])
def test_a_wrong_command_line_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    assert run(monkeypatch, tmp_path, tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err
