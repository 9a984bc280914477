"""What a user types for serve.py, checked and in types: addresses, nodes, doors and limits."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cxr.config.errors import ConfigError
from cxr.serve.nodes import Node, check_title, read_address, read_node
from cxr.serve.tls import Tls

_PACKAGES = {"pynetdicom": "pynetdicom", "fastapi": "fastapi", "uvicorn": "uvicorn", "highdicom": "highdicom"}
_PACKAGES |= {"prometheus_client": "prometheus-client", "dicomweb_client": "dicomweb-client"}


@dataclass(frozen=True)
class Settings:
    """How a run of serve.py meets the world; see conf/serve.yaml."""

    title: str
    dicom: tuple[str, int] | None
    http: str | None
    nodes: tuple[Node, ...]
    to_nodes: tuple[Node, ...]
    to_urls: tuple[str, ...]
    token: str | None
    tls: Tls | None
    max_film_mb: float
    associations: int
    silence: float
    free_mb: float
    keep_hours: float
    by_study: bool
    quiet: float
    stop: float


def settings(plain: Mapping[str, Any]) -> Settings:
    """Return the settings in a config. Raises ``ConfigError`` that names the one that is wrong."""
    missing = [package for module, package in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(f"serve.py needs {', '.join(missing)}: pip install 'cxr[serve]'")
    try:
        return _settings(plain)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error


def _settings(plain: Mapping[str, Any]) -> Settings:
    if plain["dicom"] is None and plain["http"] is None:
        raise ConfigError("dicom=null and http=null: there is no way in for films; type one of them")
    if plain["when"] not in ("film", "study"):
        raise ConfigError(f"when is {plain['when']!r}, expected film or study")
    nodes = tuple(read_node(text) for text in _listed(plain["allow"]))
    to_nodes, to_urls = _destinations(plain["to"], nodes)
    return Settings(
        title=check_title(str(plain["ae"])),
        dicom=None if plain["dicom"] is None else read_address(str(plain["dicom"])),
        http=plain["http"],
        nodes=nodes,
        to_nodes=to_nodes,
        to_urls=to_urls,
        token=_token(plain["token"]),
        tls=_tls(plain["tls"]),
        max_film_mb=_above(plain, "max_film_mb", 0),
        associations=int(_above(plain, "max_associations", 0)),
        silence=_above(plain, "timeout", 0),
        free_mb=_above(plain, "free_mb", -1),
        keep_hours=_above(plain, "keep_hours", 0),
        by_study=plain["when"] == "study",
        quiet=_above(plain, "quiet_s", 0),
        stop=_above(plain, "stop_s", 0),
    )


def _destinations(to: Any, nodes: Sequence[Node]) -> tuple[tuple[Node, ...], tuple[str, ...]]:
    """Return the nodes and URLs that ``to`` names."""
    takers: dict[str, Node] = {}
    for node in nodes:
        if node.port is not None and takers.setdefault(node.title, node) != node:
            raise ValueError(f"allow has two nodes {node.title} with a port: results would go to one of them alone")
    if to is None:
        return tuple(takers.values()), ()
    words = _listed(to)
    urls = tuple(word for word in words if "://" in word)
    if wrong := [url for url in urls if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname]:
        raise ValueError(f"to: {urlsplit(wrong[0]).hostname or wrong[0]!r} is no URL of an archive")
    titles = [word for word in words if "://" not in word]
    if unknown := [title for title in titles if title not in takers]:
        known = ", ".join(takers) or "none"
        raise ValueError(f"to names {unknown[0]!r}, expected a URL or a node of allow with a port: {known}")
    return tuple(takers[title] for title in dict.fromkeys(titles)), tuple(dict.fromkeys(urls))


def _token(path: Any) -> str | None:
    if path is None:
        return None
    from cxr.serve.doors import read_token  # of the extra, which is looked for before

    return read_token(Path(path))


def _tls(files: Mapping[str, Any]) -> Tls | None:
    given = {key: Path(value) for key, value in files.items() if value is not None}
    if not given:
        return None
    if not {"certificate", "key"} <= given.keys():
        raise ValueError("tls needs both tls.certificate and tls.key")
    if missing := [f"tls.{key}={path}" for key, path in given.items() if not path.is_file()]:
        raise ValueError(f"{missing[0]}: there is no such file")
    tls = Tls(given["certificate"], given["key"], given.get("ca"))
    try:
        tls.for_callers()
        tls.for_calls()
    except OSError as error:
        raise ValueError(f"the files of tls do not fit together, or are no PEM ({error.strerror})") from error
    return tls


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(word) for word in value]


def _above(plain: Mapping[str, Any], key: str, least: float) -> float:
    value = plain[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least < value < 1e9:
        raise ValueError(f"{key} is {value!r}, expected a number above {least}")
    return float(value)
