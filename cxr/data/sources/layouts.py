"""Reads the arguments of command-line tools: a folder in any layout, a vocabulary file, a merge file."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cxr.data.film import Film
from cxr.data.sources.chestxdet import is_chestxdet, read_chestxdet
from cxr.data.sources.coco import ANNOTATIONS, read_coco
from cxr.data.sources.course import read_course
from cxr.data.sources.documents import read_yaml
from cxr.data.sources.merge import Joined, Source, join
from cxr.data.sources.nih import is_nih, read_nih
from cxr.data.sources.rsna import is_rsna, read_rsna
from cxr.data.sources.vindr import is_vindr, read_vindr
from cxr.data.sources.yolo import is_yolo, read_yolo, yolo_vocabulary
from cxr.findings import FindingVocabulary
from cxr.installation import CONF, shipped

VOCABULARY = CONF / "findings" / "eda.yaml"

_Read = Callable[..., list[Film]]

# (test of a folder, reader, vocabulary); the first test that is true counts. A vocabulary of None means eda's.
_LAYOUTS: tuple[tuple[Callable[[Path], bool], _Read, str | None], ...] = (
    (lambda root: root.is_file() or (root / ANNOTATIONS).is_file(), read_coco, None),
    (is_vindr, read_vindr, "vindr"),
    (is_nih, read_nih, "nih"),
    (is_rsna, read_rsna, "rsna"),
    (is_chestxdet, read_chestxdet, "chestxdet"),
    (is_yolo, read_yolo, None),
)
_READERS = {read.__name__: read for _, read, _ in _LAYOUTS} | {"read_course": read_course}


def read_films(root: Path, findings: FindingVocabulary) -> list[Film]:
    """Return the films of ``root``. Its files show the layout: a public one, COCO, YOLO, else that of the course."""
    return _layout(root)[0](root, findings)


def vocabulary_of(root: Path) -> FindingVocabulary:
    """Return the vocabulary for ``root``: that of the public data set, the names in a YOLO data set, else eda's."""
    _, name = _layout(root)
    if name is None and root.is_dir() and is_yolo(root):
        return yolo_vocabulary(root)
    return read_vocabulary(VOCABULARY if name is None else CONF / "findings" / f"{name}.yaml")


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


def _layout(root: Path) -> tuple[_Read, str | None]:
    matches = ((read, vocabulary) for there, read, vocabulary in _LAYOUTS if there(root))
    return next(matches, (read_course, None))


def _reader(path: Path, name: str, node: Mapping[str, Any]) -> _Read:
    target = str(node["_target_"]).rpartition(".")[2]
    if target not in _READERS:
        raise ValueError(f"{path}: read.sources.{name}.read is {target}, expected one of {', '.join(_READERS)}")
    return partial(_READERS[target], **{key: value for key, value in node.items() if key[0] != "_"})
