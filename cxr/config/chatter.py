"""What libraries say on the terminal that tells a user nothing: left out, each by name and for a reason.

Our own warnings, and everything of a library that is not listed here, are shown.
"""

import logging
import warnings

_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (  # beginning of the message, as a regular expression
    # lightning 2.6 calls a name of torch.utils._pytree that torch 2.10 deprecated: nothing a user can change
    (r"`?isinstance\(treespec, LeafSpec\)", FutureWarning),
    # data.workers follows from the machine: on a CPU the cores compute, and batches come from a cache in 2 ms a film
    (r"The '\w+' does not have many workers", UserWarning),
    # a run of few films logs its curves an epoch at a time, which is enough
    (r"The number of training batches \(\d+\) is smaller than the logging interval", UserWarning),
    # a run that is resumed finds its own checkpoints, as it should
    (r"Checkpoint directory .* exists and is not empty", UserWarning),
    # figures are computed over the films of all processes before they are logged (DetectionMetrics)
    (r"It is recommended to use `self.log\(.*sync_dist=True\)`", UserWarning),
    # RoIAlign and a few others have no deterministic form on a GPU; conf/trainer/default.yaml says so
    (r".* does not have a deterministic implementation", UserWarning),
    # of the Python-level schedulers of torch, at the first step of a training that is resumed
    (r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`", UserWarning),
)
_LOGGERS = {  # name → from which level on it is heard
    "lightning.pytorch": logging.WARNING,  # which devices there are and tips: the lines of an epoch say it shorter
    "lightning.fabric": logging.WARNING,
    "faster_coco_eval": logging.WARNING,  # some 30 lines of progress each time that average precision is computed
    "matplotlib": logging.ERROR,  # that it lists the fonts of this machine, once; ours is beside the program
    "highdicom": logging.ERROR,  # every attribute that it copies, with the UID of the film it copies from
}


def silence_libraries() -> None:
    """Leave out what is listed above, in this process. Nothing is imported for it."""
    for message, category in _WARNINGS:
        warnings.filterwarnings("ignore", message, category)
    for name, level in _LOGGERS.items():
        logging.getLogger(name).setLevel(level)
