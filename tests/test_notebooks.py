"""The notebooks of notebooks/, executed from top to bottom on small settings in an empty folder."""

import csv
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from scripts import ROOT

pytestmark = pytest.mark.slow

COURSE = """
from pathlib import Path

FOLDER = Path("data/course")
DRAWN = {"films": 24, "test_films": 8, "size": 192}
RECIPE = "course_cpu"
TRAINING = ["trainer.max_epochs=2", "data.size=64", "callbacks.page.films=1", "trainer.precision=32-true"]
EXPLAINED = 2
"""
ONE_FILM = """
from pathlib import Path

FILM = Path("film.dcm")
CHECKPOINT = None
TRAINING = ["experiment=smoke", "data.size=64", "callbacks.page.films=1", "trainer.precision=32-true"]
"""


def executed(name: str, settings: str, place: Path) -> nbformat.NotebookNode:
    """Execute a notebook in ``place`` with other settings, and return it with what its cells have shown."""
    book = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    (cell,) = [cell for cell in book.cells if "settings" in cell.metadata.get("tags", ())]
    cell.source = settings
    client = NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(place)}})
    return client.execute()


def pictures(book: nbformat.NotebookNode) -> int:
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_from_the_courses_folder_to_submission_csv(tmp_path: Path) -> None:
    book = executed("course.ipynb", COURSE, tmp_path)
    assert pictures(book) == 7  # marks, preprocessing and balance, losses, AP per epoch, two pages of maps
    rows = list(csv.reader((tmp_path / "outputs/course_predicted/submission.csv").read_text("utf-8-sig").splitlines()))
    assert rows[0] == ["ID", "category", "score", "xmin", "xmax", "ymin", "ymax"]
    sections = [cell.source.split(".")[0] for cell in book.cells if cell.source.startswith("## ")]
    assert sections == [f"## {number}" for number in ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")]


def test_reading_one_film_in_python(tmp_path: Path) -> None:
    assert pictures(executed("one_film.ipynb", ONE_FILM, tmp_path)) == 3  # three ways to 0..1, boxes, maps


def test_what_is_committed_has_no_outputs() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert all(not cell.outputs and cell.execution_count is None for cell in cells), path.name
