"""Films are decoded in processes, and a film that kills its process is named."""

import os

import pytest

from cxr.read.workers import outcomes

TASKS = """
import os
from cxr.read.radiograph import ReadError

def read(path):
    if "kill" in path.name:
        os._exit(9)
    if "bad" in path.name:
        raise ReadError(f"{path}: bad")
    if "bug" in path.name:
        raise KeyError("bug")
    with path.open("a") as file:
        file.write(str(os.getpid()))
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    (tmp_path / "film_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    import film_tasks

    return film_tasks.read


def films(tmp_path, special):
    return [tmp_path / f"{n}{special.get(n, '')}.film" for n in range(14)]


def test_a_film_that_kills_its_process_is_named_and_the_others_are_read(tmp_path, read):
    paths = films(tmp_path, {3: "kill", 7: "bad"})
    results = dict(outcomes(read, paths, workers=2, progress=False))
    assert set(results) == set(paths)
    assert {p for p, error in results.items() if error} == {paths[3], paths[7]}
    assert str(results[paths[3]]).startswith(f"{paths[3]}: reading it kills the process")
    assert str(results[paths[7]]) == f"{paths[7]}: bad"
    pids = {p.read_text() for p in paths if p.exists()}
    assert str(os.getpid()) not in pids


def test_few_films_are_read_in_this_process(tmp_path, read):
    paths = films(tmp_path, {})[:3]
    assert dict(outcomes(read, paths, workers=2, progress=False)) == dict.fromkeys(paths)
    assert {p.read_text() for p in paths} == {str(os.getpid())}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bug_is_raised_with_the_film_in_its_note(tmp_path, read, workers):
    paths = films(tmp_path, {5: "bug"})
    with pytest.raises(KeyError) as caught:
        list(outcomes(read, paths, workers=workers, progress=False))
    assert caught.value.__notes__ == [f"while reading {paths[5]}"]
