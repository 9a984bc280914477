"""Films that nobody marked beside marked ones: which may be learnt from, and how they stand in the batches."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cxr.data.dataset import EpochSampler
from cxr.data.film import Film
from cxr.data.film_data import FilmDataModule
from cxr.findings import FindingVocabulary
from cxr.read.cache import FilmCache
from cxr.read.dicom import pseudonym
from cxr.read.intensity import FullRange, Intensity


def test_every_batch_holds_marked_and_unmarked_films_in_every_process() -> None:
    apart = [False] * 20 + [True] * 60  # of these each comes half of the time
    repeats = [1.0] * 20 + [0.5] * 60
    shown: Counter[int] = Counter()
    for rank in (0, 1):
        sampler = EpochSampler(80, 1, rank, 2, repeats, apart)
        for epoch in range(2):
            sampler.set_epoch(epoch)
            order = [index for _, index in sampler]
            assert len(order) == len(sampler) == 25  # 10 marked and 15 unmarked ones for each process
            batches = [order[i : i + 5] for i in range(0, 25, 5)]
            assert {sum(index < 20 for index in batch) for batch in batches} == {2}
            shown.update(order)
    assert all(shown[index] == 2 for index in range(20))  # once an epoch
    assert sum(shown[index] for index in range(20, 80)) == 60


def noise(seed: int) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 4096, (50, 60)).astype(np.uint16)


@pytest.fixture
def make(tmp_path: Path, findings: FindingVocabulary, write_film: Callable[..., Path]) -> Callable[..., FilmDataModule]:
    """Twelve marked films of patients m0 to m11, and of unmarked ones two new, one of each marked patient, one copy."""
    marked = {i: write_film(tmp_path / "marked" / f"{i}.dcm", noise(i), f"m{i}") for i in range(12)}
    for i in range(12):
        write_film(tmp_path / "folder" / f"again{i}.dcm", noise(100 + i), f"m{i}")
    for i in range(2):
        write_film(tmp_path / "folder" / f"new{i}.dcm", noise(200 + i), f"n{i}")
    write_film(tmp_path / "folder" / "copy.dcm", noise(3), "somebody")  # a marked film under another name

    def read(root: Path, findings: FindingVocabulary) -> list[Film]:
        boxes = np.array([[5, 5, 20, 20]], np.float32)
        return [
            Film(path, f"{i}", f"s{i}", pseudonym(f"m{i}"), boxes[: i % 2], ("scoliosis",)[: i % 2], 60, 50)
            for i, path in marked.items()
        ]

    def module(**settings: object) -> FilmDataModule:
        given = {"size": 64, "batch_size": 4, "workers": 0, "findings": findings, "cache": tmp_path / "cache"}
        given |= {"intensity": Intensity([FullRange()]), "unmarked": tmp_path / "folder"}
        return FilmDataModule(tmp_path, read, **{**given, **settings})  # type: ignore[arg-type]

    return module


def test_films_of_held_patients_and_copies_of_marked_films_are_left_out(
    make: Callable[..., FilmDataModule], caplog: pytest.LogCaptureFixture
) -> None:
    data = make(val_fraction=0.25, test_fraction=0.25)
    with caplog.at_level(logging.WARNING):
        data.prepare_data()
        data.setup()
    held = {film.patient for split in ("val", "test") for film in data.films[split]}
    assert len(held) == 6
    unmarked = [film for film in data.films["train"] if film.unmarked]
    assert len(unmarked) == 8  # six of training patients and two new
    assert not {film.patient for film in unmarked} & held
    assert not any(film.normal or film.looked_for("scoliosis") for film in unmarked)
    assert (
        "7 of 15 unmarked films are left out: 6 are of patients who validate or test, 1 are marked films" in caplog.text
    )
    assert data.repeats() == [1.0] * 6 + [6 / 8] * 8  # one for each marked film
    _, targets = next(iter(data.train_dataloader()))
    assert [bool(target["labelled"].any()) for target in targets] == [True, False] * 2


def test_a_held_patient_of_whom_the_folder_has_many_films_is_no_placeholder(
    make: Callable[..., FilmDataModule], tmp_path: Path, write_film: Callable[..., Path]
) -> None:
    data = make(val_fraction=0.25, test_fraction=0.25)
    data.prepare_data()
    data.setup()
    held = data.films["test"][0]
    for i in range(20):
        write_film(tmp_path / "folder" / f"many{i}.dcm", noise(300 + i), f"m{held.id}")
    data = make(val_fraction=0.25, test_fraction=0.25)
    data.prepare_data()
    data.setup()
    assert not [film for film in data.films["train"] if film.id.startswith("many")]


def test_marked_films_whose_marks_are_not_used_may_teach(make: Callable[..., FilmDataModule], tmp_path: Path) -> None:
    data = make(val_fraction=0.25, test_fraction=0.25, shots=1, unmarked=tmp_path / "marked")
    data.prepare_data()
    data.setup()
    train = data.films["train"]
    assert len([film for film in train if not film.unmarked]) == 2  # one with the finding, one without
    assert len({film.path for film in train}) == len(train) == 6  # the other training films teach, and no other ones
    assert not any(film.boxes.size or film.labelled for film in train if film.unmarked)
    held = {film.path for split in ("val", "test") for film in data.films[split]}
    assert not {film.path for film in train} & held


def test_unmarked_films_that_fill_a_batch_are_refused(make: Callable[..., FilmDataModule]) -> None:
    with pytest.raises(ValueError, match=r"data.unmarked_share is 4.0, expected above 0 and at most 3"):
        make(unmarked_share=4.0)


def test_a_folder_of_which_nothing_may_be_learnt_is_refused(
    make: Callable[..., FilmDataModule], tmp_path: Path, write_film: Callable[..., Path]
) -> None:
    write_film(tmp_path / "copies" / "copy.dcm", noise(3), "somebody")
    data = make(unmarked=tmp_path / "copies")
    data.prepare_data()
    with pytest.raises(ValueError, match=r"data.unmarked=.*copies: none of its 1 films may be learnt from"):
        data.setup()


def test_a_folder_that_is_gone_says_what_to_type(make: Callable[..., FilmDataModule], tmp_path: Path) -> None:
    data = make(unmarked=tmp_path / "gone")
    data.prepare_data()
    with pytest.raises(ValueError, match=r"gone: there is no such folder; type data.unmarked=FOLDER, or null"):
        data.setup()


def test_the_patient_of_the_file_is_held_back_too(tmp_path: Path, write_film: Callable[..., Path]) -> None:
    """A data set may name its patients otherwise than the files do."""
    from cxr.data.unmarked_films import held_back

    paths = [write_film(tmp_path / f"{i}.dcm", noise(i), f"p{i}") for i in range(2)]
    cache = FilmCache(tmp_path / "cache", Intensity([FullRange()]), 64)
    cache.fill(paths)
    nothing = np.zeros((0, 4), np.float32)
    train, test = (Film(path, str(i), f"s{i}", f"own{i}", nothing, (), 60, 50) for i, path in enumerate(paths))
    held = held_back({"train": [train], "val": [], "test": [test]}, cache)
    assert held.patients == {"own1", pseudonym("p1")}
    assert held.digests == {cache.get(paths[1]).digest}
