"""The commands that have a bad day, as small as they come."""

from soak.kills import Verb

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
