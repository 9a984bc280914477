"""What leaves the folder: films that are done with and old, and files that no row of the queue knows.

And what is made anew in it after the machine was restarted.
"""

import re
import time
from collections.abc import Container
from pathlib import Path

from cxr.files import write_whole
from cxr.report.film_files import OBJECTS, PICTURES
from cxr.serve.intake import FILMS
from cxr.serve.queue import Queue

_BOOT, _NOTED = Path("/proc/sys/kernel/random/boot_id"), "boot_id"
_OF_FILM = re.compile(r"(p[0-9a-f]+-[0-9]+)[-.]")  # a film's name, and what follows it in those of its files


def clear_old(folder: Path, queue: Queue, hours: float) -> int:
    """Remove films that came so many hours ago and are sent or have failed, with all files; return how many."""
    gone = set()
    for film in queue.older_than(3600 * hours, time.time()):
        with queue.files:  # so that the same film does not come in between
            if queue.remove(film.number):
                (folder / FILMS / f"{film.digest}.dcm").unlink(missing_ok=True)
                gone.add(film.name)
    if gone:
        _unlink(folder, gone, known=True)
    return len(gone)


def clear_strays(folder: Path, queue: Queue) -> None:
    """Remove files that a kill has left between a file and its row; before anything comes in."""
    digests = {digest for (digest,) in queue.read("SELECT digest FROM films")}
    for path in (folder / FILMS).iterdir():
        if path.stem not in digests:
            path.unlink(missing_ok=True)
    _unlink(folder, {name for (name,) in queue.read("SELECT name FROM films")}, known=False)


def doubt_unsent(folder: Path, queue: Queue) -> None:
    """Have films detected again whose objects were not all taken when the machine ended, if it has ended since.

    Objects are not flushed to the disk. After a power cut one may be cut short in a way that no reader notices. Linux
    says whether the machine is another run of itself.
    """
    now = _BOOT.read_text() if _BOOT.exists() else ""
    noted = folder / _NOTED
    if noted.exists() and noted.read_text() != now:
        queue.doubt_unsent()
    write_whole(noted, now)


def _unlink(folder: Path, names: Container[str], known: bool) -> None:
    """Remove the pictures and objects of these films; with ``known`` false, those of all others."""
    for place in (folder / OBJECTS, folder / PICTURES):
        for path in place.iterdir() if place.is_dir() else ():
            found = _OF_FILM.match(path.name)
            if (found is not None and found[1] in names) is known:
                path.unlink(missing_ok=True)
