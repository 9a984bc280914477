"""Reads tables of a data set in JSON or YAML. Every error names the file."""

import json
from pathlib import Path
from typing import Any

import yaml

from cxr.data.sources.tables import TableError


def read_json(table: Path) -> Any:
    """Return the content of a JSON file in UTF-8. Raises ``TableError`` if it is no JSON, or has a key twice."""
    try:
        return json.loads(table.read_bytes().decode("utf-8-sig"), object_pairs_hook=_each_key_once)
    except RecursionError as error:
        raise TableError(f"{table} is not a json file of films: its lists are nested too deep to be read") from error
    except ValueError as error:  # bytes that are no UTF-8, text that is no JSON, a number of thousands of digits
        raise TableError(f"{table} is not a json file that can be read: {error}") from error


def read_yaml(table: Path) -> Any:
    """Return the content of a YAML file in UTF-8. Raises ``TableError`` if it is no YAML."""
    try:
        return yaml.safe_load(table.read_bytes().decode("utf-8-sig"))
    except RecursionError as error:
        raise TableError(f"{table} is not a yaml file of settings: its lists are nested too deep to be read") from error
    except (ValueError, yaml.YAMLError) as error:
        raise TableError(f"{table} is not a yaml file that can be read: {error}") from error


def is_number(value: object) -> bool:
    """Return whether a value of a JSON is a number. true and false are none, although Python counts them as 1 and 0."""
    return type(value) in (int, float)


def is_key(value: object) -> bool:
    """Return whether a value of a JSON can be an id: a text that is not empty, or a whole number."""
    return type(value) is int or (type(value) is float and value.is_integer()) or (type(value) is str and value != "")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object with these pairs. Raises ``ValueError`` for a repeated key, since one value would be lost."""
    unique = dict(pairs)
    if len(unique) < len(pairs):
        double = next(key for key in unique if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"the key {double[:60]!r} stands twice in one object, expected once")
    return unique
