"""The house's order: imports point one way, every module has its room, few rooms know Hydra. Read from the source."""

import ast
from functools import cache
from pathlib import Path

import pytest

from scripts import ROOT

FILES = sorted((ROOT / "cxr").rglob("*.py"))
# A room may import from itself and from what stands before it. What every room uses comes first.
ORDER = ["installation", "files", "findings", "palette", "fonts", "progress"]
ORDER += ["read", "phantom", "data", "measure", "learn", "detect", "suppress", "volume", "pretrain", "export"]
ORDER += ["explain", "report", "serve"]
ORDER += ["config", "runs", "doctor", "__main__"]
LOOSE = {"installation", "files", "findings", "palette", "progress", "__main__", "__init__"}
# Rooms side by side: neither uses the other.
BESIDE = [("suppress", "volume"), ("suppress", "export"), ("suppress", "explain"), ("suppress", "report")]
BESIDE += [("volume", "export"), ("volume", "explain"), ("volume", "report")]
BESIDE += [("pretrain", room) for room in ("suppress", "volume", "export", "explain")]
KNOW_HYDRA = ("config", "runs")


@cache
def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(ROOT / "cxr").with_suffix("").parts[0]


def rooms_used(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(path) if name.startswith("cxr.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    place = room(path)
    if place == "__init__":
        assert not imported(path)
        return
    assert place in ORDER, f"{place} has no place in the house"
    wrong = rooms_used(path) - set(ORDER[: ORDER.index(place) + 1])
    wrong |= {other for pair in BESIDE if place in pair for other in pair if other != place} & rooms_used(path)
    assert not wrong, f"{place} imports {sorted(wrong)}"


def test_nothing_is_loose_but_what_every_room_uses() -> None:
    assert {path.stem for path in (ROOT / "cxr").glob("*.py")} == LOOSE


def test_no_module_imports_itself_through_others() -> None:
    uses = {_dotted(path): {_module(name) for name in imported(path) if name.startswith("cxr")} for path in FILES}
    done: set[str] = set()

    def follow(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join((*way[way.index(module) :], module))
        if module not in done:
            for other in uses.get(module, set()) - {module}:
                follow(other, (*way, module))
            done.add(module)

    for module in uses:
        follow(module, ())


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_dotted(path) for path in FILES}


def _module(name: str) -> str:
    """Return the module that an imported name is or stands in."""
    return name if name in MODULES else name.rpartition(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_few_rooms_know_hydra(path: Path) -> None:
    if room(path) not in KNOW_HYDRA:
        assert not {name for name in imported(path) if name.split(".")[0] in ("hydra", "omegaconf")}


def test_entry_scripts_are_short() -> None:
    for script in ROOT.glob("*.py"):
        assert len(script.read_text(encoding="utf-8").splitlines()) < 40, script


def test_no_room_without_a_subject() -> None:
    assert not [
        p for p in FILES if set(p.with_suffix("").parts) & {"utils", "helpers", "common", "core", "base", "misc"}
    ]
