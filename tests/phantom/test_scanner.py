"""A weak scanner among the phantom's machines: its films show less, and all others stay as they are."""

import csv
from pathlib import Path

import numpy as np
import pytest

from cxr.phantom.drawn_set import PhantomError
from cxr.phantom.films import draw_phantom, write_course_layout
from cxr.phantom.scanner import WeakScanner
from cxr.read.dicom import read_film
from cxr.read.film_groups import read_groups
from cxr.read.film_statistics import PIXELS, film_statistics


def test_the_films_of_other_machines_stay_as_they_are(tmp_path: Path) -> None:
    plain, weak = tmp_path / "plain", tmp_path / "weak"
    write_course_layout(plain, 0, 8, 64, workers=1)
    write_course_layout(weak, 0, 8, 64, workers=1, weak_scanner={"share": 0.5})
    makers, alike = [], []
    for path in sorted((weak / "test" / "image").iterdir()):
        makers.append(read_groups(path)["maker"])
        same = read_film(plain / "test" / "image" / path.name).pixels
        alike.append(bool(np.array_equal(read_film(path).pixels, same)))
    assert set(makers) == {"DRAWN", "WEAK"}
    assert alike == [maker == "DRAWN" for maker in makers]
    with (weak / "test.csv").open() as one, (plain / "test.csv").open() as other:
        assert list(csv.reader(one)) == list(csv.reader(other))  # the same films, patients and marks
    with pytest.raises(PhantomError, match=r"weak scanner share 0\.5 \(asked for: None\)"):
        write_course_layout(weak, 0, 8, 64, workers=1)


def test_a_header_states_what_the_drawn_body_is(tmp_path: Path) -> None:
    write_course_layout(tmp_path / "films", 0, 12, 64, workers=1)
    groups = [read_groups(path) for path in sorted((tmp_path / "films" / "test" / "image").iterdir())]
    assert {one["sex"] for one in groups} == {"F", "M"}
    assert {one["view"] for one in groups} == {"PA"}
    assert all(set(one) == {"sex", "age", "view", "maker", "machine", "year"} for one in groups)


def test_small_structures_lose_contrast_and_large_ones_keep_it() -> None:
    columns = np.tile(np.arange(400, dtype=np.float32), (64, 1))  # a pixel a mm
    waves = {length: np.sin(2 * np.pi * columns / length, dtype=np.float32) for length in (8, 200)}
    left = {length: WeakScanner(contrast=0.5).flattened(wave, 1.0)[32, 100:300] for length, wave in waves.items()}
    assert np.ptp(left[8]) == pytest.approx(0.5 * 2, abs=0.02)
    assert np.ptp(left[200]) > 0.95 * 2


def test_a_weak_scanner_is_noisier() -> None:
    def noise(scanner: WeakScanner | None) -> float:
        pixels = draw_phantom(np.random.default_rng(1), 192, (), scanner).pixels
        return float(film_statistics(pixels * 16)[PIXELS.index("noise")])

    assert noise(WeakScanner(noise=8, contrast=1)) > noise(None) + 0.3


@pytest.mark.parametrize("wrong", [{"share": 0}, {"noise": 0.5}, {"contrast": 0}, {"contrast": 1.5}, {"dose": 1}])
def test_a_scanner_that_cannot_be_is_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(PhantomError, match=r"data\.read\.weak_scanner: "):
        write_course_layout(tmp_path / "films", 0, 2, 64, weak_scanner=wrong)
