"""``cxr sweep``: jobs read from their folders, one that is broken among them, to a table and a page."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from cxr.read.radiograph import pseudonym
from cxr.runs.sweep_report import job_status, main, print_report, read_jobs, write_report
from scripts import table


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def begun(sweep: Path, lr: float, epochs: int, seed: int) -> Path:
    overrides = ["sweep=lr_epochs", f"optimizer.lr={lr}", f"trainer.max_epochs={epochs}", f"seed={seed}"]
    folder = sweep / ",".join(overrides[1:])
    config = {
        "monitor": "val/map_50", "seed": seed, "optimizer": {"lr": lr}, "trainer": {"max_epochs": epochs},
    }  # fmt: skip
    write(folder / "command.json", {"overrides": overrides, "config": config})
    (folder / "metrics.csv").write_text("epoch,train/loss,val/map_50\n0.0,1.5,\n1.0,1.2,0.25\n", encoding="utf-8")
    return folder


def ended(folder: Path, score: float | None, status: str = "completed") -> None:
    write(folder / "result.json", {"status": status, "monitor": "val/map_50", "score": score, "seconds": 12.5})
    write(folder / "provenance.json", [{"hardware": {"threads": 64}}, {"hardware": {"threads": 63}}])


def failed(folder: Path) -> None:
    overrides = ["optimizer.lr=9", "trainer.max_epochs=2", "seed=0"]
    write(folder / "failed.json", {"reason": "the loss is <nan>", "overrides": overrides, "seconds": 3.0})


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "lr_epochs"
    for lr, epochs, score in ((0.01, 2, 0.3), (0.01, 4, 0.5), (0.1, 2, 0.6), (0.1, 4, 0.8)):
        for seed in (0, 1):
            ended(begun(folder, lr, epochs, seed), score + 0.1 * seed)
    failed(folder / "refused")
    begun(folder, 0.1, 4, 2)
    (folder / ".submitit").mkdir()
    return folder


def test_a_job_is_what_its_folder_says(tmp_path: Path) -> None:
    folder = begun(tmp_path, 0.1, 2, 0)
    assert job_status(folder) == "interrupted"
    with FileLock(folder / ".lock"):
        assert job_status(folder) == "running"
    ended(folder, 0.7)
    (job,) = read_jobs(tmp_path)
    assert (job.status, job.score, job.seconds, job.epochs, job.curve) == ("completed", 0.7, 12.5, 2, ((2, 0.25),))
    ended(folder, 0.2, "pruned")
    assert job_status(folder) == "pruned"
    failed(folder)  # begun again with more epochs, and failed
    (job,) = read_jobs(tmp_path)
    assert (job.status, job.score, job.reason) == ("failed", None, "the loss is <nan>")


def test_looking_leaves_a_job_alone(sweep: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in sweep.glob("*/**/*")}
    write_report(sweep)
    assert {p: p.stat().st_mtime_ns for p in sweep.glob("*/**/*")} == before


def test_the_csv_has_a_row_a_job(sweep: Path) -> None:
    write_report(sweep)
    rows = table(sweep / "sweep.csv")
    assert len(rows) == 10
    assert rows[0] == {
        "folder": "optimizer.lr=0.1,trainer.max_epochs=4,seed=1", "status": "completed", "score": "0.9", "epochs": "2",
        "seconds": "12.5", "optimizer.lr": "0.1", "trainer.max_epochs": "4", "seed": "1", "reason": "",
    }  # fmt: skip
    refused = next(row for row in rows if row["status"] == "failed")
    assert (refused["optimizer.lr"], refused["score"], refused["reason"]) == ("9", "", "the loss is <nan>")


def test_the_page_is_whole(sweep: Path) -> None:
    write_report(sweep)
    page = (sweep / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert "<td>0.850 ± 0.071</td>" in page  # 0.8 and 0.9
    assert "the loss is &lt;nan&gt;" in page
    assert "interrupted after 2 epochs" in page
    assert "OMP_NUM_THREADS=63 python train.py optimizer.lr=0.1 trainer.max_epochs=4 seed=1</pre>" in page
    assert "http" not in page  # nothing is fetched


def test_page_and_csv_name_no_folder_of_films_and_the_terminal_has_the_whole_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for ward in ("Lin_Yu-Ting", "Wu_An"):
        overrides = [f"data.root=/ward/{ward}", "optimizer.lr=0.1"]
        config = {"monitor": "val/map_50", "data": {"root": f"/ward/{ward}"}, "optimizer": {"lr": 0.1}}
        write(tmp_path / ward[:2] / "command.json", {"overrides": overrides, "config": config})
        ended(tmp_path / ward[:2], 0.7 if ward == "Wu_An" else 0.6)
    write(tmp_path / "gone" / "failed.json", {
        "reason": "/ward/Lin_Yu-Ting: there is no such folder", "overrides": ["seed=1"], "seconds": 1,
    })  # fmt: skip
    write_report(tmp_path)
    for name in ("index.html", "sweep.csv"):
        written = (tmp_path / name).read_text(encoding="utf-8")
        assert "ward" not in written
        assert pseudonym("Wu_An") in written
        assert f"{pseudonym('Lin_Yu-Ting')}: there is no such folder" in written
    print_report(tmp_path)
    assert "data.root=/ward/Wu_An" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["command.json", "result.json"])
@pytest.mark.parametrize("content", ["", "[1, 2]", '{"overrides": [', "7"])
def test_a_damaged_job_is_named_and_the_others_reported(
    sweep: Path, name: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = sweep / "optimizer.lr=0.1,trainer.max_epochs=4,seed=1"
    (broken / name).write_text(content, encoding="utf-8")
    print_report(sweep)
    output = capsys.readouterr().out
    assert f"damaged: {name}" in output.replace("\n", " ")
    assert "python train.py optimizer.lr=0.1 trainer.max_epochs=4 seed=0" in output  # the next best
    write_report(sweep)
    assert "1 damaged" in (sweep / "index.html").read_text(encoding="utf-8")


def test_unknown_threads_are_left_out_of_the_command(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "optimizer.lr=0.1,trainer.max_epochs=4,seed=1" / "provenance.json").write_text("[{", encoding="utf-8")
    print_report(sweep)
    assert "\npython train.py optimizer.lr=0.1" in capsys.readouterr().out


def test_a_sweep_without_a_finished_job_says_so(tmp_path: Path) -> None:
    begun(tmp_path, 0.1, 2, 0)
    ended(begun(tmp_path, 0.1, 2, 1), None)  # it completed, but its figure was nan
    failed(tmp_path / "refused")
    write_report(tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "there is no best run" in page
    assert "<img" not in page
    assert math.isnan(read_jobs(tmp_path)[0].seconds)


@pytest.mark.parametrize(("folder", "words"), [("absent", "no such folder"), ("empty", "holds no job")])
def test_a_folder_that_is_no_sweep_is_refused(
    tmp_path: Path, folder: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(sys, "argv", ["sweep", str(tmp_path / folder)])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert words in capsys.readouterr().err


def test_the_command_needs_no_torch(sweep: Path) -> None:
    script = "import sys; from cxr.runs.sweep_report import main; main(); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, str(sweep)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "<td>0.850 ± 0.071</td>" in (sweep / "index.html").read_text(encoding="utf-8")


def test_the_command_names_the_folder_of_the_users_own_yaml(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = sweep / "optimizer.lr=0.1,trainer.max_epochs=4,seed=1"
    sources = [{"provider": "main", "path": "/cxr/conf"}, {"provider": "command-line", "path": "/home/my conf"}]
    write(best / ".hydra" / "hydra.yaml", {"hydra": {"runtime": {"config_sources": sources}}})  # JSON is YAML
    print_report(sweep)
    assert "python train.py --config-dir '/home/my conf' optimizer.lr=0.1" in capsys.readouterr().out
