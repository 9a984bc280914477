"""The commands that have a bad day, as small as they come."""

from pathlib import Path

from soak.kills import Verb

CKPT = "ckpt=run/checkpoints/best.ckpt"
ONE_STEP = [f"+trainer.limit_{split}_batches=1" for split in ("train", "val", "test")]
TRAINING = ("experiment=smoke", "trainer.precision=32-true", "callbacks.page.films=1", *ONE_STEP)
VERBS = {
    "train": Verb("train.py", (*TRAINING, "trainer.max_epochs=4")),
    "sweep": Verb(
        "train.py",
        ("-m", "optimizer.lr=0.001,0.002", "trainer.max_epochs=2", *TRAINING),
        named="name={}",
        left="outputs/sweeps/{}",
    ),
    # one film at a time: beside another film, the last digit of a score may be another
    "predict": Verb("predict.py", (CKPT, "images=few.txt", "pictures=true", "dicom=true", "batch=1", "workers=2")),
    "explain": Verb("explain.py", (CKPT, "films=2", "threshold=0.1", "sanity_films=1", "cam=[box,eigencam]")),
    "evaluate": Verb("evaluate.py", (CKPT, "samples=20")),
}


def list_few_films(place: Path, films: int = 6) -> None:
    """Write the list of films that predict.py is given."""
    chosen = sorted((place / "data").rglob("*.dcm"))[:films]
    (place / "few.txt").write_text("".join(f"{film}\n" for film in chosen), encoding="utf-8")
