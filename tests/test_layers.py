"""The house's order: imports point one way, and few places know Hydra. Read from the source, nothing is imported."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "cxr").rglob("*.py"))
# A folder may import from itself and from what stands behind it.
ORDER = ["installation", "files", "findings", "plain_pickle", "torch_archive", "torch_file"]
ORDER += ["fonts", "palette", "progress", "read", "data", "training", "detect", "explain", "report"]
# Rooms beside another: they may use what it may, and themselves.
BESIDE = {"volume": "detect", "suppress": "detect", "export": "detect"}
KNOW_HYDRA = {"config.py", "run.py", "run_folder.py", "restore.py", "sweeping.py"}
KNOW_HYDRA |= {"explaining.py", "explaining_studies.py", "evaluating.py", "predicting.py", "exporting.py"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(dotted: str) -> str:
    return dotted.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(ROOT / "cxr").with_suffix("").parts[0]
    if own not in (*ORDER, *BESIDE):  # config, run, restore: they may use every room
        return
    behind = [*ORDER[: ORDER.index(BESIDE.get(own, own)) + 1], own]
    wrong = [n for n in imported(path) if n.startswith("cxr.") and room(n) not in behind]
    assert not wrong, f"{own} imports {wrong}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_few_places_know_hydra(path: Path) -> None:
    if path.parent.name != "runs" and (path.name not in KNOW_HYDRA or path.parent.name != "cxr"):
        assert not {n for n in imported(path) if n.split(".")[0] in ("hydra", "omegaconf")}


def test_entry_scripts_are_short() -> None:
    for script in ROOT.glob("*.py"):
        assert len(script.read_text(encoding="utf-8").splitlines()) < 40, script


def test_no_room_without_a_subject() -> None:
    assert not [
        p for p in FILES if set(p.with_suffix("").parts) & {"utils", "helpers", "common", "core", "base", "misc"}
    ]
