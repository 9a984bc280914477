"""kill -9 at random moments of each command: typed again, it ends as if nothing had happened."""

from dataclasses import asdict
from pathlib import Path

import pytest

from soak.kills import Verb, kill_again_and_again
from soak.sizes import KILLS, SECONDS, chance_of, tell

pytestmark = pytest.mark.soak

CKPT = "ckpt=run/checkpoints/best.ckpt"
TRAINING = ("experiment=smoke", "trainer.precision=32-true", "callbacks.page.films=2")
VERBS = {
    "train": Verb("train.py", (*TRAINING, "trainer.max_epochs=3")),
    "sweep": Verb(
        "train.py",
        ("-m", "optimizer.lr=0.001,0.002", "trainer.max_epochs=2", "+trainer.limit_train_batches=2", *TRAINING),
        named="name={}",
        left="outputs/sweeps/{}",
    ),
    "predict": Verb("predict.py", (CKPT, "images=data", "pictures=true", "dicom=true", "batch=2", "workers=2")),
    "explain": Verb("explain.py", (CKPT, "films=4", "threshold=0.1", "sanity_films=1", "cam=[box,eigencam]")),
    "evaluate": Verb("evaluate.py", (CKPT, "samples=50")),
}


@pytest.mark.parametrize("name", VERBS)
def test_a_run_that_was_killed_ends_as_one_that_was_not(place: Path, name: str) -> None:
    outcome = kill_again_and_again(VERBS[name], place, KILLS, SECONDS, chance_of(name), name)
    tell(f"kill -9 of {name}", **asdict(outcome))
    assert not outcome.faults, "\n".join(outcome.faults)
    assert outcome.kills
