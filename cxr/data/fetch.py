"""Copies films and reports of an archive into a folder: ``python -m cxr fetch dicomweb://HOST:PORT/PATH FOLDER``.

What is there already is not fetched again, so the same command goes on after a kill.
"""

import argparse
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from rich.console import Console

from cxr.data.archive import Archive, ArchiveAwayError, ArchiveError, Instance, NotRetrievedError
from cxr.data.archive_query import MODALITIES, Query, missing_client, service_url, wrong_dates
from cxr.data.shards import Shard
from cxr.files import write_whole
from cxr.progress import track
from cxr.read.radiograph import ReadError
from cxr.read.workers import streamed, usable_cores


@dataclass(frozen=True)
class Copy:
    """Writes ``<study>/<instance>.dcm``, both hashes of UIDs, into a folder. It is sent to the worker processes.

    Args:
        archive: that has the instances.
        folder: for their files, which hold patients' names.
    """

    archive: Archive
    folder: Path

    def __call__(self, instance: Instance) -> None:
        """Copy one instance, unless its file is there. Raises ``ReadError`` and ``ArchiveError``."""
        path = self.folder / _hash(instance.study) / f"{_hash(instance.sop)}.dcm"
        if path.exists():
            return
        try:
            data = self.archive.retrieve(instance)
        except NotRetrievedError as error:
            raise ReadError(f"{instance}: cannot be retrieved: {error}") from error
        path.parent.mkdir(mode=0o700, exist_ok=True)  # for its owner alone, whatever the folder above allows
        write_whole(path, data)


def _hash(uid: str) -> str:
    return blake2b(uid.encode(), digest_size=16).hexdigest()  # longer than a pseudonym: no two of millions are the same


def fetch(archive: Archive, query: Query, folder: Path) -> list[ReadError]:
    """Copy what ``query`` wants into ``folder``, and return what could not be had. Raises ``ArchiveError``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    instances = list(archive.instances(query))
    copies = streamed(Copy(archive, folder), instances, usable_cores())
    return [error for _, error in track(copies, "Fetching", len(instances)) if isinstance(error, ReadError)]


def main(prog: str = "python -m cxr fetch") -> None:
    """Read the command line and fetch; exit with 2 for a wrong word, with 1 where something could not be had now."""
    parser = argparse.ArgumentParser(prog=prog, description="Copy films and reports of an archive into a folder.")
    parser.add_argument("archive", help="dicomweb://HOST:PORT/PATH over http, dicomwebs://… over https")
    parser.add_argument("folder", type=Path, help="for the files, which hold patients' names")
    parser.add_argument("--dates", default="", help="of the studies: 20200131, 20200101-20201231, 20200101-")
    parser.add_argument("--modality", nargs="+", default=list(MODALITIES), help="CR DX SR …")
    parser.add_argument(
        "--token", type=Path, help="a file with a bearer token; else ~/.netrc, where that names the host"
    )
    words = parser.parse_args()
    if problem := missing_client() or (wrong_dates(words.dates) if words.dates else None):
        parser.error(problem)
    try:
        url = service_url(words.archive)
        if url is None:
            parser.error(f"{words.archive}: expected dicomweb://HOST:PORT/PATH or dicomwebs://…")
        query = Query(words.dates, tuple(words.modality), Shard())
        failed = fetch(Archive(url, words.token), query, words.folder)
    except (ValueError, ArchiveError) as error:
        parser.exit(1 if isinstance(error, ArchiveAwayError) else 2, f"{error}\n")
    for film in failed:
        Console().print(str(film), style="yellow", highlight=False, markup=False, soft_wrap=True)
    parser.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
