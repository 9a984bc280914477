"""Every script says in words, and with exit code 2, what is wrong with the checkpoint that it is given."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts import call


@pytest.mark.parametrize("script", ["predict", "evaluate", "explain"])
def test_a_run_folder_given_as_a_checkpoint_is_told_what_to_type(tmp_path: Path, script: str) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "best.ckpt").touch()
    images = ["images=."] if script == "predict" else []
    message = call(f"{script}.py", tmp_path, "ckpt=run", *images, code=2)
    assert "ckpt=run: a folder, expected a checkpoint of train.py: type ckpt=run/checkpoints/best.ckpt" in message


@pytest.mark.slow
@pytest.mark.parametrize("script", ["predict", "evaluate", "explain"])
def test_every_script_says_what_is_wrong_with_a_checkpoint(
    tmp_path: Path, content: Any, draw_phantoms: Callable[[Path], None], script: str
) -> None:
    draw_phantoms(tmp_path / "phantoms")
    images = ["images=phantoms"] if script == "predict" else []
    spoilt, small = copy.deepcopy(content), content
    spoilt["state_dict"]["detector.backbone.body.layer1.0.0.weight"][0] = math.nan
    small["cxr"]["config"]["data"]["size"] = -5
    for hostile, message in (
        (spoilt, "damaged, it can say nothing of a film: "),
        (small, "data.size is -5, expected 32 to 8192 pixels"),
    ):
        torch.save(hostile, tmp_path / "hostile.ckpt")
        output = call(f"{script}.py", tmp_path, "ckpt=hostile.ckpt", *images, code=2)
        assert message in output
        assert "Traceback" not in output
    assert not list(tmp_path.rglob("films.csv"))
