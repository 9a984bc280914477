"""What a run left, as digests that two equal runs share: times, logs and places are left out of them."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from pydicom import dcmread

_NOT_COMPARED = ("*.log", "command.json", "provenance.json", "begun.json", "checkpoint.json", "index.html", "*.blake2b")
_NOT_COMPARED += ("events.out.*", "previous.ckpt", "failed.json", "key.csv", "sweep.html", "sweep.md", "card.html")
_TIMES = ("second", "time", "films_a", "overrides", "run_dir", "path", "folder", "date", "command")


_OF_SESSIONS = ("sessions", "id", "digest", "checkpoint", "revision")
"""What a card tells of how often a training was begun: the number itself, and hashes of what the number stands in."""


def contents(run: Path) -> dict[str, str]:
    """Return a digest of each file in a run's folder that does not tell when, where and how fast it was made."""
    files = sorted(path for path in run.rglob("*") if path.is_file())
    named = {path.relative_to(run).as_posix().replace(run.name, "RUN"): path for path in files}
    return {name: _digest(path) for name, path in named.items() if _is_compared(name, path)}


def _is_compared(name: str, path: Path) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/")) and not name.endswith(".part")
    return not hidden and not any(path.match(pattern) for pattern in _NOT_COMPARED)


def _digest(path: Path) -> str:
    if path.suffix == ".ckpt":
        return _of_weights(path)
    if path.suffix == ".json":
        left_out = _OF_SESSIONS if path.name == "card.json" else ()
        return _hash(json.dumps(_without_times(json.loads(path.read_bytes()), left_out), sort_keys=True).encode())
    if path.suffix == ".jsonl":  # in the order in which films were done, which is nobody's concern
        return _hash(b"\n".join(sorted(path.read_bytes().splitlines())))
    if path.suffix == ".csv":
        return _hash(repr(_rows(path)).encode())
    if path.suffix == ".dcm":
        made = dcmread(path)
        return _hash(f"{made.SOPClassUID} {made.SOPInstanceUID}".encode())
    return _hash(path.read_bytes())


def _of_weights(path: Path) -> str:
    content = torch.load(path, weights_only=True, map_location="cpu")
    state = hashlib.blake2b(str((content["epoch"], content["global_step"])).encode())
    for name, weight in sorted(content["state_dict"].items()):
        state.update(name.encode() + weight.contiguous().numpy().tobytes())
    return state.hexdigest()


def _rows(path: Path) -> list[dict[str, str]]:
    rows = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
    return [{key: value for key, value in row.items() if not _tells_time(key)} for row in rows]


def _without_times(node: Any, left_out: tuple[str, ...]) -> Any:
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if not _tells_time(key) and key not in left_out}
        return {key: _without_times(value, left_out) for key, value in kept.items()}
    return [_without_times(value, left_out) for value in node] if isinstance(node, list) else node


def _tells_time(key: str) -> bool:
    return any(word in key.lower() for word in _TIMES)


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
