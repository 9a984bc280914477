"""Checkpoints and cards of exports made to harm: mutants of sound ones, with all their checksums put right again.

A mutant that only breaks a checksum is refused by it. So what is changed here is what the checksum is then made of: the
pickle in a checkpoint's archive, and the values of a card, with digests that fit.
"""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

# fmt: off
_WORDS: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 10**300, 1e308, -1e308, float("inf"), float("nan"), "", "a" * 100_000,
    "../../etc/passwd", "os.system", [], {}, [[]] * 1000, [0] * 100_000, "${oc.env:HOME}", {"_target_": "torch.load"},
    {"_target_": "os.system", "command": "false"}, {"_target_": "builtins.exec"},
    {"_target_": "cxr.read.intensity.Intensity", "steps": []},
)
_PIECES = (b"cos\nsystem\n", b"]" * 300, b"(" * 300, b"cbuiltins\neval\n", b"\x8a\xff", b"h\x05")
# fmt: on
_NUMBERS = (0, 1, 255, 2**16 - 1, 2**31 - 1, 2**32 - 1)


def deep(depth: int) -> Any:
    """Return lists within lists."""
    node: Any = []
    for _ in range(depth):
        node = [node]
    return node


def changed_card(card: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return a card with one to three values, of whatever depth, replaced by others, taken out or put elsewhere."""
    changed = json.loads(json.dumps(card))
    for _ in range(int(rng.integers(1, 4))):
        places = [(node, key) for node in _containers(changed) for key in _keys(node)]
        node, key = places[rng.integers(len(places))]
        chosen = int(rng.integers(len(_WORDS) + 3))
        if chosen < len(_WORDS):
            node[key] = _WORDS[chosen]
        elif chosen == len(_WORDS):
            node[key] = deep(500)
        elif chosen == len(_WORDS) + 1:
            other, name = places[rng.integers(len(places))]
            node[key] = other[name] if not isinstance(other[name], (dict, list)) else 7
        else:
            del node[key]
    return changed


def _containers(whole: Any) -> list[Any]:
    found, left = [], [whole]
    while left:  # no recursion: it may be deep
        node = left.pop()
        if isinstance(node, (dict, list)) and node:
            found.append(node)
            left += node.values() if isinstance(node, dict) else node
    return found


def _keys(node: Any) -> list[Any]:
    return list(node) if isinstance(node, dict) else list(range(len(node)))


def changed_checkpoint(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a checkpoint whose pickle is damaged, in an archive whose checksums fit."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    members[name] = _changed_pickle(bytearray(members[name]), rng)
    if rng.integers(8) == 0:  # other numbers in a tensor, too few or too many
        data = [key for key in members if "/data/" in key]
        key = data[rng.integers(len(data))]
        members[key] = members[key][: int(rng.integers(len(members[key]) + 1))]
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return written.getvalue()


def _changed_pickle(data: bytearray, rng: np.random.Generator) -> bytes:
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(2, len(data) - 5))
        kind = int(rng.integers(5))
        if kind == 0:
            data[at] = rng.integers(256)
        elif kind == 1:
            data[at : at + 4] = struct.pack("<I", _NUMBERS[rng.integers(len(_NUMBERS))])
        elif kind == 2:
            size = int(rng.integers(1, 200))
            data[at:at] = data[at : at + size] * int(rng.choice([1, 2, 500]))
        elif kind == 3:
            del data[at : at + int(rng.integers(1, 60))]
        else:
            data[at:at] = _PIECES[rng.integers(len(_PIECES))]
    return bytes(data)


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write a card as it is."""
    (folder / "export.json").write_text(json.dumps(card), encoding="utf-8")
