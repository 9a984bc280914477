"""The films that predict.py is given: those of a folder, a table or an archive, or the part that is this run's."""

import hashlib
import os
from collections.abc import Container, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cxr.config.errors import ConfigError
from cxr.data.archive import Archive, Instance
from cxr.data.archive_query import MODALITIES, Query, missing_client, service_url, wrong_dates
from cxr.data.fetched import FETCHED, FetchAndDecode, fetched_films
from cxr.data.film_list import LIST, FilmList, kept_list
from cxr.data.inputs import Decode, Input, is_course, read_inputs, table_of
from cxr.data.shards import Shard
from cxr.files import short_digest_of
from cxr.progress import working
from cxr.read.files import names_below
from cxr.report.film_key import folder_of, image_name


@dataclass(frozen=True)
class GivenFilms:
    """The films of a run of predict.py.

    Args:
        films: in their order; film n has the number n + 1.
        digest: of the list of them.
        folder: that holds them all; of an archive's films, that of the run.
        archive: that has them; None for files.
        shard: which part of all films they are; None where they are all.
    """

    films: list[Input] | FilmList
    digest: str
    folder: Path
    archive: Archive | None = None
    shard: Shard | None = None

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, number: int) -> Input:
        """Return a film by its number."""
        return self.films[number - 1]

    @property
    def course(self) -> bool:
        """Whether they are those of the course's table."""
        return isinstance(self.films, list) and is_course(self.films)

    def left(self, done: Container[int]) -> Iterator[Input]:
        """Yield the films whose numbers are not in ``done``."""
        if isinstance(self.films, FilmList):
            return self.films.left(done)
        return (film for film in self.films if film.number not in done)

    def decoding(self, decode: Decode, keep: bool) -> Decode | FetchAndDecode:
        """Return what reads one film; with ``keep`` the film's file is there until ``forget``."""
        return decode if self.archive is None else FetchAndDecode(self.archive, decode, keep)

    def at_work(self, folder: Path) -> AbstractContextManager[Any]:
        """Return the block in which films are fetched into the run's folder."""
        return nullcontext() if self.archive is None else fetched_films(folder)

    def forget(self, film: Input) -> None:
        """Remove the file of a fetched film that is done."""
        if self.archive is not None:
            film.path.unlink(missing_ok=True)

    def named(self, names: str) -> bool:
        """Return whether tables name the films by path, as ``names`` wants it: films of an archive have none."""
        return names == "paths" and self.archive is None

    def image(self, number: int) -> str:
        """Return how tables name a film by path."""
        return image_name(self[number].path, self.folder)

    def shown(self, number: int) -> str:
        """Return how a film is named to the user: by its path, or by its number where an archive has it."""
        return f"film {number}" if self.archive is not None else str(self[number])


def refuse_settings(cfg: DictConfig) -> None:
    """Raise ``ConfigError`` for settings that do not say which films are meant."""
    archive = service_url(str(cfg.images)) is not None
    only = [key for key in ("dates", "modality", "token") if cfg[key] is not None]
    if only and not archive:
        raise ConfigError(f"{only[0]}=… chooses films of an archive; images={cfg.images} is none (dicomweb://…)")
    if cfg.dates is not None and (wrong := wrong_dates(str(cfg.dates))):
        raise ConfigError(wrong)
    if cfg.token is not None and not Path(cfg.token).is_file():
        raise ConfigError(f"token={cfg.token}: there is no such file, expected one that holds a bearer token")
    if archive and (missing := missing_client()):
        raise ConfigError(missing)
    if (cfg.shard is None) != (cfg.shards is None):
        raise ConfigError("shard=… and shards=… belong together: shard=0 shards=100 is the first part of a hundred")
    for key in ("shard", "shards"):
        if cfg[key] is not None and type(cfg[key]) is not int:
            raise ConfigError(f"{key} is {cfg[key]!r}, expected a number")
    if cfg.shard is not None and not 0 <= cfg.shard < cfg.shards:
        raise ConfigError(f"shard is {cfg.shard}, expected 0 or more, and less than shards={cfg.shards}")


def given_films(cfg: DictConfig, folder: Path) -> GivenFilms:
    """Return the films that ``cfg`` names. No film is opened.

    Those of an archive, or of a shard, are listed once, into the folder of the run. Raises ``ValueError`` where
    there are none, and ``OSError`` or ``ArchiveError`` where they cannot be listed.
    """
    shard = None if cfg.shard is None else Shard(int(cfg.shard), int(cfg.shards))
    url = service_url(str(cfg.images))
    if url is not None:
        archive = Archive(url, None if cfg.token is None else Path(cfg.token))
        return _of_archive(archive, _query(cfg, shard), folder, shard)
    if shard is not None:
        return _of_shard(Path(cfg.images), shard, folder)
    return films_at(Path(cfg.images))


def films_at(images: Path) -> GivenFilms:
    """Return all films of a folder or a table, or one film. Raises as ``given_films`` does."""
    films = read_inputs(images)
    return GivenFilms(films, _digest(films), folder_of(images))


def _query(cfg: DictConfig, shard: Shard | None) -> Query:
    modality = MODALITIES if cfg.modality is None else cfg.modality
    modalities = (modality,) if isinstance(modality, str) else tuple(str(one) for one in modality)
    return Query("" if cfg.dates is None else str(cfg.dates), modalities, shard or Shard())


def _of_archive(archive: Archive, query: Query, folder: Path, shard: Shard | None) -> GivenFilms:
    path, about = folder / LIST, [archive.url, query.dates, query.modalities, query.shard.number, query.shard.of]
    with working("asking the archive which films it has"):
        kept_list(path, about, lambda: (film[1:] for film in archive.instances(query)))
    place = folder / FETCHED

    def film(number: int, uids: Sequence[str]) -> Input:
        return Input(number, place / f"{number}.dcm", instance=Instance(archive.url, *uids))

    films = FilmList(path, film)
    if not len(films) and shard is None:
        path.unlink()
        days = f" of {query.dates}" if query.dates else ""
        asked = f"modality {' or '.join(query.modalities)}{days}"
        undated = " (studies without a StudyDate come only where none are typed)" if query.dates else ""
        raise ValueError(f"{archive.url} has no film of {asked}; type other dates= or modality={undated}")
    return GivenFilms(films, short_digest_of(path), folder, archive, shard)


def _of_shard(images: Path, shard: Shard, folder: Path) -> GivenFilms:
    """Return the part of a folder, in the order of its paths, or of a list, in the order of its lines."""
    path, about, table = folder / LIST, [str(images), shard.number, shard.of], table_of(images)
    with working("listing films"):
        kept_list(path, about, lambda: _names(images, shard) if table is None else _listed(images, shard))
    films = FilmList(path, lambda number, name: Input(number, Path(name)), unseen=table is None)
    return GivenFilms(films, short_digest_of(path), folder_of(images), shard=shard)


def _names(images: Path, shard: Shard) -> Iterator[str]:
    if not images.is_dir():
        raise ValueError(f"{images} is one film; leave shard and shards out")
    root, any_file, names = len(str(images)) + 1, False, list[str]()
    for name in names_below(images):
        any_file = True
        if shard.holds(name[root:]):  # a shard is the same where the folder stands elsewhere
            names.append(name.replace(os.sep, "\0"))  # which sorts as Paths do, in a tenth of their memory
    if not any_file:
        raise ValueError(f"{images}: holds no file")
    names.sort()
    return (name.replace("\0", os.sep) for name in names)


def _listed(images: Path, shard: Shard) -> list[str]:
    films = read_inputs(images)
    if is_course(films):
        raise ValueError(f"{images} is the course's table, whose films are few; leave shard and shards out")
    return [str(film.path) for film in films if shard.holds(str(film.path))]


def _digest(films: list[Input]) -> str:
    paths = "\n".join(f"{film.path.absolute()} {film.id}" for film in films)
    return hashlib.blake2b(os.fsencode(paths), digest_size=8).hexdigest()
