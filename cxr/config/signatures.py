"""Reads the signatures of callables that a config names from their source, without importing it.

Importing torch, torchvision and lightning takes seconds. Parsing the file that defines a callable takes milliseconds.
So every argument of a config can be checked before anything is imported.
"""

import ast
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Types of YAML values that fit the names in an annotation. No value of a config can be a Tensor. A name that is not
# listed is a class, for which no value can be checked.
_FITS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "Path": (str,),
    "None": (type(None),),
    "Tensor": (),
}


@dataclass(frozen=True)
class Parameter:
    """One parameter: its annotation as in the source ("" without one), and whether a call must give it."""

    annotation: str
    required: bool

    @property
    def expected(self) -> str:
        """What the annotation allows, for messages: the values of ``Literal[...]`` without its name."""
        return re.sub(r"(?:\w+\.)?Literal\[(.*?)\]", lambda match: match[1].replace(", ", " | "), self.annotation)

    def accepts(self, value: Any) -> bool:
        """Return whether a YAML scalar fits the annotation, also True where the annotation does not allow to decide."""
        parts = _alternatives(self.annotation)
        words = [word for part in parts for word in _words(part)]
        if any(type(value) is type(word) and value == word for word in words):
            return True
        parts = {part for part in parts if not _words(part)}
        if not parts <= _FITS.keys():
            return True
        if isinstance(value, bool):  # in Python True is an int, but in a config it must not be one
            return "bool" in parts
        return isinstance(value, tuple(t for part in parts for t in _FITS[part]))


def _words(annotation: str) -> tuple[Any, ...]:
    """Return the values that ``Literal[...]`` allows, none for another annotation."""
    node = ast.parse(annotation, mode="eval").body if annotation else None
    if not isinstance(node, ast.Subscript) or ast.unparse(node.value).rpartition(".")[2] != "Literal":
        return ()
    members = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return tuple(one.value for one in members if isinstance(one, ast.Constant))  # others are members of an Enum


def _alternatives(annotation: str) -> set[str]:
    """Return the names that an annotation allows: ``Optional[int]`` and ``int | None`` give {"int", "None"}."""

    def names(node: ast.expr) -> set[str]:
        if isinstance(node, ast.BinOp):
            return names(node.left) | names(node.right)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] in ("Optional", "Union"):
            members = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            optional = {"None"} if ast.unparse(node.value).endswith("Optional") else set[str]()
            return optional.union(*(names(member) for member in members))
        return {ast.unparse(node)}

    return names(ast.parse(annotation, mode="eval").body) if annotation else {""}


def signature(target: str) -> Mapping[str, Parameter] | None:
    """Return the parameters of ``package.module.name`` (those of ``__init__`` for a class); None for ``**kwargs``.

    Raises ``LookupError`` when there is no such module or name.
    """
    module, _, name = target.rpartition(".")
    definition = _find(module, name)
    return _imported(module, name) if definition is None else _parameters(*definition)


def constant(target: str, name: str) -> str:
    """Return the text that the class ``package.module.Name``, or the first it inherits it from, gives to ``name``.

    "" where the source does not say, or there is no such class.
    """
    definition = _find(*target.rpartition(".")[::2])
    if definition is None or not isinstance(definition[0], ast.ClassDef):
        return ""
    for line in definition[0].body:
        if isinstance(line, ast.Assign) and name in map(ast.unparse, line.targets):
            return str(line.value.value) if isinstance(line.value, ast.Constant) else ""
    inherited = (constant(f"{definition[1]}.{_class_name(base)}", name) for base in definition[0].bases)
    return next((text for text in inherited if text), "")


def _class_name(base: ast.expr) -> str:
    """The name of a base class as it stands in the source, without what a generic one is of."""
    return ast.unparse(base.value if isinstance(base, ast.Subscript) else base)


def _parameters(node: ast.stmt, module: str) -> Mapping[str, Parameter] | None:
    if isinstance(node, ast.ClassDef):
        method = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if method is None:
            return _inherited(node, module)
        return _arguments(method.args, skip=1)
    if isinstance(node, ast.FunctionDef):
        return _arguments(node.args, skip=0)
    return None


def _inherited(node: ast.ClassDef, module: str) -> Mapping[str, Parameter] | None:
    """Return the parameters of a class without ``__init__``: the fields of a dataclass, else those of its base."""
    decorators = [ast.unparse(d).partition("(")[0].rpartition(".")[2] for d in node.decorator_list]
    if decorators == ["dataclass"] and not node.bases:
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        return {ast.unparse(f.target): Parameter(_text(f.annotation), required=f.value is None) for f in fields}
    if decorators or len(node.bases) > 1:
        return _imported(module, node.name)
    if not node.bases:
        return {}
    definition = _find(module, _class_name(node.bases[0]))
    return _imported(module, node.name) if definition is None else _parameters(*definition)


def _arguments(args: ast.arguments, skip: int) -> Mapping[str, Parameter] | None:
    if args.kwarg is not None:
        return None
    positional = [*args.posonlyargs, *args.args]
    first_default = len(positional) - len(args.defaults)
    named = {
        a.arg: Parameter(_text(a.annotation), required=i < first_default) for i, a in enumerate(positional) if i >= skip
    }
    keyword = {
        a.arg: Parameter(_text(a.annotation), required=default is None)
        for a, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    }
    return named | keyword


def _text(annotation: ast.expr | None) -> str:
    return "" if annotation is None else ast.unparse(annotation)


@functools.cache
def _find(module: str, name: str, depth: int = 8) -> tuple[ast.stmt, str] | None:
    """Follow ``from x import name`` from file to file to the definition; None if the source does not show it."""
    path = _source(module)
    if path is None or depth == 0:
        return None
    for node in _parse(path).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return node, module
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                wanted = name if alias.name == "*" else alias.name
                if name == (alias.asname or wanted):
                    definition = _find(_absolute(module, path, node), wanted, depth - 1)
                    if definition is not None or alias.name != "*":
                        return definition
    return None


@functools.cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _absolute(module: str, path: Path, node: ast.ImportFrom) -> str:
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    base = package[: len(package) - node.level + 1] if node.level else []
    return ".".join([*base, *(node.module.split(".") if node.module else [])])


def _source(module: str) -> Path | None:
    """Return the file of a module without importing its parents, as ``find_spec`` would."""
    if not module:
        return None
    relative = Path(*module.split("."))
    for root in (*map(Path, sys.path), Path(__file__).parents[1]):  # the last for an editable installation
        for path in (root / relative / "__init__.py", root / relative.with_suffix(".py")):
            if path.is_file():
                return path
    return None


def _imported(module: str, name: str) -> Mapping[str, Parameter] | None:
    """Import a callable and return its parameters: for one that is compiled, generated or inherited."""
    try:
        callable_ = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise LookupError(f"there is no {name!r} in {module!r}") from None
    try:
        parameters = inspect.signature(callable_).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {
        p.name: Parameter(
            "" if p.annotation is p.empty else inspect.formatannotation(p.annotation).replace("pathlib.", ""),
            required=p.default is p.empty and p.kind is not p.VAR_POSITIONAL,
        )
        for p in parameters
    }
