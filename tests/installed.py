"""The wheel, and an environment with it alone, away from the clone.

The packages that the project needs are not installed again (7 GB): a ``.pth`` file lends those of this environment,
behind the wheel's own.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from venv import EnvBuilder

from scripts import ROOT


def run(*words: str | Path, cwd: Path, rc: int = 0) -> str:
    """Return what a command prints that has to end with this exit code, and that does not see this clone."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        words, cwd=cwd, env=plain | {"OMP_NUM_THREADS": "2", "COLUMNS": "200"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == rc, done.stdout
    return done.stdout


def build(folder: Path) -> None:
    """Write the source distribution into ``folder``, and the wheel that is made of it."""
    folder.mkdir()
    log = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert "Warning" not in log


def install(wheel: Path, folder: Path) -> None:
    """Make ``folder`` an environment with the wheel, and nothing else of its own."""
    EnvBuilder(with_pip=False, symlinks=True).create(folder)
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    lent = [path for path in sys.path if path.endswith("-packages")]
    (purelib / "lent.pth").write_text("\n".join(lent))
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--no-index")
    run(*pip, "--no-deps", "--ignore-installed", wheel, cwd=folder)
    satisfied = run(*pip, "--dry-run", f"{wheel}[dicom,joblib]", cwd=folder)  # the extras resolve with the wheel
    assert "highdicom" in satisfied
