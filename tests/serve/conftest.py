"""Keys of TLS, made by the tests."""

import shutil
import subprocess
from pathlib import Path

import pytest


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
