"""Nodes of a checkpoint's config, built again: one recursion, and one rule for what may be called.

A checkpoint is a file from anywhere, and Hydra would call whatever its config names. Here a node is called only

- where the parameter that it is given for wants what it gives: ``backbone: Callable[..., Backbone]`` takes functions
  that return a ``Backbone``, ``steps: Sequence[Step]`` takes classes of steps, a number takes no call at all; and
- where it is a public function or class that this project defines in the module it names, or one of a module that the
  user has named in ``trust``, which that module or another one in ``trust`` defines.

Everything else in a node is a plain value of the type that the signature says, within sane limits
(``cxr.runs.checkpoint_settings``).
"""

import collections.abc
import importlib
import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import Any, Union, get_args, get_origin, get_type_hints

from cxr.runs.checkpoint import Checkpoint, entry_at, short, wrong
from cxr.runs.checkpoint_settings import refuse_unfit

_NAME = r"[A-Za-z]\w*"
_HOUSE = "cxr"
_NODE = ("_target_", "_partial_")
_CONTAINERS = (collections.abc.Sequence, list, tuple, collections.abc.Mapping, dict)


def rebuilt(
    checkpoint: Checkpoint,
    key: str,
    kind: Any,
    within: str = _HOUSE,
    replaced: Mapping[str, Any] | None = None,
    **given: Any,
) -> Any:
    """Return what the node at ``key`` makes; where a callable is wanted, the function with the node's settings.

    Args:
        checkpoint: its config holds the node.
        key: dotted, such as "data.intensity.steps.0".
        kind: annotation of what is wanted there: a class, or ``Callable[..., class]``.
        within: the module or package of this project that may define it.
        replaced: settings that take the place of the checkpoint's wherever a call below has one of that name.
        given: settings of this node that the checkpoint does not say.

    Raises ``ConfigError`` for a call that may not be made there, and for a setting that does not fit it.
    """
    replaced = replaced or {}
    call = callable_at(checkpoint, key, kind, within)
    arguments = _arguments(checkpoint, key, call, replaced, given)
    arguments |= {name: value for name, value in replaced.items() if name in inspect.signature(call).parameters}
    arguments |= given
    return partial(call, **arguments) if _returned(kind) is not None else call(**arguments)


def callable_at(checkpoint: Checkpoint, key: str, kind: Any, within: str = _HOUSE) -> Callable[..., Any]:
    """Return what the node at ``key`` names, where it may be called for ``kind``. Raises ``ConfigError`` else."""
    target = entry_at(checkpoint, f"{key}._target_", str)
    if re.fullmatch(rf"{_NAME}(\.{_NAME})+", target):
        module, _, name = target.rpartition(".")
        trusted = _is_within(module, checkpoint.trust)
        definition = _defined(module, name) if trusted or _is_within(module, (within,)) else None
        if definition is not None and trusted and _is_within(definition.__module__, checkpoint.trust):
            return definition
        if definition is not None and not trusted and definition.__module__ == module and _gives(definition, kind):
            return definition
    advice = _advice(target, kind)
    raise wrong(checkpoint, f"{key}._target_ is {short(target)}, which a checkpoint may not call there{advice}")


def _arguments(
    checkpoint: Checkpoint, key: str, call: Callable[..., Any], replaced: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    node = entry_at(checkpoint, key, dict)
    parameters = inspect.signature(call).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    hints = get_type_hints(call.__init__ if inspect.isclass(call) else call)
    arguments = {}
    for name, value in node.items():
        if name in _NODE or name in given or (name in replaced and name in parameters):
            continue
        place = f"{key}.{name}"
        if name.startswith("_"):
            raise wrong(checkpoint, f"{place} is {short(value)}, expected plain values only in {key}")
        if name not in parameters and not anything:
            raise wrong(checkpoint, f"{key} does not fit this version: {call.__name__} takes no argument {name!r}")
        arguments[name] = _value(checkpoint, place, hints.get(name, Any), replaced, call.__name__)
    return arguments


def _value(checkpoint: Checkpoint, key: str, hint: Any, replaced: Mapping[str, Any], function: str) -> Any:
    """Return the value at ``key`` for a parameter of ``function`` with an annotation, nodes in it rebuilt."""
    value = _plain_at(checkpoint, key)
    if isinstance(value, Mapping) and "_target_" in value:
        return rebuilt(checkpoint, key, _of_calls(hint), replaced=replaced)
    record: Any = next((one for one in _alternatives(hint) if is_dataclass(one)), None)
    if isinstance(value, Mapping) and record is not None:
        return record(**_arguments(checkpoint, key, record, replaced, {}))
    inner = next((get_args(one)[-1] for one in _alternatives(hint) if get_origin(one) in _CONTAINERS), None)
    if _holds_nodes(value) and inner is not None:
        if isinstance(value, Mapping):
            return {name: _value(checkpoint, f"{key}.{name}", inner, replaced, function) for name in value}
        return [_value(checkpoint, f"{key}.{i}", inner, replaced, function) for i in range(len(value))]
    refuse_unfit(checkpoint, key, value, hint, function)
    return value


def _plain_at(checkpoint: Checkpoint, key: str) -> Any:
    node: Any = checkpoint.config
    for name in key.split("."):
        node = node[int(name)] if isinstance(node, list) else node[name]
    return node


def _holds_nodes(value: Any) -> bool:
    """Whether a node stands anywhere in lists and mappings."""
    if isinstance(value, Mapping):
        return "_target_" in value or any(_holds_nodes(child) for child in value.values())
    return isinstance(value, list) and any(_holds_nodes(child) for child in value)


def _defined(module: str, name: str) -> Callable[..., Any] | None:
    """Return the function or class of that name in a module, None where there is none."""
    try:
        definition = vars(importlib.import_module(module)).get(name)
    except ModuleNotFoundError:
        return None
    return definition if inspect.isfunction(definition) or inspect.isclass(definition) else None


def _is_within(module: str, packages: collections.abc.Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _gives(definition: Callable[..., Any], kind: Any) -> bool:
    """Whether a call of ``definition`` gives what an annotation wants."""
    wanted = _returned(kind)
    given = definition if inspect.isclass(definition) else get_type_hints(definition).get("return")
    for one in _alternatives(kind if wanted is None else wanted):
        if inspect.isclass(one) and get_origin(one) is None:
            if inspect.isclass(given) and get_origin(given) is None and issubclass(given, one) and one is not object:
                return True
        elif given == one:
            return True
    return False


def _returned(kind: Any) -> Any:
    """Return what a ``Callable[..., R]`` returns; None for another annotation."""
    return next((get_args(one)[1] for one in _alternatives(kind) if get_origin(one) is collections.abc.Callable), None)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """Return what ``A | B | None`` allows, None left out."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return tuple(one for one in options if one is not type(None))


def _of_calls(hint: Any) -> Any:
    """Return what a call must give for a parameter with this annotation; no call gives a plain value."""
    plain = (Any, str, int, float, bool, object)
    return _Nothing if any(one in plain or get_origin(one) in _CONTAINERS for one in _alternatives(hint)) else hint


class _Nothing:
    """What no call gives."""


def _advice(target: str, kind: Any) -> str:
    """Return what a user may do where the call is one of theirs, "" where there is nothing to be done."""
    module = target.rpartition(".")[0]
    if not re.fullmatch(rf"{_NAME}(\.{_NAME})*", module):
        return ""
    if not _is_within(module, (_HOUSE,)):
        return f"; where it is code of your own that may run here, type trust=[{module}]"
    return "; annotate the parameter with what it wants, if it is one of yours" if kind is _Nothing else ""
