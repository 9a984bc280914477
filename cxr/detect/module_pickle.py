"""The numbers of a whole pickled module, read without running anything that the file names.

ultralytics writes its weights as pickled modules. To unpickle one is to call whatever the file says. Here every class
and function but those that lay out tensors is replaced by one that does nothing.
"""

import collections
import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from cxr.detect.weights import State, WeightsError

_KEPT = {
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
}


def read_module_state(path: str) -> State:
    """Return the parameters and buffers, float32, of the module in a .pt of ultralytics, by their dotted names.

    The averaged module (``ema``) is taken where there is one, as ultralytics does.

    Raises:
        WeightsError: no such file, or no module of ultralytics in it.
    """
    if not Path(path).is_file():
        raise WeightsError(f"model.weights={path}: no such file; expected null, a .pt, a .pth or a .ckpt")
    if not zipfile.is_zipfile(path) or _is_script(path):
        raise WeightsError(f"{path}: not a .pt of ultralytics that can be read safely; expected its own zip format")
    try:
        content = torch.load(path, map_location="cpu", pickle_module=_INERT, weights_only=False)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise WeightsError(f"{path}: not a .pt of ultralytics that can be read safely: {error}") from error
    whole = content if isinstance(content, dict) else {}
    module = whole.get("ema") or whole.get("model")
    state = {name: value.float() for name, value in _numbers(module) if value.is_floating_point()}
    if not state:
        raise WeightsError(f"{path}: holds no module; expected a .pt of ultralytics")
    return state


class Inert:
    """Stands for every class and function of a file: takes anything, keeps what is set on it, does nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> "Inert":
        """Take any arguments."""
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.state: Any = {}

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        """Take the items of a class that was a mapping."""

    def extend(self, items: object) -> None:
        """Take the items of a class that was a list."""

    append = add = update = extend


class InertUnpickler(pickle.Unpickler):
    """Finds nothing but what lays out tensors."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few functions that are kept, a dtype, or a class that does nothing."""
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        return _KEPT.get((module, name), Inert)


def _load(file: io.BufferedIOBase, **kwargs: Any) -> Any:
    return InertUnpickler(file, **kwargs).load()


_INERT = SimpleNamespace(Unpickler=InertUnpickler, load=_load, __name__="cxr.detect.module_pickle")


def _is_script(path: str) -> bool:
    """Whether torch would run the file as a TorchScript program instead of unpickling it."""
    with zipfile.ZipFile(path) as archive:
        return any(name.rsplit("/", 1)[-1] == "constants.pkl" for name in archive.namelist())


def _numbers(module: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    state = module.state if isinstance(module, Inert) else None
    if not isinstance(state, dict):
        return
    for kind in ("_parameters", "_buffers"):
        for name, value in (state.get(kind) or {}).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value.detach()
    for name, child in (state.get("_modules") or {}).items():
        yield from _numbers(child, f"{prefix}{name}.")
