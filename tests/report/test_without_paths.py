"""Reports without the paths of films, which may name a patient."""

from pathlib import Path

import pytest

from cxr.read.radiograph import pseudonym
from cxr.report.without_paths import (
    command_without_paths,
    folder_pseudonym,
    overrides_without_paths,
    settings_without_paths,
    text_without_paths,
    without_path,
)

PATH = Path("/data/Lin Yu-Ting/Lin Yu-Ting 1.dcm")


def test_an_error_says_what_is_wrong_without_the_path() -> None:
    assert without_path(f"{PATH}: is empty", PATH, "film 3") == "film 3: is empty"
    assert without_path(ValueError(f"{PATH.name} is no film"), PATH, "film 3") == "film 3 is no film"


def test_a_folder_has_the_pseudonym_of_its_name_wherever_it_stands() -> None:
    name = pseudonym("Lin Yu-Ting")
    assert folder_pseudonym("/data/Lin Yu-Ting") == folder_pseudonym("ward/Lin Yu-Ting/") == name


def test_what_was_typed_is_shown_without_folders_of_films() -> None:
    typed = ["ckpt=run/best.ckpt", "images=/data/Lin Yu-Ting", "data.root='/data/Lin Yu-Ting'", "data=course", "seed=1"]
    name = pseudonym("Lin Yu-Ting")
    assert overrides_without_paths(typed) == [
        "ckpt=run/best.ckpt", f"images={name}", f"data.root={name}", "data=course", "seed=1",
    ]  # fmt: skip
    assert overrides_without_paths(["model.weights='/srv/Lin Yu-Ting'"]) == [f"model.weights='{name}'"]


def test_a_sentence_is_shown_without_absolute_paths() -> None:
    name = pseudonym("Lin Yu-Ting")
    assert text_without_paths("/data/Lin Yu-Ting: there is no such folder; type data.root=FOLDER") == (
        f"{name}: there is no such folder; type data.root=FOLDER"
    )
    below = Path.cwd() / "outputs" / "demo" / "best.ckpt"
    assert text_without_paths(f"{below}, 0123") == "outputs/demo/best.ckpt, 0123"
    assert text_without_paths("[/srv/Lin Yu-Ting,1/2 of 3 films a/b]") == f"[{name},1/2 of 3 films a/b]"


def test_a_config_is_shown_without_folders_of_films_and_absolute_paths() -> None:
    name = pseudonym("Lin Yu-Ting")
    reader = {"_target_": "cxr.data.sources.course.read_course", "root": "ward/Lin Yu-Ting"}
    config = {
        "data": {"unmarked": "ward/Lin Yu-Ting", "root": "/data/Lin Yu-Ting", "size": 256, "read": [reader]},
        "weights": "/srv/Lin Yu-Ting",
        "root": None,
    }
    assert settings_without_paths(config) == {
        "data": {"unmarked": name, "root": name, "size": 256, "read": [{**reader, "root": name}]},
        "weights": name, "root": None,
    }  # fmt: skip


def test_a_command_names_the_run_as_such_and_no_folder_of_films_and_no_absolute_path() -> None:
    home, name = Path("/home/lin/outputs/demo/1"), pseudonym("Lin Yu-Ting")
    typed = [
        "python", "evaluate.py", "ckpt=/home/lin/outputs/demo/1/checkpoints/best.ckpt", "data=course",
        "data.root=/data/Lin Yu-Ting", "model.weights=/srv/eda/r50.pt", "ckpt=[a.ckpt,/srv/eda/b.ckpt]", "seed=1",
    ]  # fmt: skip
    line = command_without_paths(typed, home)
    weights, other = pseudonym("r50.pt"), pseudonym("b.ckpt")
    assert line == (
        f"python evaluate.py ckpt=RUN/checkpoints/best.ckpt data=course data.root={name} model.weights={weights}"
        f" 'ckpt=[a.ckpt,{other}]' seed=1"
    )


def test_a_run_that_was_typed_relative_is_the_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "outputs" / "sweeps" / "folds5"
    typed = ["ckpt=outputs/sweeps/folds5", "+other=outputs/sweeps/folds50", "hydra.run.dir=here"]
    assert command_without_paths(typed, home) == "ckpt=RUN +other=outputs/sweeps/folds50"
