"""The figure of a film before and after its intensity steps."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

from cxr.read.dicom import ReadError
from cxr.read.intensity import FullRange, Intensity, Percentile
from cxr.read.show import show_intensity
from scripts import ROOT

SIZE = (1419, 825)  # three columns of 4.3 inches, 7.5 inches high, 110 pixels an inch


def test_three_pictures_with_their_histograms(tmp_path, write_film):
    noise = np.random.default_rng(0).integers(0, 300, (90, 60))
    path = write_film(np.linspace(0, 3700, 60)[None].astype(int) + noise, BitsStored=12)
    backend = matplotlib.rcParams["backend"]
    show_intensity(path, tmp_path / "out.png", Intensity([FullRange(), Percentile(1, 99)]))
    with Image.open(tmp_path / "out.png") as picture:
        gray = np.asarray(picture.convert("L"))
    thirds = np.array_split(gray, 3, axis=1)
    for third in thirds:
        top, bottom = third[: len(third) * 3 // 5], third[len(third) * 2 // 3 :]
        assert len(np.unique(top)) > 100  # a film's grays
        assert (bottom == 76).any() or (np.abs(bottom.astype(int) - 110) < 12).any()  # the bars' blue
    assert matplotlib.rcParams["backend"] == backend
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_a_constant_film_is_drawn(tmp_path, write_film):
    show_intensity(write_film(np.full((20, 20), 5)), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == SIZE
        gray = np.asarray(picture.convert("L"))
    assert (gray[300, [236, 709, 1182]] == 0).all()  # the middle of each picture: one value is drawn as black
    assert (gray[300, [2, 472, 945, 1416]] == 255).all()  # the paper between them


def test_command_line_writes_the_figure_or_says_why_not(tmp_path, write_film):
    path = write_film(np.arange(400).reshape(20, 20))
    command = [sys.executable, "-W", "error", "-m", "cxr.read.show", path, tmp_path / "out.png"]
    subprocess.run(command, cwd=ROOT, check=True)
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == SIZE
    command[-2] = tmp_path / "absent.dcm"
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.strip() == f"{tmp_path / 'absent.dcm'}: cannot be opened: No such file or directory"


def test_an_unreadable_film_is_a_read_error(tmp_path):
    (tmp_path / "page.dcm").write_text("<html></html>")
    with pytest.raises(ReadError):
        show_intensity(tmp_path / "page.dcm", tmp_path / "out.png")
