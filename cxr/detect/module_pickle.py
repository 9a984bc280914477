"""Reads the numbers of a pickled module without running anything that the file names.

ultralytics writes its weights as pickled modules. Unpickling calls whatever the file names. Here an ``Opaque`` stands
for every object but tensors and plain data, and keeps what the object was filled with.
"""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from cxr.learn.plain_pickle import Opaque
from cxr.learn.torch_archive import TorchFileError
from cxr.learn.torch_file import read_torch_file, refuse_not_finite
from cxr.learn.weights import State, WeightsError


def read_module_state(path: str) -> State:
    """Return the parameters and buffers, float32, of the module in a .pt of ultralytics, by their dotted names.

    The averaged module (``ema``) is taken where there is one, as ultralytics does.

    Raises:
        WeightsError: there is no such file, or it holds no module of ultralytics.
    """
    if not Path(path).is_file():
        raise WeightsError(f"model.weights={path}: no such file; expected null, a .pt, a .pth or a .ckpt")
    try:
        content = read_torch_file(path, opaque=True)
        whole = content if isinstance(content, dict) else {}
        module = next((whole[name] for name in ("ema", "model") if isinstance(whole.get(name), Opaque)), None)
        state = {name: value.float() for name, value in _numbers(module) if value.is_floating_point()}
        refuse_not_finite(state)
    except (TorchFileError, OSError) as error:
        raise WeightsError(f"{path}: not a .pt of ultralytics that can be read safely: {error}") from error
    if not state:
        raise WeightsError(f"{path}: holds no module; expected a .pt of ultralytics")
    return state


def _numbers(module: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for kind in ("_parameters", "_buffers"):
        for name, value in _part(module, kind).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
    for name, child in _part(module, "_modules").items():
        yield from _numbers(child, f"{prefix}{name}.")


def _part(module: object, name: str) -> dict[str, object]:
    """Return the mapping that a module has under an attribute; an empty one where it has no such attribute."""
    state = module.state if isinstance(module, Opaque) else None
    part = state.get(name) if isinstance(state, dict) else None
    return part if isinstance(part, dict) else {}
