"""The wheel as a user has it: in an environment of its own and an empty folder, away from the clone."""

import json
import re
import shutil
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from installed import run as call
from scripts import ROOT

MINE = "# Mine.\ndefaults:\n  - fasterrcnn_tiny\n_target_: my_package.detectors.mine\n"
DETECTOR = """
from cxr.detect.faster_rcnn import faster_rcnn

def mine(num_classes, **settings):
    print("a detector of my own", flush=True)
    return faster_rcnn(num_classes, **settings)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder to stand in."""
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(scope="module")
def run(environment: Path, place: Path) -> Path:
    """A run of the installed program."""
    call(environment / "cxr", "train", "experiment=smoke", "hydra.run.dir=run", cwd=place)
    return place / "run"


def tracked(*folders: str) -> set[str]:
    """The files of the repository in ``folders``, as git has them."""
    return set(call("git", "ls-files", "-co", "--exclude-standard", *folders, cwd=ROOT).split())


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs the git repository")
def test_the_wheel_and_the_source_distribution_hold_every_file(built: Path, wheel: Path) -> None:
    files = {name for name in tracked("cxr", "conf", "hydra_plugins") if (ROOT / name).exists()}
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == {re.sub("^conf/", "cxr/conf/", name) for name in files}
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files <= names
    assert not [name for name in names if name.startswith("tests")]


def test_every_extra_installs_with_the_wheel(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(archive.read(name).decode())
    assert set(metadata.get_all("Provides-Extra") or ()) == set(project["optional-dependencies"])
    required = metadata.get_all("Requires-Dist") or []
    for extra, needs in project["optional-dependencies"].items():
        assert sum(f'extra == "{extra}"' in line for line in required) == len(needs), extra
    assert sum("extra ==" not in line for line in required) == len(project["dependencies"])


def test_it_is_the_wheel_that_runs(environment: Path, place: Path) -> None:
    where = "import cxr, cxr.installation as i, hydra_plugins.cxr_sweeper as h; print(cxr.__file__, i.CONF, h.__file__)"
    for path in call(environment / "python", "-c", where, cwd=place).split():
        assert Path(path).is_relative_to(environment.parent), path


def test_training_in_an_empty_folder_leaves_a_run(run: Path, place: Path) -> None:
    assert json.loads((run / "result.json").read_text(encoding="utf-8"))["status"] == "completed"
    (session,) = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    assert session["command"] == ["cxr", "train", "experiment=smoke", "hydra.run.dir=run"]
    assert session["git"] is None
    assert "font/woff" in (run / "index.html").read_text(encoding="utf-8")
    assert {path.name for path in place.iterdir()} == {".cache", "data", "run"}  # all below the current folder


def test_its_checkpoint_predicts_explains_and_is_evaluated(run: Path, environment: Path, place: Path) -> None:
    ckpt, films = f"ckpt={run / 'checkpoints' / 'best.ckpt'}", f"images={place / 'data' / 'phantom_smoke' / 'test'}"
    call(environment / "cxr", "predict", ckpt, films, "dicom=true", "hydra.run.dir=predicted", cwd=place)
    assert len(json.loads((place / "predicted" / "images.json").read_text(encoding="utf-8"))["images"]) == 8
    call(
        environment / "cxr",
        "explain",
        ckpt,
        "films=1",
        "cam=box",
        "sanity_films=1",
        "language=zh",
        "hydra.run.dir=explained",
        cwd=place,
    )
    assert "font/woff" in (place / "explained" / "index.html").read_text(encoding="utf-8")
    words = ("samples=10", "worst=1", "language=zh", "hydra.run.dir=evaluated")
    call(environment / "cxr", "evaluate", ckpt, *words, cwd=place)
    assert "font/woff" in (place / "evaluated" / "index.html").read_text(encoding="utf-8")


def test_the_tools_run(run: Path, environment: Path, place: Path) -> None:
    films = sorted((place / "data" / "phantom_smoke" / "test").rglob("*.dcm"))
    audited = call(
        environment / "cxr", "audit", "data/phantom_smoke", "--findings", "conf/findings/eda.yaml", cwd=place
    )
    assert "No leaks" in audited
    call(environment / "cxr", "show", films[0], "film.png", cwd=place)
    call(environment / "cxr", "convert", films[0].parent, "pictures", "--size", "64", cwd=place)
    assert len(list((place / "pictures").rglob("*.png"))) == len(list(films[0].parent.glob("*.dcm")))


def test_the_doctor_finds_all_well(environment: Path, place: Path) -> None:
    text = call(environment / "cxr", "doctor", cwd=place)
    assert "installed from a wheel" in text
    assert "All that is needed works" in text


def test_jobs_of_a_sweep_know_the_users_own_yaml_and_code(run: Path, environment: Path, place: Path) -> None:
    """Each launcher hands the job to another process, which finds the wheel, the YAML and the package again."""
    (place / "my_conf" / "model").mkdir(parents=True)
    (place / "my_conf" / "model" / "mine.yaml").write_text(MINE)
    (place / "my_package").mkdir()
    (place / "my_package" / "__init__.py").touch()
    (place / "my_package" / "detectors.py").write_text(DETECTOR)
    mine = ("--config-dir", "my_conf", "model=mine", "experiment=smoke")
    for launcher in ("cores", "local"):
        words = (*mine, f"hydra/launcher={launcher}", f"name={launcher}", "seed=0")
        output = call(environment / "cxr", "train", "-m", *words, cwd=place)
        assert "1 jobs, 1 completed" in output
        assert f"cxr train --config-dir {place / 'my_conf'} model=mine experiment=smoke" in output
        (job,) = (place / "outputs" / "sweeps" / launcher).glob("model=mine*")
        config = json.loads((job / "command.json").read_text(encoding="utf-8"))["config"]
        assert config["model"]["_target_"] == "my_package.detectors.mine"
    assert "the best run again:" in call(environment / "cxr", "sweep", "outputs/sweeps/cores", cwd=place)
