"""Checks of Python, of the packages that this project needs, and of its extras."""

import importlib.metadata
import platform
import sys
import tomllib
from collections.abc import Iterator, Sequence

from packaging.requirements import Requirement

from cxr import installation
from cxr.doctor.check import Check

_OLDEST_PYTHON = (3, 11)
_COMPROMISED = {"lightning": ("2.6.2", "2.6.3")}  # GHSA-w37p-236h-pfx3: they steal credentials
_GIVES = {
    "dicom": "predict: DICOM reports, presentation states and maps",
    "serve": "serve: films from a PACS and results back into it, by DICOM and HTTP",
    "joblib": "hydra/launcher=cores: jobs of a sweep side by side",
    "submitit": "hydra/launcher=local and slurm",
    "ray": "hydra/launcher=cluster",
    "optuna": "sweep=optuna",
    "yolo": "model=yolov8 (AGPL-3.0)",
    "detr": "model=rtdetr",
    "timm": "model/backbone=timm",
    "imagenet": "model/backbone=efficientnet_lite0 with weights=imagenet",
    "pretrain": "task=pretrain: a backbone from films nobody marked",
    "export": "export to ONNX and OpenVINO, and predict with them",
    "docs": "make docs: the site",
    "dev": "the tests",
}


def program() -> Iterator[Check]:
    """Check the version of cxr, where its config files are, and the version of Python."""
    version = _version("cxr")
    place = "installed from a wheel" if installation.CLONE is None else f"in the clone {installation.CLONE}"
    number = len(list(installation.CONF.rglob("*.yaml")))
    result = f"{version or 'not installed'}, {place}, {number} config files"
    lost = "its files conf/ are missing: install the wheel again" if number == 0 else ""
    yield Check("cxr", result, "wrong" if lost else "ok", lost)
    old = sys.version_info < _OLDEST_PYTHON
    oldest = ".".join(map(str, _OLDEST_PYTHON))
    advice = f"cxr needs Python {oldest} or newer: python{oldest} -m venv .venv" if old else ""
    yield Check("Python", f"{platform.python_version()} ({sys.prefix})", "wrong" if old else "ok", advice)


def needed() -> Iterator[Check]:
    """Check the versions of the packages that the project always needs; each wrong one gets its own line."""
    right = []
    for requirement in _requirements()[""]:
        version = _version(requirement.name)
        typed = f"pip install '{requirement.name}{requirement.specifier}'"
        if version is None:
            yield Check(requirement.name, "not installed", "wrong", typed)
        elif version in _COMPROMISED.get(requirement.name, ()):
            advice = f"this release was compromised (GHSA-w37p-236h-pfx3): change your passwords and keys, and {typed}"
            yield Check(requirement.name, version, "wrong", advice)
        elif not requirement.specifier.contains(version, prereleases=True):
            yield Check(requirement.name, f"{version}, expected {requirement.specifier}", "wrong", typed)
        else:
            right.append(f"{requirement.name} {version}")
    yield Check(f"{len(right)} packages", ", ".join(right))


def extras() -> Iterator[Check]:
    """Check whether each extra is installed; say what it is for and what to type to install it."""
    for extra, requirements in _requirements().items():
        if extra and (extra != "dev" or installation.CLONE is not None):
            lacking = [r.name for r in requirements if not _satisfied(r)]
            gives = _GIVES.get(extra, "")
            if lacking:
                typed = "make setup" if extra == "dev" else f"pip install 'cxr[{extra}]'"
                yield Check(extra, f"{gives}; lacks {', '.join(lacking)}", "absent", typed)
            else:
                yield Check(extra, f"{gives}; {', '.join(f'{r.name} {_version(r.name)}' for r in requirements[:2])}")


def _satisfied(requirement: Requirement) -> bool:
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements() -> dict[str, list[Requirement]]:
    """Return the requirements of each extra; under "" those that are always needed.

    In a clone they are read from pyproject.toml, because the installed metadata may be of an earlier commit.
    """
    if installation.CLONE is not None:
        project = tomllib.loads((installation.CLONE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return {"": _parsed(project["dependencies"])} | {
            extra: _parsed(lines) for extra, lines in project["optional-dependencies"].items()
        }
    distribution = importlib.metadata.distribution("cxr")
    requirements = _parsed(distribution.requires or ())
    wanted: dict[str, list[Requirement]] = {"": [r for r in requirements if r.marker is None]}
    for extra in distribution.metadata.get_all("Provides-Extra") or ():
        wanted[extra] = [r for r in requirements if r.marker is not None and r.marker.evaluate({"extra": extra})]
    return wanted


def _parsed(lines: Sequence[str]) -> list[Requirement]:
    return [Requirement(line) for line in lines]
