"""A run's folder: nothing foreign is ever touched, one process holds it, and what cannot be read or written is told.

Jobs that stand in for train.py hold their folder as it does and do what a test puts in their place, without torch.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

import scripts
from cxr.config.errors import ConfigError
from cxr.runs.folder import held
from scripts import ROOT

STAND_IN = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from cxr.config.check import check
from cxr.config.entry import entry
from cxr.files import write_json
from cxr.runs import folder as run_folder
from cxr.config.errors import ConfigError

@entry("train")
def main(cfg):
    check(cfg)
    with run_folder.held(cfg, ("run_dir", "trainer.max_epochs")) as path:
        exec(Path("body.py").read_text())

main()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "job.py").write_text(STAND_IN.format(root=str(ROOT)))
    (tmp_path / "body.py").write_text("(path / 'done.txt').touch()")
    return tmp_path


def call(place: Path, script: str | Path, *words: str, rc: int = 0) -> str:
    out = scripts.call(str(place / script), place, *words, code=rc)
    assert "Traceback" not in out
    return out


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its content, every folder with None."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def foreign_files(folder: Path) -> None:
    """A ward's own folder, whose files bear the names that a run writes."""
    for name in ("ward.log", "train.log", ".hydra/config.yaml", ".hydra/notes.txt", "checkpoints/best.ckpt",
                 "failed.json", "sub/sub/film.dcm", "index.html", ".lock"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"of the ward: {name}")
    (folder / "empty").mkdir()


REFUSED = [
    ("train.py", ["optimizer.leraning_rate=1"], "there is no such setting"),
    ("train.py", ["model=fasterrcn"], "there is no such file"),
    ("train.py", ["optimizer.lr=fast"], "expected float"),
    ("train.py", ["data=course", "data.root=/nowhere"], "there is no such folder"),
    ("train.py", ["name=a/b"], "without slashes"),
    ("train.py", ["experiment=smoke"], "holds files that no run has made"),
    ("train.py", ["monitor=val/nothing", "experiment=smoke"], "holds files that no run has made"),
    ("predict.py", ["ckpt=/nothing", "images=films"], "there is no such file"),
    ("predict.py", ["ckpt=any.ckpt", "images=/nothing"], "there is no such file or folder"),
    ("predict.py", ["ckpt=any.ckpt", "images=films"], "holds files that no run has made"),
    ("evaluate.py", ["ckpt=/nothing"], "there is no such file"),
    ("evaluate.py", ["ckpt=any.ckpt"], "holds files that no run has made"),
    ("explain.py", ["ckpt=/nothing"], "there is no such file"),
    ("explain.py", ["ckpt=any.ckpt", "cam=nothing"], "there is no such file"),
    ("explain.py", ["ckpt=any.ckpt"], "holds files that no run has made"),
]


@pytest.mark.parametrize(("script", "words", "answer"), REFUSED)
def test_a_refusal_leaves_every_file_that_was_there(tmp_path: Path, script: str, words: list[str], answer: str) -> None:
    folder = tmp_path / "logs"
    foreign_files(folder)
    (tmp_path / "films").mkdir()
    (tmp_path / "any.ckpt").write_bytes(b"none")
    before = everything(folder)
    assert answer in call(tmp_path, ROOT / script, *words, f"hydra.run.dir={folder}", rc=2)
    assert everything(folder) == before
    assert not (tmp_path / "outputs").exists()


def test_a_typo_leaves_a_folder_of_logs_and_an_empty_one(tmp_path: Path) -> None:
    for name in ("logs/ward.log", "empty"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "logs/ward.log").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "films").mkdir()
    for folder in ("logs", "empty", "new"):
        call(tmp_path, ROOT / "predict.py", "ckpt=/nothing", "images=films", f"hydra.run.dir={folder}", rc=2)
    assert everything(tmp_path) == {"logs": None, "logs/ward.log": b"x", "empty": None, "films": None}


def test_a_run_leaves_hydras_files_and_its_command(place: Path) -> None:
    call(place, "job.py", "hydra.run.dir=a/run", "seed=3")
    left = everything(place / "a")
    assert {"run/.hydra/config.yaml", "run/.hydra/hydra.yaml", "run/.hydra/overrides.yaml", "run/done.txt"} <= set(left)
    assert left["run/.hydra/overrides.yaml"] == b"- seed=3\n"
    assert b"output_dir: " + str(place / "a/run").encode() in (left["run/.hydra/hydra.yaml"] or b"")
    assert json.loads(left["run/command.json"] or b"")["overrides"] == ["seed=3"]


def test_other_settings_are_refused_and_change_nothing_of_the_run(place: Path) -> None:
    call(place, "job.py", "hydra.run.dir=run", "seed=3")
    (place / "run/ward.log").write_text("of the ward")
    before = everything(place / "run")
    out = call(place, "job.py", "hydra.run.dir=run", "seed=4", rc=2)
    assert "holds a run with other settings" in out
    assert "seed: 3 there, 4 now" in out
    assert everything(place / "run") == before


def test_a_held_folder_is_refused_and_changed_in_nothing(place: Path) -> None:
    (place / "body.py").write_text(
        "Path('begun').touch()\nwhile not Path('go').exists(): time.sleep(0.01)\n(path / 'done.txt').touch()"
    )
    words = [sys.executable, "job.py", "hydra.run.dir=run", "seed=3"]
    first = subprocess.Popen(words, cwd=place)
    deadline = time.monotonic() + 60
    while not (place / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    before = everything(place / "run")
    for seed in (3, 4):
        out = call(place, "job.py", "hydra.run.dir=run", f"seed={seed}", rc=2)
        assert out == f"{place / 'run'}: another process is working in this folder; type another hydra.run.dir\n"
        assert everything(place / "run") == before
    (place / "go").touch()
    assert first.wait(60) == 0
    assert everything(place / "run") == {**before, "done.txt": b""}


def test_of_three_that_begin_at_once_one_ends_well_and_two_are_refused(place: Path) -> None:
    (place / "body.py").write_text("while not Path('go').exists(): time.sleep(0.01)\n(path / 'done.txt').touch()")
    words = [sys.executable, "job.py", "hydra.run.dir=run"]
    runs = [
        subprocess.Popen(words, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    deadline = time.monotonic() + 60
    while sum(run.poll() is None for run in runs) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (place / "go").touch()
    outs = [run.communicate(timeout=60)[0] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 2, 2], outs
    for run, out in zip(runs, outs, strict=True):
        assert ("another process is working in this folder" in out) == (run.returncode == 2)
        assert len(out.splitlines()) <= 1, out
    left = set(everything(place / "run"))
    assert {".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "command.json", "done.txt"} <= left


def test_a_run_that_refuses_itself_takes_back_what_it_made_and_no_more(place: Path) -> None:
    (place / "body.py").write_text("raise ConfigError('no such films')")
    (place / "mine").mkdir()
    for folder in ("a/b/run", "mine"):
        assert call(place, "job.py", f"hydra.run.dir={folder}", rc=2) == "no such films\n"
    assert not (place / "a").exists()
    assert everything(place / "mine") == {}
    # what came into the folder meanwhile is not this call's to judge: then everything stays
    (place / "body.py").write_text("(path / 'films.jsonl').touch()\nraise ConfigError('no such films')")
    call(place, "job.py", "hydra.run.dir=mine", rc=2)
    assert {"films.jsonl", "command.json", ".hydra"} <= set(everything(place / "mine"))


def test_a_run_that_moved_is_the_same_run(place: Path) -> None:
    call(place, "job.py", "hydra.run.dir=run", "seed=3")
    (place / "elsewhere").mkdir()
    shutil.copytree(place / "run", place / "copied")
    (place / "run").rename(place / "elsewhere" / "moved")
    for folder in ("copied", "elsewhere/moved"):
        call(place, "job.py", f"hydra.run.dir={folder}", "seed=3")
        assert "other settings" in call(place, "job.py", f"hydra.run.dir={folder}", "seed=4", rc=2)


def test_the_same_command_begins_anew_in_the_folder_of_one_that_kept_nothing(place: Path) -> None:
    (place / "body.py").write_text("import os\nos.kill(os.getpid(), 9)")
    for _ in range(2):
        call(place, "job.py", "name=early", rc=-9)
    (folder,) = (place / "outputs" / "early").iterdir()
    (place / "body.py").write_text("(path / 'result.json').write_text('{}')")
    call(place, "job.py", "name=early")
    assert [path.name for path in (place / "outputs" / "early").iterdir()] == [folder.name]
    call(place, "job.py", "name=early")  # that one ended
    assert len(list((place / "outputs" / "early").iterdir())) == 2


def test_a_kill_before_the_run_is_accepted_leaves_no_folder(place: Path) -> None:
    script = (place / "job.py").read_text().replace("check(cfg)", "import os; os.kill(os.getpid(), 9)")
    (place / "job.py").write_text(script)
    call(place, "job.py", rc=-9)
    assert not (place / "outputs").exists()


@pytest.mark.parametrize("torn", ["", '{"overrides": ["seed=3"', "[]"])
def test_a_torn_command_is_told_and_blocks_no_other_run_of_the_name(place: Path, torn: str) -> None:
    call(place, "job.py", "hydra.run.dir=outputs/torn/1")
    (place / "outputs/torn/1/command.json").write_text(torn)
    call(place, "job.py", "name=torn")
    assert len(list((place / "outputs/torn").iterdir())) == 2
    out = call(place, "job.py", "hydra.run.dir=outputs/torn/1", rc=2)
    assert "command.json is damaged" in out
    assert "type another hydra.run.dir" in out


def test_a_run_that_fails_leaves_its_reason_and_is_begun_again(place: Path) -> None:
    (place / "body.py").write_text("raise OSError(28, 'No space left on device', str(path / 'films.jsonl'))")
    out = call(place, "job.py", "hydra.run.dir=run", rc=1)
    assert out.startswith(f"{place / 'run' / 'films.jsonl'} could not be written, the disk is full")
    assert "The same command then goes on" in out
    assert json.loads((place / "run/failed.json").read_text())["error"] == "OSError"
    (place / "body.py").write_text("(path / 'done.txt').touch()")
    call(place, "job.py", "hydra.run.dir=run")
    assert not (place / "run/failed.json").exists()


@pytest.mark.parametrize(
    "text",
    [
        "1.dcm: its decoded copy in .cache cannot be read: Input/output error",
        "Caught ReadError in DataLoader worker process 0.\\nOriginal Traceback (most recent call last):\\n  File …\\n"
        "cxr.read.radiograph.ReadError: 1.dcm: its decoded copy in .cache cannot be read: Input/output error\\n",
    ],
    ids=["in this process", "in a worker"],
)
def test_a_film_that_cannot_be_read_ends_a_run_with_one_sentence(place: Path, text: str) -> None:
    (place / "body.py").write_text(f"from cxr.read.radiograph import ReadError\nraise ReadError('{text}')")
    out = call(place, "job.py", "hydra.run.dir=run", rc=1)
    assert out.splitlines()[-1] == "1.dcm: its decoded copy in .cache cannot be read: Input/output error"
    assert json.loads((place / "run/failed.json").read_text())["reason"] == out.splitlines()[-1]


def test_a_library_that_names_no_file_is_told_by_the_runs_folder(place: Path) -> None:
    """TensorBoard's thread meets the full disk first, and hands the error on without a name."""
    body = "import threading\ndef write(): raise OSError(28, 'No space left on device')\n"
    (place / "body.py").write_text(
        f"{body}thread = threading.Thread(target=write)\nthread.start()\nthread.join()\nwrite()"
    )
    out = call(place, "job.py", "hydra.run.dir=run", rc=1)
    assert re.search(r"Thread-\d+ \(write\): a file could not be written, the disk is full", out)
    assert f"{place / 'run'} could not be written, the disk is full" in out


def test_a_disk_too_full_for_the_reason_leaves_no_part_of_it(place: Path) -> None:
    """The writer of whole files plays the full disk: from here on every flush fails."""
    (place / "body.py").write_text(
        "import os\ndef full(number): raise OSError(28, 'No space left on device')\nos.fsync = full\n"
        "write_json(path / 'detections.json', {})"
    )
    out = call(place, "job.py", "hydra.run.dir=run", rc=1)
    assert out.startswith(f"{place / 'run' / 'detections.json'} could not be written, the disk is full")
    assert set(everything(place / "run")) == {
        "command.json", ".lock", ".hydra", ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["hydra.run.dir=file"], "file is a file, expected a folder"),
        (["hydra.run.dir=file/run"], "this folder cannot be made (Not a directory"),
        ([f"hydra.run.dir={'x' * 300}"], "this folder cannot be made (File name too long"),
        ([f"name={'x' * 300}"], "name is 300 letters long"),
        (["name=../../up"], "without slashes"),
        (["name=.."], "expected the name of a folder"),
        (["-m", "seed=1,2", f"name={'x' * 300}"], "name is 300 letters long"),
    ],
)
def test_a_folder_that_cannot_be_made_is_told_in_one_message(place: Path, words: list[str], answer: str) -> None:
    (place / "file").write_text("mine")
    before = everything(place)
    assert answer in call(place, "job.py", *words, rc=2)
    assert everything(place) == before


def test_a_folder_that_cannot_be_written_is_told_in_one_message(place: Path) -> None:
    """A lock that may not be made plays the folder without permission: root, which tests may run as, has it always."""
    script = (place / "job.py").read_text()
    refused = "import filelock\ndef no(*_, **__): raise PermissionError(13, 'Permission denied', 'run/.lock')\n"
    (place / "job.py").write_text(script.replace("main()\n", f"{refused}filelock.FileLock.acquire = no\nmain()\n"))
    out = call(place, "job.py", "hydra.run.dir=run", rc=2)
    assert out == f"{place / 'run'}: this folder cannot be written (Permission denied); type another hydra.run.dir\n"
    assert not (place / "run").exists()


def test_a_sweep_is_refused_in_a_folder_with_files_of_others(place: Path) -> None:
    foreign_files(place / "logs")
    (place / "logs/.lock").unlink()
    before = everything(place / "logs")
    out = call(place, "job.py", "-m", "seed=1,2", "hydra.sweep.dir=logs", rc=2)
    assert "holds files that no sweep has made" in out
    assert everything(place / "logs") == before


def test_jobs_of_a_sweep_hold_their_folders_and_go_on(place: Path) -> None:
    call(place, "job.py", "-m", "seed=1,2", "name=s", rc=1)  # they write no result: they did not complete
    jobs = place / "outputs/sweeps/s"
    for seed in (1, 2):
        assert (jobs / f"seed={seed}/done.txt").exists()
        config = yaml.safe_load((jobs / f"seed={seed}/.hydra/config.yaml").read_text(encoding="utf-8"))
        assert (config["seed"], config["name"]) == (seed, "s")


def test_a_log_that_the_disk_does_not_take_is_left_out_without_a_traceback(place: Path) -> None:
    body = """
import logging
def flush():
    raise OSError(28, "No space left on device")
for handler in logging.getLogger().handlers:
    if isinstance(handler, logging.FileHandler):
        handler.flush = flush
logging.getLogger("cxr").warning("a line")
"""
    (place / "body.py").write_text(body)
    out = call(place, "job.py", "hydra.run.dir=full")
    assert "Traceback" not in out
    assert "Logging error" not in out


def test_a_language_without_pages_is_refused_before_any_work(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"run_dir": str(tmp_path / "run"), "language": "tw"})
    with pytest.raises(ConfigError, match="language is 'tw', expected one of en, zh"), held(cfg, ()):
        pytest.fail("nothing should have begun")
    assert not (tmp_path / "run").exists()
