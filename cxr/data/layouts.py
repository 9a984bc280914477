"""What the command-line tools of this package start from: a folder in any layout, a vocabulary file."""

from pathlib import Path

import yaml

from cxr.data.coco import ANNOTATIONS, read_coco
from cxr.data.course import read_course
from cxr.data.film import Film
from cxr.findings import FindingVocabulary

VOCABULARY = Path(__file__).parents[2] / "conf" / "findings" / "eda.yaml"


def read_films(root: Path, findings: FindingVocabulary) -> list[Film]:
    """Return the films of ``root``: a COCO json, a folder that holds one, or the course layout (phantom films too)."""
    if root.is_file() or (root / ANNOTATIONS).is_file():
        return read_coco(root, findings)
    return read_course(root, findings)


def read_vocabulary(path: Path) -> FindingVocabulary:
    """Return the vocabulary of a file of ``conf/findings/``. Raises ``ValueError`` for one that holds none."""
    if not path.is_file():
        raise ValueError(f"{path} is not there, expected a file of conf/findings/")
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(fields, dict) or "findings" not in fields:
        raise ValueError(f"{path} has no key `findings`, expected a file of conf/findings/")
    return FindingVocabulary(**{key: value for key, value in fields.items() if key in ("findings", "normal")})
