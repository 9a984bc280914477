"""Arguments are read from source without importing it."""

import subprocess
import sys

import pytest

from cxr.config.signatures import signature


def test_a_class_reexported_by_its_package_is_found_and_nothing_is_imported() -> None:
    code = (
        "import sys; from cxr.config.signatures import signature; p = signature('torch.optim.SGD');"
        "assert {'params', 'lr', 'momentum'} <= set(p), p; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lightnings_trainer_and_callbacks_are_found() -> None:
    trainer = signature("lightning.pytorch.Trainer")
    assert trainer is not None
    assert "max_epochs" in trainer
    checkpoint = signature("lightning.pytorch.callbacks.ModelCheckpoint")
    assert checkpoint is not None
    assert "save_top_k" in checkpoint


def test_a_callable_that_takes_anything_is_not_judged() -> None:
    assert signature("lightning.pytorch.callbacks.WeightAveraging") is None


def test_the_fields_of_a_dataclass_are_its_arguments() -> None:
    fields = signature("cxr.findings.Finding")
    assert fields is not None
    assert fields["name"].required
    assert not fields["chinese"].required


@pytest.mark.parametrize("target", ["torch.optim.SDG", "torch.optimm.SGD", "cxr.findings.Vocabulary", "print2"])
def test_what_does_not_exist_is_a_lookup_error(target: str) -> None:
    with pytest.raises(LookupError, match=r"there is no"):
        signature(target)


def test_scalars_are_held_against_simple_annotations() -> None:
    parameters = signature("cxr.report.callbacks.TestPage")
    assert parameters is not None
    films, folder, threshold = parameters["films"], parameters["folder"], parameters["threshold"]
    assert films.accepts(3)
    assert not films.accepts("three")
    assert not films.accepts(True)
    assert not folder.accepts(3)
    assert threshold.accepts(1)  # an int where a float is wanted
    trainer, sgd = signature("lightning.pytorch.Trainer"), signature("torch.optim.SGD")
    assert trainer is not None
    assert sgd is not None
    assert trainer["max_epochs"].accepts(None)  # Optional[int]
    assert not trainer["max_epochs"].accepts("ten")
    assert sgd["lr"].accepts(0.1)  # float | Tensor
    assert not sgd["lr"].accepts("fast")


def test_a_word_is_held_against_the_words_that_are_allowed() -> None:
    pyramid, resnet = signature("cxr.detect.backbones.FeaturePyramid"), signature("cxr.detect.backbones.resnet50")
    assert pyramid is not None
    assert resnet is not None
    coarser, version = pyramid["coarser"], resnet["version"]  # Literal["pool", "convolutions"] | None, Literal[1, 2]
    assert [coarser.accepts(value) for value in ("pool", None, "pools", 1)] == [True, True, False, False]
    assert [version.accepts(value) for value in (2, 3, "2", True)] == [True, False, False, False]
    assert coarser.expected == "'pool' | 'convolutions' | None"


def test_an_inherited_signature_is_that_of_the_base() -> None:
    code = (
        "import sys; from cxr.config.signatures import signature;"
        "p = signature('cxr.learn.checkpoint_files.AtomicCheckpointIO');"
        "assert p == {}, p; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
