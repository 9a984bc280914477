"""End to end: predict.py and explain.py on a folder of damaged and hostile films with one sound film among them."""

import json
import os
import shutil
from pathlib import Path

import pytest

from scripts import ROOT, call

CKPT = "ckpt=run/checkpoints/best.ckpt"

pytestmark = pytest.mark.slow


def done(place: Path, script: str, *words: str) -> str:
    """Run a script, which must end well, and return what it printed."""
    out = call(script, place, *words)
    assert "Traceback" not in out
    return out


@pytest.fixture(scope="module")
def place(place: Path) -> Path:
    """A folder with a detector that has seen phantom films, and "films": the damaged ones, a lost one, a sound one."""
    damaged = Path(os.environ.get("CXR_SHARED", ROOT.parent / "shared")) / "data" / "damaged"
    if not damaged.is_dir():
        pytest.skip(f"no damaged DICOM files at {damaged}: set CXR_SHARED to the folder that holds data/damaged")
    shutil.copytree(damaged, place / "films")
    (place / "films").chmod(0o755)
    shutil.copy(next((place / "data").rglob("*.dcm")), place / "films" / "sound.dcm")
    (place / "films" / "lost.dcm").symlink_to(place / "nowhere")
    return place


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
