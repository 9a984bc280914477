"""Reads an untrusted file of ``torch.save`` as plain data, with bounded memory.

``torch.load(weights_only=True)`` calls no function that a file names, but it unpacks all that the file holds, and
trusts the sizes in it. Here sizes are checked first: before anything is unpacked, the sizes in the archive's directory
are added up and compared with a limit. A tensor may not be larger than the numbers stored for it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from cxr.learn.plain_pickle import Opaque, PickleError, read_pickle
from cxr.learn.torch_archive import Archive, TorchFileError, open_archive, refuse_size

_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # of files from before torch 1.6
_LEGACY_PROTOCOL = 1001
_MOST_DIMENSIONS = 16

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}


@dataclass(frozen=True)
class _StorageType:
    """Takes the place of ``torch.FloatStorage`` and similar classes."""

    dtype: torch.dtype


@dataclass(frozen=True)
class _Storage:
    """Stored numbers [N] of one dtype, of which tensors are views."""

    values: Tensor


def read_torch_file(path: Path | str, opaque: bool = False) -> Any:
    """Return the content of a file of ``torch.save``: tensors on the CPU in plain containers.

    Every mapping becomes a dict. A ``torch.Size``, a device, a set or bytes become the plain value that was written.

    Args:
        path: path of the file.
        opaque: True puts ``Opaque`` in place of objects of other classes; False refuses a file with such objects.

    Raises ``TorchFileError`` (a ``ValueError``), which says what is wrong but does not name the file, and ``OSError``.
    """
    path = Path(path)
    refuse_size(path.stat().st_size)
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
        if start == _MAGIC:
            return _read_legacy(path.read_bytes(), opaque)
        if not start.startswith(b"PK\x03\x04"):
            raise TorchFileError("it is not written by torch" if start else "it is empty")
        with open_archive(path) as archive:
            return _read_archive(archive, opaque)
    except PickleError as error:
        raise TorchFileError(str(error)) from error


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors by name from a file that is a state dict or a checkpoint with one.

    Raises ``TorchFileError`` like ``read_torch_file``, and if a value is not finite.
    """
    content = read_torch_file(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    items = state.items() if isinstance(state, dict) else ()
    tensors = {name: value for name, value in items if isinstance(name, str) and isinstance(value, Tensor)}
    refuse_not_finite(tensors)
    return tensors


def refuse_not_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise ``TorchFileError`` if a value of a tensor is NaN or infinite; it names the tensor and counts the values."""
    wrong = {name: count for name, tensor in tensors.items() if (count := _not_finite(tensor))}
    if wrong:
        name, count = next(iter(wrong.items()))
        others = f", and {len(wrong) - 1} more tensors hold such values" if len(wrong) > 1 else ""
        raise TorchFileError(f"{count} of {tensors[name].numel()} values of {name} are not finite (NaN or ∞){others}")


def _not_finite(tensor: Tensor) -> int:
    if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
        return 0
    values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    ends = torch.stack(torch.aminmax(values.detach()))  # one pass without a mask: NaN and ∞ both appear in the ends
    return 0 if bool(torch.isfinite(ends).all()) else int((~torch.isfinite(tensor)).sum())


def _read_archive(archive: Archive, opaque: bool) -> Any:
    if archive.read("byteorder", b"little") != b"little":
        raise TorchFileError("it was written by a machine of another byte order")
    storages: dict[str, _Storage] = {}

    def stored(reference: Any) -> _Storage:
        dtype, key, count = _reference(reference, fields=5)
        if key not in storages:
            content = bytearray(archive.read(f"data/{key}"))
            storages[key] = _storage(content, dtype, count)
        if storages[key].values.dtype != dtype:
            raise TorchFileError(f"it reads the numbers {key} as two kinds of numbers")
        return storages[key]

    return read_pickle(archive.read("data.pkl"), _named(opaque), stored)[0]


def _read_legacy(data: bytes, opaque: bool) -> Any:
    """Read the format of torch before 1.6: several pickles, one after the other, and then the numbers."""
    place = len(_MAGIC)
    protocol, place = read_pickle(data, _refused, _no_storage, place)
    machine, place = read_pickle(data, _refused, _no_storage, place)
    if protocol != _LEGACY_PROTOCOL or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise TorchFileError("it was written by another version of torch, or by a machine of another byte order")
    contents: dict[str, tuple[bytearray, _Storage]] = {}
    left = len(data)

    def stored(reference: Any) -> _Storage:
        nonlocal left
        dtype, key, count = _reference(reference, fields=6)
        if key not in contents:
            left -= count * dtype.itemsize
            if left < 0:
                raise TorchFileError("it states more numbers than it has bytes")
            content = bytearray(count * dtype.itemsize)
            contents[key] = content, _storage(content, dtype, count)
        return contents[key][1]

    value, place = read_pickle(data, _named(opaque), stored, place)
    keys, place = read_pickle(data, _refused, _no_storage, place)
    if not isinstance(keys, list) or len(keys) != len(contents) or {*map(str, keys)} != {*contents}:
        raise TorchFileError("it is damaged: its list of numbers does not fit its pickle")
    for key in map(str, keys):
        content = contents[key][0]
        place += 8  # skips a second copy of the count
        content[:] = data[place : place + len(content)]
        place += len(content)
    if place > len(data):
        raise TorchFileError("it is damaged: it ends too early")
    return value


def _reference(reference: Any, fields: int) -> tuple[torch.dtype, str, int]:
    """Return dtype, key and number of values from a persistent id: ("storage", type, key, location, count[, view])."""
    if isinstance(reference, tuple) and len(reference) == fields and reference[0] == "storage":
        _, kind, key, _, count, *view = reference
        known = isinstance(kind, _StorageType) and isinstance(key, str) and type(count) is int and 0 <= count < 2**62
        if known and view in ([], [None]):
            return kind.dtype, key, count
    raise TorchFileError("it is damaged: its pickle refers to no numbers")


def _storage(content: bytearray, dtype: torch.dtype, count: int) -> _Storage:
    if len(content) != count * dtype.itemsize:
        raise TorchFileError(
            f"it states {count:,} numbers of {dtype.itemsize} bytes where it holds {len(content):,} bytes"
        )
    return _Storage(torch.frombuffer(content, dtype=dtype) if count else torch.empty(0, dtype=dtype))


def _named(opaque: bool) -> Callable[[str, str], Any]:
    def named(module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        if (function := _CALLED.get((module, name))) is not None:
            return function
        return _opaque if opaque else _refused(module, name)

    return named


def _refused(module: str, name: str) -> NoReturn:
    raise TorchFileError(f"it names {module}.{name}, and such a file holds plain data only")


def _no_storage(reference: Any) -> NoReturn:
    raise TorchFileError("it is damaged: its pickle refers to numbers where none belong")


def _opaque(arguments: tuple[Any, ...]) -> Opaque:
    return Opaque()


def _tensor(arguments: tuple[Any, ...]) -> Tensor:
    """Return the same tensor as ``torch._utils._rebuild_tensor_v2``: a view that never goes beyond its numbers."""
    storage, offset, size, stride = arguments[:4] if len(arguments) in (6, 7) else (None,) * 4
    lengths = (size, stride)
    plain = all(isinstance(many, tuple) and len(many) <= _MOST_DIMENSIONS for many in lengths)
    numbers = [offset, *size, *stride] if plain else [None]
    if not isinstance(storage, _Storage) or any(type(n) is not int or not 0 <= n < 2**62 for n in numbers):
        raise TorchFileError("it is damaged: a tensor has no shape")
    count, kept = math.prod(size), len(storage.values)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=False))
    whole = math.prod(max(length, 1) for length in size)  # as torch computes it, also for empty tensors
    if len(size) != len(stride) or whole >= 2**48 or (count and max(last + 1, count) > kept):
        raise TorchFileError(f"it states a tensor of shape {list(size)} where it holds {kept:,} numbers for it")
    return storage.values.as_strided(size, stride, offset) if count else storage.values.new_empty(size)


def _first(arguments: tuple[Any, ...]) -> Any:
    """Return the plain value from which a ``torch.Size``, a device, a set … is made.

    It is not copied, because a file could ask for any number of copies.
    """
    if not arguments:
        raise TorchFileError("it is damaged: its pickle leaves an argument out")
    return arguments[0]


def _mapping(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments == ():
        return {}
    if len(arguments) == 1 and isinstance(arguments[0], dict):
        return arguments[0]
    raise TorchFileError("it is damaged: its pickle fills a mapping with other values")


_CALLED: dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "Counter"): _mapping,
    ("torch", "Size"): _first,
    ("torch", "device"): _first,
    ("__builtin__", "set"): _first,
    ("_codecs", "encode"): _first,
}
"""All functions that a file may call, by their names in torch."""
