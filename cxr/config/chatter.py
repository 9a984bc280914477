"""Hides messages of libraries that do not help a user. Each is listed by name, with the reason.

Our own warnings, and all messages of libraries that are not listed here, are shown.
"""

import logging
import warnings

_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (  # beginning of the message, as a regular expression
    # lightning 2.6 uses a name of torch.utils._pytree that torch 2.10 deprecated; a user cannot change that
    (r"`?isinstance\(treespec, LeafSpec\)", FutureWarning),
    # The machine decides data.workers: on a CPU all cores compute, and the cache gives a film in 2 ms
    (r"The '\w+' does not have many workers", UserWarning),
    # A run of few films logs its curves once in each epoch, which is enough
    (r"The number of training batches \(\d+\) is smaller than the logging interval", UserWarning),
    # A resumed run finds its own checkpoints, as it should
    (r"Checkpoint directory .* exists and is not empty", UserWarning),
    # DetectionMetrics computes figures over the films of all processes before they are logged
    (r"It is recommended to use `self.log\(.*sync_dist=True\)`", UserWarning),
    # RoIAlign and a few others have no deterministic form on a GPU; conf/trainer/default.yaml says so
    (r".* does not have a deterministic implementation", UserWarning),
    # torch's schedulers warn of this at the first step of a resumed training
    (r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`", UserWarning),
)
# They quote what they find odd in a header, which may be a patient's name. ``cxr.read.silence`` hides that for a while;
# a library that sets the warnings of the process back meanwhile, in another thread, would let it through
_QUOTE_HEADERS = r"pydicom\b|highdicom\b"
_LOGGERS = {  # name → lowest level that is shown
    "lightning.pytorch": logging.WARNING,  # lists devices and gives tips; our lines of each epoch are shorter
    "lightning.fabric": logging.WARNING,
    "faster_coco_eval": logging.WARNING,  # about 30 lines of progress each time average precision is computed
    "matplotlib": logging.ERROR,  # says that it lists the machine's fonts; we use our own
    "highdicom": logging.ERROR,  # names every attribute that it copies, with the UID of the film
}


def silence_libraries() -> None:
    """Hide the listed messages in this process, without importing any of the libraries."""
    for message, category in _WARNINGS:
        warnings.filterwarnings("ignore", message, category)
    warnings.filterwarnings("ignore", module=_QUOTE_HEADERS)
    for name, level in _LOGGERS.items():
        logging.getLogger(name).setLevel(level)
