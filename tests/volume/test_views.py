"""Views: the planes hang as at a workstation, under maps, before and after preprocessing."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr.phantom.series import draw_series, write_series
from cxr.volume import views
from cxr.volume.views import planes

LINE = views._LINE


def panels(picture: Image.Image) -> list[np.ndarray]:
    """The grey pictures of the three planes of a cube, without their captions."""
    pixels = np.asarray(picture.convert("L"))[:-LINE]
    return [pixels[:, i * (256 + 6) : i * (256 + 6) + 256] for i in range(3)]


def brightest(panel: np.ndarray) -> tuple[bool, bool]:
    """Whether the bright spot is in the lower half, and whether in the right half."""
    row, column = np.argwhere(panel == panel.max()).mean(axis=0)
    return bool(row > 128), bool(column > 128)


def test_head_is_up_front_is_up_or_left_and_the_patients_left_is_right() -> None:
    volume = np.zeros((8, 8, 8), np.float32)
    volume[6:, :2, 6:] = 1  # head, front, left
    axial, coronal, sagittal = panels(planes(volume, at=(7, 0, 7)))
    assert brightest(axial) == (False, True)
    assert brightest(coronal) == (False, True)
    assert brightest(sagittal) == (False, False)


def test_planes_have_the_proportions_of_millimetres() -> None:
    volume = np.zeros((10, 40, 20), np.float32)
    picture = planes(volume, spacing_mm=(2, 1, 1))  # 20 x 40 x 20 mm
    assert picture.size == (128 + 128 + 256 + 2 * 6, 256 + LINE)


def test_a_map_is_laid_over_where_it_is_and_nowhere_else() -> None:
    volume = np.full((2, 8, 8, 8), 0.5, np.float32)  # of two channels
    heat = np.zeros((8, 8, 8), np.float32)
    heat[0:3] = 0.6
    plain, warm = (np.asarray(planes(volume, heat=map_))[:256, 262:518].astype(int) for map_ in (None, heat))
    assert (plain == plain[0, 0, 0]).all()
    upper = warm[:128]
    assert (np.ptp(upper, axis=(0, 1)) == 0).all()  # as even as the volume is there
    assert np.ptp(upper[0, 0]) <= 3  # and grey: the lowest colour of inferno is a very dark blue
    assert (warm[-60:, :, 0] > warm[-60:, :, 2] + 30).all()  # towards the feet, orange


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_command_draws_a_series_before_and_after(
    tmp_path: Path, modality: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = draw_series(np.random.default_rng(0), 24, (), "CT" if modality == "CT" else "MR")
    write_series(tmp_path / "s", drawn, "P", "s")
    extra = ["--mr"] if modality == "MR" else []
    monkeypatch.setattr(sys, "argv", ["views", str(tmp_path / "s"), str(tmp_path / "out.png"), *extra])
    views.main()
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (3 * 256 + 2 * 6, 2 * 256 + 4 * LINE)
    assert capsys.readouterr().out == ""


def test_a_folder_that_is_no_series_is_an_error_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["views", str(tmp_path), str(tmp_path / "out.png")])
    with pytest.raises(SystemExit) as end:
        views.main()
    assert end.value.code == 1
    assert "holds no DICOM slice that can be read" in capsys.readouterr().err
