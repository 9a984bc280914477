"""Reports without the paths of films, which may name a patient."""

from pathlib import Path

from cxr.read.radiograph import pseudonym
from cxr.report.without_paths import folder_pseudonym, overrides_without_paths, without_path

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
