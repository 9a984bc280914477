"""What Hydra would take for a sweep or for files of a group: two checkpoints, names of findings."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from cxr.config.command_line import as_hydra_reads, with_checkpoints_listed, with_paths_quoted


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("ckpt=a.ckpt", "a.ckpt"),
        ("ckpt=a.ckpt,b.ckpt", ["a.ckpt", "b.ckpt"]),
        ("ckpt=[a.ckpt,b.ckpt]", ["a.ckpt", "b.ckpt"]),
        ("ckpt=sweeps/lr=1,epochs=2/best.ckpt,b.ckpt", ["sweeps/lr=1,epochs=2/best.ckpt", "b.ckpt"]),
        ("ckpt=of's (2),x/best.ckpt,b.ckpt", ["of's (2),x/best.ckpt", "b.ckpt"]),
        ("split=val", "val"),
        ("findings=[scoliosis, 心臟肥大]", {"only": ["scoliosis", "心臟肥大"]}),
        ("findings={Cardiomegaly: cardiac_hypertrophy}", {"Cardiomegaly": "cardiac_hypertrophy"}),
    ],
)
def test_words_mean_what_they_say(typed: str, read: object) -> None:
    _, word = as_hydra_reads(["evaluate.py", typed])
    assert OverridesParser.create().parse_override(word).value() == read


def test_a_file_whose_name_holds_commas_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a=1.ckpt,b=2.ckpt"
    path.touch()
    (word,) = as_hydra_reads([f"ckpt={path}"])
    assert OverridesParser.create().parse_override(word).value() == str(path)


def test_a_sweep_that_is_asked_for_stays_one() -> None:
    assert as_hydra_reads(["evaluate.py", "-m", "ckpt=a.ckpt,b.ckpt"])[-1] == "ckpt=a.ckpt,b.ckpt"


def test_a_sweep_and_a_checkpoint_are_cut_where_both_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "b,c").mkdir()
    assert with_checkpoints_listed(["ckpt=sweep,b,c"]) == ["ckpt=['sweep','b,c']"]
    assert with_checkpoints_listed(["ckpt=sweep,nowhere"]) == ["ckpt='sweep,nowhere'"]
    assert with_checkpoints_listed(["ckpt=a.ckpt,sweep"]) == ["ckpt=['a.ckpt','sweep']"]
    assert with_checkpoints_listed(["ckpt=sweep"]) == ["ckpt=sweep"]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("data.root=/影像/訓練", "/影像/訓練"),
        ("images=films/10 (2)d.dcm", "films/10 (2)d.dcm"),
        ("ckpt=Lin's run/best.ckpt", "Lin's run/best.ckpt"),
        ("data.root=/films", "/films"),
        ("optimizer.lr=0.005", 0.005),
        ("allow=[PACS@127.0.0.1:4242]", ["PACS@127.0.0.1:4242"]),
        ("threshold={risk: 0.05}", {"risk": 0.05}),
        ("name='a b'", "a b"),
    ],
)
def test_a_path_may_have_any_letter(typed: str, read: object) -> None:
    (word,) = with_paths_quoted([typed])
    assert OverridesParser.create().parse_override(word).value() == read


def test_each_path_of_a_sweep_is_quoted_by_itself() -> None:
    assert with_paths_quoted(["-m", "data.root=/影,/b"])[1] == "data.root='/影','/b'"
    assert with_paths_quoted(["-m", "optimizer.lr=choice(1,2)"])[1] == "optimizer.lr=choice(1,2)"


def test_a_path_of_our_pages_that_was_typed_as_it_stands_is_explained() -> None:
    with pytest.raises(ValueError, match="stands for a part of the path that only you know"):
        with_paths_quoted(["ckpt=outputs/demo/…/best.ckpt"])
