"""What libraries say to their programmers does not reach the user; what this program says does."""

import logging
import warnings

import pytest

from cxr.config import chatter
from cxr.config.chatter import silence_libraries

SEEN = (
    ("`isinstance(treespec, LeafSpec)` is deprecated, use …", FutureWarning),
    ("The 'train_dataloader' does not have many workers which may be a bottleneck. Consider …", UserWarning),
    ("The number of training batches (5) is smaller than the logging interval …", UserWarning),
    ("Checkpoint directory /runs/x/checkpoints exists and is not empty.", UserWarning),
    ("roi_align_backward_kernel does not have a deterministic implementation, but you set …", UserWarning),
)  # fmt: skip


@pytest.mark.parametrize(("message", "category"), SEEN)
def test_warnings_of_libraries_are_left_out(message: str, category: type[Warning]) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        silence_libraries()
        warnings.warn(message, category, stacklevel=1)
        assert not shown
        warnings.warn("the learning rate is 0", UserWarning, stacklevel=1)
        assert [str(warning.message) for warning in shown] == ["the learning rate is 0"]


def test_what_quotes_a_header_is_left_out_whatever_it_says() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        silence_libraries()
        for module in ("pydicom.valuerep", "highdicom.base", "pydicom_of_ours"):
            warnings.warn_explicit(f"{module} finds Lin^Yu-Ting odd", UserWarning, f"{module}.py", 1, module)
        assert [str(warning.message) for warning in shown] == ["pydicom_of_ours finds Lin^Yu-Ting odd"]


def test_lines_of_libraries_are_left_out_and_ours_are_not(caplog: pytest.LogCaptureFixture) -> None:
    names = ("matplotlib.font_manager", "faster_coco_eval.core", "lightning.pytorch.tuner", "highdicom.base")
    before = {name: logging.getLogger(name).level for name in chatter._LOGGERS}
    caplog.set_level(logging.INFO)
    try:
        silence_libraries()
        for name in names:
            logging.getLogger(name).info("generated new fontManager")
        logging.getLogger("lightning.pytorch.x").warning("a warning stays")
        logging.getLogger("cxr.data.datamodule").info("42 films")
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
    assert caplog.messages == ["a warning stays", "42 films"]
