"""``cxr <command>``: every verb under one name, in a clone and installed, the same calls as the scripts."""

import ast
import importlib
import inspect
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cxr import installation
from cxr.__main__ import COMMANDS, main
from cxr.installation import CONF
from scripts import ROOT, call

SCRIPTS = ("train", "explain", "evaluate", "predict", "export", "annotate", "serve")
# As the script that pip writes: its own folder is the first on the path, not the current one
CONSOLE = f"import sys; sys.path[0] = {str(ROOT)!r}; from cxr.__main__ import main; main()"
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}  # this checkout, whichever is installed


@pytest.fixture(scope="module")
def cxr(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Call ``cxr words`` in a folder, and return what it prints."""
    console = tmp_path_factory.mktemp("bin") / "cxr"
    console.write_text(CONSOLE)

    def run(place: Path, *words: str, rc: int = 0) -> str:
        return call(str(console), place, *words, code=rc)

    return run


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help_names_every_command_and_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    script = (
        f"import sys; sys.argv = ['cxr', *{words}]\n"
        "from cxr.__main__ import main; main()\n"
        "print([name for name in ('torch', 'hydra', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=HERE, capture_output=True, text=True, check=True
    )
    *text, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert [line.split()[0] for line in text if line.startswith("  ") and not line.startswith("  cxr")] == [*COMMANDS]


def test_a_misspelt_command_gets_the_nearest(cxr: Callable[..., str], tmp_path: Path) -> None:
    assert "cxr trian: there is no such command. Did you mean 'train'?" in cxr(tmp_path, "trian", rc=2)


def test_the_version_is_told(cxr: Callable[..., str], tmp_path: Path) -> None:
    output = cxr(tmp_path, "--version")
    assert output.startswith("cxr ")
    module = subprocess.run(
        [sys.executable, "-m", "cxr", "--version"], cwd=tmp_path, env=HERE, capture_output=True, text=True, check=True
    )
    assert module.stdout == output


def called(name: str) -> Any:
    """Return the function that a command calls."""
    module, _, function = COMMANDS[name].call.partition(":")
    return getattr(importlib.import_module(module), function)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_takes_what_it_is_given(name: str) -> None:
    command = COMMANDS[name]
    inspect.signature(called(name)).bind(**({} if command.hydra else {"prog": f"cxr {name}"}))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_the_same_call(name: str) -> None:
    assert runpy.run_path(str(ROOT / f"{name}.py"))[name] is called(name)


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {*SCRIPTS}))
def test_help_of_a_tool_calls_it_as_it_was_called(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cxr", name, "--help"])
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the current folder is added
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: cxr {name} ")


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_of_a_script_calls_it_as_it_was_called_and_explains_every_setting(
    cxr: Callable[..., str], name: str, tmp_path: Path
) -> None:
    text = cxr(tmp_path, name, "--help")
    assert f"  cxr {name} " in text
    assert "python" not in text
    script = call(f"{name}.py", tmp_path, "--help")
    assert script == re.sub(rf"cxr ({'|'.join(SCRIPTS)})", r"python \1.py", text)
    if name != "train":  # whose settings stand in many files
        keys = yaml.safe_load((ROOT / "conf" / f"{name}.yaml").read_text(encoding="utf-8")).keys() - {
            "defaults",
            "hydra",
        }
        assert all(re.search(rf"^{key}: ?", text, re.MULTILINE) for key in keys)
        assert "# modules and packages of your own that the checkpoint may name" in text


def test_evaluate_takes_two_checkpoints(cxr: Callable[..., str], tmp_path: Path) -> None:
    for name in ("a.ckpt", "b.ckpt"):
        (tmp_path / name).touch()
    assert "a.ckpt" in cxr(tmp_path, "evaluate", "ckpt=a.ckpt,b.ckpt", "--cfg", "job")


# --- files of the user's own ---

MINE = "# Mine.\ndefaults:\n  - fasterrcnn_tiny\n_target_: my_package.detectors.mine\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model of the user's own: a YAML, and a package beside it."""
    (tmp_path / "my_conf" / "model").mkdir(parents=True)
    (tmp_path / "my_conf" / "model" / "mine.yaml").write_text(MINE)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    (tmp_path / "my_package" / "detectors.py").write_text("def mine(num_classes, *, size=1): ...\n")
    return tmp_path


def test_yaml_of_the_users_own_is_found_and_offered(cxr: Callable[..., str], place: Path) -> None:
    output = cxr(place, "train", "--config-dir", "my_conf", "model=minne", rc=2)
    assert "model=minne: there is no such file in conf/model/ or" in output
    assert "my_conf/model/. Did you mean 'mine'? Known: cnn3d" in output
    assert "my_package.detectors.mine" in cxr(place, "train", "--config-dir", "my_conf", "model=mine", "--cfg", "job")


def test_help_offers_the_groups_that_a_script_takes_with_the_users_own_files(
    cxr: Callable[..., str], place: Path
) -> None:
    (place / "my_conf" / "cam").mkdir()
    (place / "my_conf" / "cam" / "my_map.yaml").touch()
    text = cxr(place, "serve", "--config-dir", "my_conf", "--help")
    assert re.search(r"^cam: .*drise.*my_map", text, re.MULTILINE)
    assert not re.search(r"^(optimizer|experiment|data): ", text, re.MULTILINE)
    assert re.search(r"^data: .*course", cxr(place, "evaluate", "--help"), re.MULTILINE)
    text = cxr(place, "train", "--help")
    groups = {file.parent.relative_to(ROOT / "conf").as_posix() for file in (ROOT / "conf").glob("*/**/*.yaml")}
    listed = set(re.findall(r"^([\w/]+): (?!\?)", text, re.MULTILINE))
    refused = {group for group in groups if group.partition("/")[0] in ("cam", "inherited")}
    assert groups - refused - {"hydra/sweeper"} <= listed
    assert not refused & listed


def test_a_group_that_a_script_does_not_take_is_no_setting_to_be_appended(
    cxr: Callable[..., str], tmp_path: Path
) -> None:
    output = cxr(tmp_path, "serve", "ckpt=a.ckpt", "model=fasterrcnn", rc=2)
    assert output == "model=…: this command does not take this group of choices. --help lists what it takes\n"
    output = cxr(tmp_path, "train", "model=yolov8", "model/backbone=timm", rc=2)
    assert output == "model/backbone=…: the model that is chosen has no such part to choose\n"
    output = cxr(tmp_path, "train", "experimnt=demo", rc=2)
    assert output.startswith("experimnt: there is no such setting. Did you mean 'experiment'? Known: augment")


def test_a_value_still_to_be_given_is_explained_as_its_file_does(cxr: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "export.json").touch()
    output = cxr(tmp_path, "train", "data=labelstudio", "data.root=export.json", rc=2)
    assert "data.read.key has no value yet: type data.read.key=… (key.json that cxr annotate left, or its" in output


def test_a_package_in_the_current_folder_is_found(cxr: Callable[..., str], place: Path) -> None:
    output = cxr(place, "train", "--config-dir", "my_conf", "model=mine", "data.root=/nowhere", rc=2)
    assert "my_package.detectors.mine takes no such argument" in output  # of what fasterrcnn_tiny's YAML brings: read
    (place / "my_package" / "detectors.py").write_text("def mine(num_classes, **settings): ...\n")
    output = cxr(place, "train", "--config-dir", "my_conf", "model=mine", "data.root=/nowhere", rc=2)
    assert "the config has a problem" in output  # data.root alone


def test_a_file_of_the_current_folder_takes_no_librarys_place(tmp_path: Path) -> None:
    """A folder of films from elsewhere may hold anything; ``python -m`` would run it."""
    (tmp_path / "yaml.py").write_text("raise SystemExit('not the real one')")
    done = subprocess.run(
        [sys.executable, "-c", CONSOLE, "audit", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage")


# --- where the program stands ---


def test_in_a_clone_its_own_files_are_used() -> None:
    assert (installation.CONF, installation.CLONE) == (ROOT / "conf", ROOT)
    assert installation.command("train") == "python train.py"
    assert CONF == ROOT / "conf"


def test_of_a_wheel_the_files_inside_the_package_are_used(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "cxr"
    (package / "conf").mkdir(parents=True)
    (tmp_path / "site-packages" / "conf").mkdir()  # of somebody else
    (package / "installation.py").write_bytes((ROOT / "cxr" / "installation.py").read_bytes())
    names = runpy.run_path(str(package / "installation.py"))
    assert (names["CONF"], names["CLONE"], names["command"]("train")) == (package / "conf", None, "cxr train")


def test_a_process_says_how_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/venv/bin/cxr", "train", "seed=1"])
    installation.call_by_console("train")
    assert sys.argv[1:] == ["seed=1"]  # for Hydra
    assert installation.command("explain") == "cxr explain"
    assert installation.typed() == ["cxr", "train", "seed=1"]
    monkeypatch.setattr(sys, "argv", ["/home/me/train.py", "seed=1"])
    assert installation.typed() == ["train.py", "seed=1"]


def test_a_path_below_conf_is_found_away_from_the_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("conf/findings/eda.yaml")
    assert installation.shipped(path) == ROOT / path
    assert installation.shipped(Path("mine.yaml")) == Path("mine.yaml")
    path.parent.mkdir(parents=True)
    path.touch()
    assert installation.shipped(path) == path  # one's own comes first


def test_a_wheel_inside_somebody_elses_repository_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    from cxr.runs import provenance

    monkeypatch.setattr(installation, "CLONE", None)
    assert provenance.git() is None


def test_nothing_but_the_wheels_own_layout_is_asked_where_conf_lies() -> None:
    """A second place that guesses would be wrong in a wheel."""
    for path in (ROOT / "cxr").rglob("*.py"):
        strings = {
            node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)
        }
        assert path.name == "installation.py" or "conf" not in strings, path
