"""An open DICOM door, the work on a queue, the garbage that its library leaves, and keys of TLS."""

import gc
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cxr.findings import FindingVocabulary

if TYPE_CHECKING:
    from cxr.serve.work import Work
    from dicom_door import Door


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of our own, one of a peer, and one that nobody knows."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, which makes the keys")
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "stranger"):
        words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        words += ["-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def others_are_not_looked_at() -> Iterator[None]:
    """So that to collect what a test leaves takes no second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def no_socket_is_left() -> Iterator[None]:
    """pynetdicom leaves the socket of a call that failed to the garbage collection, which warns of it."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def frequent_looks() -> Iterator[None]:
    """At connections that stand still."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cxr.serve.dicom_server._LOOK", 0.02)
        yield


@pytest.fixture(scope="module")
def shared_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Door"]:
    from dicom_door import opened  # of the extra "serve"

    with opened(tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.fixture
def door(shared_door: "Door") -> "Door":
    """A door that is open for all tests of a file."""
    shared_door.before = dict(shared_door.counters.refusals())
    return shared_door


@pytest.fixture
def work(tmp_path: Path, vocabulary: FindingVocabulary, monkeypatch: pytest.MonkeyPatch) -> "Work":
    """The work on an empty queue, by a small detector that has learnt nothing, which looks often for what has come."""
    from worked_films import small_work  # of the extra "serve"

    monkeypatch.setattr("cxr.serve.work._LOOK", 0.01)
    return small_work(tmp_path, vocabulary)
