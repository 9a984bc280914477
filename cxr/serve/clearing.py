"""What leaves the folder: films that are done with and old, and files that no row of the queue knows."""

import re
import time
from collections.abc import Container
from pathlib import Path

from cxr.report.film_files import OBJECTS, PICTURES
from cxr.serve.intake import FILMS
from cxr.serve.queue import Queue

_OF_FILM = re.compile(r"(p[0-9a-f]+-[0-9]+)[-.]")  # a film's name, and what follows it in those of its files


def clear_old(folder: Path, queue: Queue, hours: float) -> int:
    """Remove films that came so many hours ago and are sent or have failed, with all files; return how many."""
    old = queue.older_than(3600 * hours, time.time())
    for film in old:
        with queue.files:  # so that the same film does not come in between
            queue.remove(film.number)
            (folder / FILMS / f"{film.digest}.dcm").unlink(missing_ok=True)
    if old:
        _unlink(folder, {film.name for film in old}, known=True)
    return len(old)


def clear_strays(folder: Path, queue: Queue) -> None:
    """Remove files that a kill has left between a file and its row; before anything comes in."""
    digests = {digest for (digest,) in queue.read("SELECT digest FROM films")}
    for path in (folder / FILMS).iterdir():
        if path.stem not in digests:
            path.unlink(missing_ok=True)
    _unlink(folder, {name for (name,) in queue.read("SELECT name FROM films")}, known=False)


def _unlink(folder: Path, names: Container[str], known: bool) -> None:
    """Remove the pictures and objects of these films; with ``known`` false, those of all others."""
    for place in (folder / OBJECTS, folder / PICTURES):
        for path in place.iterdir() if place.is_dir() else ():
            found = _OF_FILM.match(path.name)
            if (found is not None and found[1] in names) is known:
                path.unlink(missing_ok=True)
