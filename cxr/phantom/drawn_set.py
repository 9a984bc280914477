"""A folder of phantoms: drawn once, as a whole, and never over files of others."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from cxr.files import read_mapping, write_json

_LOCK = ".phantom.lock"
_DRAWING = "drawing"  # the setting with the version of what is drawn; nobody types it


class PhantomError(ValueError):
    """The error of a folder that does not hold the phantoms that were asked for."""


@dataclass(frozen=True)
class DrawnSet:
    """A set of phantoms in a folder.

    Args:
        root: the folder.
        settings: what the phantoms depend on.
        name: ``<name>.json`` holds the settings of a complete set, ``<name>.unfinished.json`` those of one that is
            being drawn.
        noun: what is drawn, in the plural, for messages: "films".
        otherwise: what to type to read such items of one's own.
    """

    root: Path
    settings: Mapping[str, float | str]
    name: str
    noun: str
    otherwise: str

    def complete(self, write: Callable[[], None], draw: bool) -> None:
        """Call ``write``, which draws all that is missing, unless the set is complete.

        Raises ``PhantomError`` when the folder holds phantoms drawn with other settings, or other files. With ``draw``
        False it is raised also when the set is not complete, and nothing is written.
        """
        self._refuse_foreign()
        if not draw:
            if not self._is_complete():
                raise self._undrawn()
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / _LOCK):  # the jobs of a sweep start together
            if not self._is_complete():
                write_json(self._unfinished, self.settings)
                write()
                self._unfinished.replace(self._stamp)

    @property
    def _stamp(self) -> Path:
        return self.root / f"{self.name}.json"

    @property
    def _unfinished(self) -> Path:
        return self.root / f"{self.name}.unfinished.json"

    def _noted(self) -> tuple[Path, dict[str, float | str]] | None:
        """Return the file with the settings that the folder was drawn with, and these; None where there is none."""
        # In this order, because a process that ends its drawing now renames the first of these files to the second
        for path in (self._unfinished, self._stamp):
            with suppress(FileNotFoundError):
                return path, read_mapping(path)
        return None

    def _is_complete(self) -> bool:
        noted = self._noted()
        if noted is None:
            return False
        path, there = noted
        differ = [key for key in {**there, **self.settings} if there.get(key) != self.settings.get(key)]
        if differ:
            drawn = ", ".join(f"{key} {there.get(key)} (asked for: {self.settings.get(key)})" for key in differ)
            raise PhantomError(
                f"{self.root} holds phantom {self.noun} drawn with {drawn}. Give data.root another folder, or delete"
                " this one to have it drawn anew"
            )
        return path == self._stamp

    def _refuse_foreign(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise PhantomError(
                f"{self.root} is a file, expected a folder for phantom {self.noun}: give data.root another one"
            )
        there = sorted(path.name for path in self.root.iterdir()) if self.root.exists() else []
        # A lock and part of a file are left where drawing was killed before the first phantom
        foreign = [name for name in there if name != _LOCK and not (name.startswith(".") and name.endswith(".part"))]
        if foreign and self._noted() is None:
            raise PhantomError(
                f"{self.root} holds {len(foreign)} files or folders that are no phantom {self.noun} (first:"
                f" {foreign[0]}), expected an absent or empty folder to draw into. Give data.root another folder, or"
                f" read {self.noun} of your own with {self.otherwise}"
            )

    def _undrawn(self) -> PhantomError:
        asked = ", ".join(f"{name} {value}" for name, value in self.settings.items() if name != _DRAWING)
        return PhantomError(
            f"{self.root}: the phantoms that the checkpoint was trained with are not there, or not all of them, and"
            " none are drawn because a checkpoint names them. Type data.root=FOLDER, where they are now; or, to have"
            f" them drawn ({asked}), +data.read.draw=true"
        )
