"""What an archive is asked for, as a user types it: its address, days and modalities."""

import importlib.util
import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from cxr.data.shards import Shard

MODALITIES = ("CR", "DX")
"""Modalities of the films that are asked for where nothing else is said."""

_SCHEMES = {"dicomweb": "http", "dicomwebs": "https"}


@dataclass(frozen=True)
class Query:
    """Which films of an archive are wanted.

    Args:
        dates: of their studies: ``20200131``, ``20200101-20201231``, ``20200101-`` or ``-20201231``; "" for all.
        modalities: of their series.
        shard: the part of them. All films of a study are in one part.
    """

    dates: str
    modalities: tuple[str, ...]
    shard: Shard


def service_url(images: str) -> str | None:
    """Return the URL of the archive that ``images`` names: ``dicomweb://…`` is http, ``dicomwebs://…`` is https.

    Return None where it names a file or a folder. Raises ``ValueError``, without the text where that holds a password.
    """
    scheme, found, rest = images.partition("://")
    if scheme in ("http", "https") and found:
        right = "dicomwebs" if scheme == "https" else "dicomweb"
        raise ValueError(f"an archive is named by {right}://HOST:PORT/PATH, not by {scheme}://")
    if scheme not in _SCHEMES or not found:
        return None
    try:
        parts = urlsplit(f"{_SCHEMES[scheme]}://{rest}")
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{scheme}://… is no address of an archive ({type(error).__name__})") from None
    if "@" in rest:
        raise ValueError(
            f"{scheme}://…@… holds a user or a password, which would stand in files and logs: leave it out, and put it"
            " into ~/.netrc, or type token=FILE"
        )
    if parts.query or parts.fragment or not parts.hostname or port == 0:
        raise ValueError(f"{images} is no address of an archive, expected {scheme}://HOST:PORT/PATH")
    return f"{_SCHEMES[scheme]}://{rest}".rstrip("/")


def missing_client() -> str | None:
    """Return what to install, None where the client of archives is there."""
    if importlib.util.find_spec("dicomweb_client") is None:
        return "an archive (dicomweb://…) needs dicomweb-client: pip install 'cxr[serve]'"
    return None


def wrong_dates(dates: str) -> str | None:
    """Return what is wrong with the dates of a query, None where they are a day or a range of days."""
    first, dash, last = dates.partition("-")
    days = [day for day in (first, last) if day]
    if not days or not all(_is_day(day) for day in days):
        return f"dates is {dates!r}, expected days as YYYYMMDD: 20200131, 20200101-20201231, 20200101- or -20201231"
    if dash and first and last and first > last:
        return f"dates is {dates!r}, expected the earlier day first"
    return None


def _is_day(day: str) -> bool:
    try:
        datetime.strptime(day, "%Y%m%d")
    except ValueError:
        return False
    return bool(re.fullmatch(r"\d{8}", day))
