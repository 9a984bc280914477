"""``ckpt=a.ckpt,b.ckpt`` as Hydra reads it: two checkpoints, not a sweep."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from cxr.command_line import checkpoints_as_list


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("ckpt=a.ckpt", "a.ckpt"),
        ("ckpt=a.ckpt,b.ckpt", ["a.ckpt", "b.ckpt"]),
        ("ckpt=[a.ckpt,b.ckpt]", ["a.ckpt", "b.ckpt"]),
        ("ckpt=sweeps/lr=1,epochs=2/best.ckpt,b.ckpt", ["sweeps/lr=1,epochs=2/best.ckpt", "b.ckpt"]),
        ("ckpt=of's (2),x/best.ckpt,b.ckpt", ["of's (2),x/best.ckpt", "b.ckpt"]),
        ("split=val", "val"),
    ],
)
def test_a_comma_after_a_checkpoint_parts_two(typed: str, read: str | list[str]) -> None:
    _, word = checkpoints_as_list(["evaluate.py", typed])
    assert OverridesParser.create().parse_override(word).value() == read


def test_a_file_whose_name_holds_commas_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a=1.ckpt,b=2.ckpt"
    path.touch()
    (word,) = checkpoints_as_list([f"ckpt={path}"])
    assert OverridesParser.create().parse_override(word).value() == str(path)


def test_a_sweep_that_is_asked_for_stays_one() -> None:
    assert checkpoints_as_list(["evaluate.py", "-m", "ckpt=a.ckpt,b.ckpt"])[-1] == "ckpt=a.ckpt,b.ckpt"
