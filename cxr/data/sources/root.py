"""The folder of a data set. No file outside of it is read, whatever path a table of the data set contains."""

import os
from collections.abc import Mapping
from pathlib import Path

from cxr.data.sources.tables import TableError, raise_problems, shown

_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes; the path may be put behind a folder


class Root:
    """The folder of a data set. No path in a table (``..``, an absolute path) and no link may lead out of it.

    A data set comes from other people, the other files of this machine do not. With ``../../../etc/passwd`` in a table,
    or a link to it in an archive, such files would be read and appear in pictures and reports. The folder itself may be
    a link, since the user chooses it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._real = _real(folder)
        self._inside = str(self._real).rstrip(os.sep) + os.sep
        self._real_folders: dict[Path, Path] = {}  # results are kept, because a data set has many files in few folders

    def refusal(self, path: Path) -> str:
        """Return why ``path`` must not be read, "" if it is in the folder. The file need not exist."""
        real = self._real_path(path)
        if real == self._real or str(real).startswith(self._inside):
            return ""
        if ".." not in path.parts and path.absolute().is_relative_to(self.folder.absolute()):
            return (
                f"leads by a link to {real}, outside the data set {self.folder}, of which no link is followed out; "
                f"put its tables into the folder of the real files and type data.root=THAT_FOLDER"
            )
        return f"leads to {real}, outside the data set {self.folder}, expected a file below that folder"

    def check(self, path: Path) -> Path:
        """Return ``path``. Raises ``TableError`` if it leads out of the folder."""
        if refusal := self.refusal(path):
            raise TableError(f"{path} {refusal}")
        return path

    def check_images(self, table: Path, images: Mapping[str, Path]) -> None:
        """Raise one ``TableError`` for all images of a table, by their names, that lead out of the folder."""
        refusals = ((name, self.refusal(path)) for name, path in images.items())
        raise_problems(table, [f"the image {name} {refusal}" for name, refusal in refusals if refusal])

    def below(self, path: Path) -> Path:
        """Return ``path``, which is in the folder, as a path that begins with the folder and contains no ``..``."""
        if path.is_relative_to(self.folder) and ".." not in path.parts:
            return path
        return self.folder / self._real_path(path).relative_to(self._real)

    def _real_path(self, path: Path) -> Path:
        if path.parent not in self._real_folders:
            self._real_folders[path.parent] = _real(path.parent)
        real = self._real_folders[path.parent] / path.name
        return _real(real) if path.name == ".." or real.is_symlink() else real


def wrong_name(listed: object) -> str:
    """Return why a value of a table cannot be the path of a file, "" if it can be one."""
    if not isinstance(listed, str) or not listed:
        return f"{shown(listed)} is no path of a file"
    try:
        encoded = os.fsencode(listed)
    except UnicodeEncodeError:  # half of a surrogate pair, which a JSON may contain
        return f"{shown(listed)} is no text that a file can be named with"
    if b"\0" in encoded:
        return f"{shown(listed)} holds a NUL byte, which no path of a file does"
    longest = max(map(len, encoded.split(b"/")))
    if longest > _LONGEST_NAME or len(encoded) > _LONGEST_PATH:
        return f"{shown(listed)} is too long for the path of a file, expected names of at most {_LONGEST_NAME} bytes"
    return ""


def _real(path: Path) -> Path:
    # Path.resolve would raise RuntimeError for a link that leads to itself
    return Path(os.path.realpath(path))
