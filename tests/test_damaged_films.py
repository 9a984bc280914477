"""End to end: predict.py and explain.py on a folder of damaged and hostile films with one sound film among them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CKPT = "ckpt=run/checkpoints/best.ckpt"

pytestmark = pytest.mark.slow


def done(place: Path, script: str, *words: str) -> str:
    """Run a script, which must end well, and return what it printed."""
    ended = subprocess.run(
        [sys.executable, str(ROOT / script), *words],
        cwd=place, env={**os.environ, "OMP_NUM_THREADS": "2"}, timeout=600, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert "Traceback" not in ended.stdout
    return ended.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a detector that has seen phantom films, and "films": the damaged ones, a lost one, a sound one."""
    damaged = Path(os.environ.get("CXR_SHARED", ROOT.parent / "shared")) / "data" / "damaged"
    if not damaged.is_dir():
        pytest.skip(f"no damaged DICOM files at {damaged}: set CXR_SHARED to the folder that holds data/damaged")
    folder = tmp_path_factory.mktemp("place")
    done(folder, "train.py", "experiment=smoke", "trainer.max_epochs=1", "hydra.run.dir=run")
    shutil.copytree(damaged, folder / "films")
    (folder / "films").chmod(0o755)
    shutil.copy(next((folder / "data").rglob("*.dcm")), folder / "films" / "sound.dcm")
    (folder / "films" / "lost.dcm").symlink_to(folder / "nowhere")
    return folder


def refused(place: Path) -> list[str]:
    return [path.name for path in (place / "films").glob("*.dcm") if path.name != "sound.dcm"]


def test_predict_names_and_counts_each_and_predicts_the_sound_film(place: Path) -> None:
    out = done(place, "predict.py", CKPT, "images=films", "hydra.run.dir=predicted")
    result = json.loads((place / "predicted/result.json").read_text(encoding="utf-8"))
    assert (result["films"], result["failed"]) == (1, len(refused(place)))
    assert [name for name in refused(place) if f"films/{name}: " not in out] == []


def test_explain_names_each_and_explains_the_sound_film(place: Path) -> None:
    words = (CKPT, "images=films", "cam=box", "sanity_films=0", "threshold=0.05", "hydra.run.dir=explained")
    out = done(place, "explain.py", *words)
    result = json.loads((place / "explained/result.json").read_text(encoding="utf-8"))
    assert (result["films"], len(result["unreadable"])) == (1, len(refused(place)))
    assert [name for name in refused(place) if name not in out] == []
    assert "None" not in out
