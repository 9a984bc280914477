"""Reads the arguments of command-line tools: a folder in any layout, a vocabulary file, a merge file."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from cxr.data.film import Film
from cxr.data.sources.boxes_csv import TABLE
from cxr.data.sources.documents import read_yaml
from cxr.data.sources.merge import Joined, Source, join
from cxr.findings import FindingVocabulary
from cxr.installation import CONF, shipped

VOCABULARY = CONF / "findings" / "eda.yaml"

_COURSE = "course"  # the layout of a folder that no other module knows


def read_films(root: Path, findings: FindingVocabulary, layout: str | None = None, **settings: Any) -> list[Film]:
    """Return the films of ``root``. Its files show the layout: a public one, COCO, YOLO, else that of the course.

    Args:
        root: the folder or file.
        findings: the vocabulary.
        layout: the name of the layout, as in ``data=NAME``, for one that files do not show.
        settings: of its reader, as in ``data.read``.

    Raises ``ValueError`` for settings that the reader does not have, and for those that it lacks.
    """
    name = layout or _layout(root)
    read = _reader_of(name)
    known = {key: of for key, of in inspect.signature(read).parameters.items() if key not in ("root", "findings")}
    if unknown := sorted(settings.keys() - known.keys()):
        raise ValueError(f"data={name} has no data.read.{unknown[0]}, only {', '.join(known) or 'none at all'}")
    if lacking := [key for key, of in known.items() if of.default is of.empty and key not in settings]:
        raise ValueError(f"data={name} needs data.read.{lacking[0]}")
    films: list[Film] = read(root, findings, **settings)
    return films


def vocabulary_of(root: Path, layout: str | None = None) -> FindingVocabulary:
    """Return the vocabulary for ``root``: that of the public data set, the names in a YOLO data set, else eda's."""
    name = layout or _layout(root)
    if of_files := getattr(_layouts().get(name), f"{name}_vocabulary", None):
        vocabulary: FindingVocabulary = of_files(root)
        return vocabulary
    shared = CONF / "findings" / f"{name}.yaml"
    return read_vocabulary(shared if shared.is_file() else VOCABULARY)


def read_vocabulary(path: Path) -> FindingVocabulary:
    """Return the vocabulary in a file of ``conf/findings/``. Raises ``ValueError`` if there is none in the file."""
    path = shipped(path)
    if not path.is_file():
        raise ValueError(f"{path} is not there, expected a file of conf/findings/")
    fields = read_yaml(path)
    if not isinstance(fields, dict) or "findings" not in fields:
        raise ValueError(f"{path} has no key `findings`, expected a file of conf/findings/")
    return FindingVocabulary(**{key: value for key, value in fields.items() if key in ("findings", "normal")})


def read_merge_file(path: Path, roots: Mapping[str, str], findings: FindingVocabulary) -> Joined:
    """Return the films of a file such as ``conf/data/merge.yaml``, read as plain YAML, and the dropped boxes.

    ``roots`` are folders of sources that replace those in the file. Raises ``ValueError`` if the file joins nothing.
    """
    fields = read_yaml(shipped(path))
    nodes = fields.get("read", {}).get("sources") if isinstance(fields, dict) else None
    if not isinstance(nodes, dict):
        raise ValueError(f"{path} has no read.sources, expected a file such as conf/data/merge.yaml")
    if unknown := sorted(roots.keys() - nodes.keys()):
        raise ValueError(f"{path} has no source {', '.join(unknown)}, expected {', '.join(nodes)}")
    vocabularies = {
        key: value for entry in fields.get("defaults", ()) if isinstance(entry, dict) for key, value in entry.items()
    }
    sources = {}
    for name, node in nodes.items():
        vocabulary = vocabularies.get(f"/findings@read.sources.{name}.findings")
        sources[name] = Source(
            read=_reader(path, name, node["read"]),
            findings=read_vocabulary(CONF / "findings" / f"{vocabulary}.yaml") if vocabulary else findings,
            root=roots.get(name, node.get("root")),
            mapping=node.get("mapping"),
            patients=node.get("patients"),
        )
    return join(Path(fields.get("root") or "."), findings, sources)


@cache
def _layouts() -> dict[str, ModuleType]:
    """Return the modules beside this one that know their layout when they see it: ``NAME`` has ``is_NAME(root)``."""
    names = [module.name for module in iter_modules([str(Path(__file__).parent)])]
    modules = {name: import_module(f"{__package__}.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, f"is_{name}")}


def _layout(root: Path) -> str:
    """Return the layout that the files of ``root`` show.

    A ``boxes.csv`` with other columns than its reader knows is taken for one where nothing else is there: that reader
    says which columns it lacks.
    """
    own_table = (root / TABLE).is_file() and not (root / "train.csv").is_file()
    known = (name for name, module in _layouts().items() if getattr(module, f"is_{name}")(root))
    return next(known, "boxes_csv" if own_table else _COURSE)


def _reader_of(layout: str) -> Callable[..., Any]:
    readers = _readers()
    if layout not in readers:
        raise ValueError(f"there is no data={layout}, expected one of {', '.join(readers)}")
    return readers[layout]


@cache
def _readers() -> dict[str, Callable[..., Any]]:
    """Return ``read_NAME`` of each module ``NAME`` beside this one that has it: it reads one folder or file."""
    names = [module.name for module in iter_modules([str(Path(__file__).parent)])]
    readers = {name: getattr(import_module(f"{__package__}.{name}"), f"read_{name}", None) for name in names}
    return {name: reader for name, reader in readers.items() if reader is not None}


def _reader(path: Path, name: str, node: Mapping[str, Any]) -> Callable[..., Any]:
    target = str(node["_target_"]).rpartition(".")[2]
    readers = {f"read_{layout}": layout for layout in (*_layouts(), _COURSE)}
    if target not in readers:
        raise ValueError(f"{path}: read.sources.{name}.read is {target}, expected one of {', '.join(readers)}")
    return partial(_reader_of(readers[target]), **{key: value for key, value in node.items() if key[0] != "_"})
