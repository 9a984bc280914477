"""What travels beside an exported network: plain data that say how films go in and what comes out.

``export.json`` is read as data. What it names of an intensity is held to the same list as a checkpoint's config
(``cxr.restore``): nothing else is called.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cxr.checkpoint import Checkpoint
from cxr.config import ConfigError, write_json
from cxr.findings import FindingVocabulary

SIDECAR = "export.json"
FORMAT = 1
RUNTIMES = ("onnx", "openvino", "torch")


@dataclass(frozen=True)
class Sidecar:
    """An exported network's card.

    Args:
        runtime: what runs it: "onnx", "openvino" or "torch".
        files: name → hash of each of its files, the first to be opened first.
        detector: the builder it came from, for people.
        checkpoint: hash of the checkpoint, as reports name it.
        findings: the vocabulary behind the labels, ``FindingVocabulary.as_dict``.
        size: longest side in pixels of the films it takes.
        channels: of a film.
        stride: the canvas's side is a multiple of it.
        outputs: their names, in order.
        intensity: what films go through first: a checkpoint's ``data.intensity``. Not to be trusted, as there.
        kind: of the films it was trained on; None where the checkpoint does not tell.
        score_thresh: detections below are not among its own.
        detections_per_img: it gives at most so many a film.
        box_weight, film_weight: shares of the image head in the scores (``ImageHead``); 0 without one.
        operating_point: of screening, ``OperatingPoint.as_dict``; None where there is none.
        versions: of the packages that made it.
        compared: how far it was from the detector itself, when it was made.
    """

    runtime: str
    files: Mapping[str, str]
    detector: str
    checkpoint: str
    findings: Mapping[str, Any]
    size: int
    channels: int
    stride: int
    outputs: tuple[str, ...]
    intensity: Mapping[str, Any]
    kind: str | None
    score_thresh: float
    detections_per_img: int
    box_weight: float
    film_weight: float
    operating_point: Mapping[str, Any] | None
    versions: Mapping[str, str]
    compared: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write it into ``folder``, whole or not at all."""
        write_json(folder / SIDECAR, {"format": FORMAT, **asdict(self)})

    def as_checkpoint(self, path: Path) -> Checkpoint:
        """Return it as what restores an intensity, and what reports read: a checkpoint without weights."""
        config = {"data": {"intensity": self.intensity, "size": self.size}}
        findings = FindingVocabulary(**self.findings)
        return Checkpoint(path, config, findings, "", self.versions, {}, self.kind, self.operating_point)


_KINDS: dict[str, tuple[type, ...]] = {
    "runtime": (str,),
    "files": (dict,),
    "detector": (str,),
    "checkpoint": (str,),
    "findings": (dict,),
    "size": (int,),
    "channels": (int,),
    "stride": (int,),
    "outputs": (list,),
    "intensity": (dict,),
    "kind": (str, type(None)),
    "score_thresh": (int, float),
    "detections_per_img": (int,),
    "box_weight": (int, float),
    "film_weight": (int, float),
    "operating_point": (dict, type(None)),
    "versions": (dict,),
    "compared": (dict,),
}


def read_sidecar(folder: Path) -> Sidecar:
    """Return the card of the network in ``folder``.

    Raises ``ConfigError``: there is none, it is of another version, an entry is of another kind than expected, or a
    file is missing or another one than it was written for.
    """
    path = folder / SIDECAR
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{folder}: holds no {SIDECAR}; expected a folder of python export.py ckpt=… to=onnx"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path}: not the JSON that export.py writes: {error}") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise ConfigError(f"{path}: not of format {FORMAT}, the one that this version writes and reads")
    for name, kinds in _KINDS.items():
        value = content.get(name)
        if name not in content or not isinstance(value, kinds) or isinstance(value, bool):
            expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            raise ConfigError(f"{path}: {name} is {value!r}, expected {expected}")
    if content["runtime"] not in RUNTIMES:
        raise ConfigError(f"{path}: runtime is {content['runtime']!r}, expected one of {', '.join(RUNTIMES)}")
    try:
        FindingVocabulary(**content["findings"])
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: findings is no vocabulary: {error}") from error
    known = {name: content[name] for name in _KINDS}
    sidecar = Sidecar(**known | {"outputs": tuple(content["outputs"])})
    _check_files(folder, sidecar)
    return sidecar


def digest_of(path: Path) -> str:
    """Return a hash of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def _check_files(folder: Path, sidecar: Sidecar) -> None:
    """Raise ``ConfigError`` unless the network's files lie in the folder itself and are those it was written for."""
    for name, digest in sidecar.files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise ConfigError(f"{folder / SIDECAR}: files names {name!r}, which is no file in its folder")
        if digest_of(path) != digest:
            raise ConfigError(f"{path}: is not the file that {SIDECAR} was written for; export anew")
