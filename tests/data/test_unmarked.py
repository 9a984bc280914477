"""Films without marks: where their two views come from, and who is left out because marked films test on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import grid_sample

from cxr.data.augment import Augment
from cxr.data.film import Film
from cxr.data.film_data import FilmDataModule
from cxr.data.unmarked import UnmarkedDataModule
from cxr.data.views import Views
from cxr.findings import FindingVocabulary
from cxr.read.intensity import FullRange, Intensity


def ramps(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """A film of three channels: x and y of each pixel, in hundredths of the full range, and 1 on all of the film."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    film = np.stack([x, y, np.full_like(x, 100)], 2)
    film[0, 0, 2] = 0  # the least value, with which a view is filled beside the film
    return np.round(film * 655.35).astype(np.uint16)


@pytest.mark.parametrize("seed", [3, 4, 5])
@pytest.mark.parametrize(("height", "width"), [(96, 96), (96, 64), (50, 96)])
def test_the_places_of_two_views_show_the_same_spot_of_the_film(height: int, width: int, seed: int) -> None:
    made = Views(side=0.75, rotate=10, places=16)(ramps(height, width), 96, seed)
    assert made.views.shape == (2, 64, 64, 3)  # three quarters of 96 px is 72, rounded to a multiple of 32
    views = torch.from_numpy(made.views).permute(0, 3, 1, 2)
    spots = 100 * grid_sample(views, torch.from_numpy(made.places)[:, None], align_corners=False)[:, :, 0]
    inside = (spots[:, 2] > 99.9).all(0)  # nothing of the air around the film has come in
    assert inside.sum() >= 8
    torch.testing.assert_close(spots[0][:, inside], spots[1][:, inside], rtol=0, atol=0.1)
    assert (
        spots[0, :2, inside].amax(1) - spots[0, :2, inside].amin(1)
    ).min() > 10  # places that differ from each other


def test_a_view_of_the_whole_film_is_the_film() -> None:
    film = np.random.default_rng(0).integers(0, 65536, (64, 64)).astype(np.uint16)
    made = Views(side=1, crop=(1, 1), rotate=0, places=4)(film, 64, seed=0)
    np.testing.assert_allclose(made.views[0], film / 65535, atol=1e-4)
    np.testing.assert_allclose(made.places[0], made.places[1], atol=1e-6)


def test_views_follow_from_the_seed_and_are_never_mirrored() -> None:
    film, views = ramps(80, 80), Views(places=4)
    first, again, other = (views(film, 80, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.views, again.views)
    np.testing.assert_array_equal(first.places, again.places)
    assert not np.array_equal(first.views, other.views)
    for x_and_y in first.views:  # x grows to the right and y downwards in every view
        assert x_and_y[32, 48, 0] > x_and_y[32, 16, 0]
        assert x_and_y[48, 32, 1] > x_and_y[16, 32, 1]


def test_grey_values_of_the_two_views_change_independently() -> None:
    brighter = Augment(appearance=[albumentations.RandomBrightnessContrast((-0.3, 0.3), (0, 0), p=1)])
    film = np.full((64, 64), 32768, np.uint16)
    first, second = Views(brighter, places=4)(film, 64, seed=0).views
    assert abs(float(first.mean() - second.mean())) > 0.01


@pytest.mark.parametrize("settings", [{"crop": (0.3, 1)}, {"rotate": 40}, {"side": 0}, {"places": 1}])
def test_views_without_a_place_in_common_are_refused(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=rf"data.views.{name} is .*expected"):
        Views(**settings)


@pytest.fixture
def folder(tmp_path: Path, write_film: Callable[..., Path]) -> Path:
    """Nine films of nine patients; ``again.dcm`` is another film of patient 0, ``copy.dcm`` has the pixels of 1."""
    for number in range(9):
        write_film(tmp_path / "films" / f"{number}.dcm", pixels(number), patient=f"patient {number}")
    write_film(tmp_path / "films" / "again.dcm", pixels(50), patient="patient 0")
    write_film(tmp_path / "films" / "copy.dcm", pixels(1), patient="a stranger")
    return tmp_path / "films"


def pixels(number: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.random.default_rng(number).integers(0, 4096, (80, 64)).astype(np.uint16)


def marked(folder: Path, findings: FindingVocabulary, splits: dict[int, str]) -> FilmDataModule:
    """A marked set of some of the films, under patients of its own names, as a table may have them."""

    def read(root: Path, findings: FindingVocabulary) -> list[Film]:
        nothing = np.zeros((0, 4), np.float32)
        return [
            Film(root / f"{i}.dcm", f"{i}", f"study{i}", f"table{i}", nothing, (), 64, 80, split)
            for i, split in splits.items()
        ]

    intensity = Intensity([FullRange()])
    return FilmDataModule(folder, read, findings, intensity, size=512, cache=folder.parent / "cache", batch_size=2)


def unmarked(folder: Path, **settings: Any) -> UnmarkedDataModule:
    data = UnmarkedDataModule(
        folder, Intensity([FullRange()]), Views(places=4), size=64, cache=folder.parent / "cache", workers=0, **settings
    )
    data.prepare_data()
    data.setup()
    return data


def names(data: UnmarkedDataModule) -> set[str]:
    return {film.id for films in data.films.values() for film in films}


def test_without_marked_films_all_films_of_the_folder_are_learnt_from(folder: Path) -> None:
    data = unmarked(folder)
    assert names(data) == {*(f"{i}.dcm" for i in range(9)), "again.dcm"}  # copy.dcm is 1.dcm once more
    assert data.left_out == 0
    assert len(data.films["val"]) >= 1
    sample = data.dataset("train")[0]
    assert sample["views"].shape == (2, 1, 64, 64)
    assert sample["places"].shape == (2, 4, 2)
    whole = data.dataset("val")[0]["whole"]
    assert whole.shape == (1, 64, 64)
    assert whole[:, :, 52:].max() == 0  # 51 of 64 columns are film: it is 80 high and 64 wide


def test_pictures_beside_dicom_files_are_marks_and_no_films(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("4.dcm.jpg", "mark.png"):
        Image.fromarray(np.zeros((80, 64), np.uint8)).save(folder / name)
    assert names(unmarked(folder)) == {*(f"{i}.dcm" for i in range(9)), "again.dcm"}
    assert "2 pictures are left out" in caplog.text


def test_films_of_test_and_validation_patients_are_left_out_by_pseudonym_and_by_pixels(
    folder: Path, findings: FindingVocabulary, caplog: pytest.LogCaptureFixture
) -> None:
    splits = {0: "test", 1: "val", **dict.fromkeys(range(2, 6), "train")}
    data = unmarked(folder, marked=marked(folder, findings, splits))
    assert names(data) == {f"{i}.dcm" for i in range(2, 9)}  # 0 and again: patient 0; 1: patient 1; copy: its pixels
    assert data.left_out == 4
    assert "4 of 11 films are left out" in caplog.text
    assert "3 by the pseudonyms of their patients, 1 more by their pixels" in caplog.text
    assert "patient 0" not in caplog.text


def test_a_test_patient_of_whom_the_folder_has_many_films_is_no_placeholder(
    folder: Path, findings: FindingVocabulary, write_film: Callable[..., Path]
) -> None:
    for number in range(30, 42):  # more than half of all films of the folder
        write_film(folder / f"{number}.dcm", pixels(number), patient="patient 0")
    splits = {0: "test", 1: "val", **dict.fromkeys(range(2, 6), "train")}
    assert names(unmarked(folder, marked=marked(folder, findings, splits))) == {f"{i}.dcm" for i in range(2, 9)}


def test_an_id_that_training_films_share_with_test_films_is_a_placeholder(
    folder: Path, findings: FindingVocabulary, write_film: Callable[..., Path]
) -> None:
    for number, patient in ((20, "anonymous"), (21, "anonymous"), (22, "anonymous")):
        write_film(folder / f"{number}.dcm", pixels(number), patient=patient)
    splits = {20: "test", 21: "train", **dict.fromkeys(range(2, 6), "train"), 3: "val"}
    data = unmarked(folder, marked=marked(folder, findings, splits))
    assert "22.dcm" in names(data)  # nothing is known of who it shows
    assert "20.dcm" not in names(data)  # the test film itself, by its pixels


def test_a_marked_set_that_tests_on_every_film_leaves_nothing_and_says_so(
    folder: Path, findings: FindingVocabulary
) -> None:
    for name in ("again.dcm", "copy.dcm"):
        (folder / name).unlink()
    splits = {**dict.fromkeys(range(9), "test"), 8: "train", 7: "val"}
    (folder / "8.dcm").rename(folder.parent / "8.dcm")
    everyone = marked(folder, findings, splits)
    everyone.read = lambda root, findings: [  # the only training film lies elsewhere
        Film(p, p.stem, p.stem, p.stem, np.zeros((0, 4), np.float32), (), 64, 80, splits[int(p.stem)])
        for p in [*sorted(root.glob("*.dcm")), root.parent / "8.dcm"]
    ]
    with pytest.raises(ValueError, match="no film is left"):
        unmarked(folder, marked=everyone)


def test_the_marked_films_are_decoded_as_the_others_are(folder: Path, findings: FindingVocabulary) -> None:
    data = unmarked(folder, marked=marked(folder, findings, {0: "test", 1: "val", 2: "train", 3: "train"}))
    image, target = data.probed("train")[0]
    assert image.shape == (1, 64, 51)
    assert target["boxes"].shape == (0, 4)
    assert data.marked is not None
    assert data.marked.cache is data.cache


def test_settings_that_cannot_show_a_collapse_are_refused(folder: Path) -> None:
    for settings, message in (({"val_fraction": 0.0}, "above 0"), ({"batch_size": 1}, "at least 2")):
        with pytest.raises(ValueError, match=message):
            UnmarkedDataModule(folder, Intensity([FullRange()]), Views(), size=64, **settings)
