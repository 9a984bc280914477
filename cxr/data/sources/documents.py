"""Tables of a data set that are json or yaml, read with an error that names the file whatever is in it."""

import json
from pathlib import Path
from typing import Any

import yaml

from cxr.data.sources.tables import TableError


def read_json(table: Path) -> Any:
    """Return what a json in UTF-8 holds. Raises ``TableError`` for what is none, or has a key of an object twice."""
    try:
        return json.loads(table.read_bytes().decode("utf-8-sig"), object_pairs_hook=_each_key_once)
    except RecursionError as error:
        raise TableError(f"{table} is not a json file of films: its lists are nested too deep to be read") from error
    except ValueError as error:  # bytes that are no UTF-8, text that is no json, a number of thousands of digits
        raise TableError(f"{table} is not a json file that can be read: {error}") from error


def read_yaml(table: Path) -> Any:
    """Return what a yaml in UTF-8 holds. Raises ``TableError`` for what is none."""
    try:
        return yaml.safe_load(table.read_bytes().decode("utf-8-sig"))
    except RecursionError as error:
        raise TableError(f"{table} is not a yaml file of settings: its lists are nested too deep to be read") from error
    except (ValueError, yaml.YAMLError) as error:
        raise TableError(f"{table} is not a yaml file that can be read: {error}") from error


def is_number(value: object) -> bool:
    """Whether a value of a json is a number; true and false, which Python counts as 1 and 0, are none."""
    return type(value) in (int, float)


def is_key(value: object) -> bool:
    """Whether a value of a json can be an id: a text that is not empty, or a whole number."""
    return type(value) is int or (type(value) is float and value.is_integer()) or (type(value) is str and value != "")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object with these pairs. Of a key that stands twice the first value would be lost unseen."""
    found = dict(pairs)
    if len(found) < len(pairs):
        double = next(key for key in found if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"the key {double[:60]!r} stands twice in one object, expected once")
    return found
