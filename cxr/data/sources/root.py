"""The folder of a data set. Nothing that its tables name is read outside it, whichever way it is named."""

import os
from pathlib import Path

from cxr.data.sources.tables import TableError, shown

_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes; what file systems and Linux take, less what stands before a path


class Root:
    """The folder of a data set, which neither a path of its tables (``..``, an absolute one) nor a link may leave.

    A data set comes from somewhere else, the machine's other files do not: a table that names ``../../../etc/passwd``,
    or an archive with a link to it, would have them read and written into pictures and reports. The folder itself may
    be a link, since the user names it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._real = _real(folder)
        self._inside = str(self._real).rstrip(os.sep) + os.sep
        self._real_folders: dict[Path, Path] = {}  # a data set has many files and few folders

    def refusal(self, path: Path) -> str:
        """Say why ``path`` is not to be read, "" where it lies in the folder. The file need not be there."""
        real = self._real_path(path)
        if real == self._real or str(real).startswith(self._inside):
            return ""
        if ".." not in path.parts and path.absolute().is_relative_to(self.folder.absolute()):
            return (
                f"leads by a link to {real}, outside the data set {self.folder}, of which no link is followed out; "
                f"put its tables into the folder of the real files and type data.root=THAT_FOLDER"
            )
        return f"leads to {real}, outside the data set {self.folder}, expected a file below that folder"

    def check(self, path: Path, error: type[ValueError] = TableError) -> Path:
        """Return ``path``. Raises ``error`` where it leads out of the folder."""
        if refusal := self.refusal(path):
            raise error(f"{path} {refusal}")
        return path

    def below(self, path: Path) -> Path:
        """Return ``path``, which lies in the folder, as a path that begins with the folder and holds no ``..``."""
        if path.is_relative_to(self.folder) and ".." not in path.parts:
            return path
        return self.folder / self._real_path(path).relative_to(self._real)

    def _real_path(self, path: Path) -> Path:
        if path.parent not in self._real_folders:
            self._real_folders[path.parent] = _real(path.parent)
        real = self._real_folders[path.parent] / path.name
        return _real(real) if path.name == ".." or real.is_symlink() else real


def wrong_name(listed: object) -> str:
    """Say why what a table lists can be no path of a file, "" where it can be one."""
    if not isinstance(listed, str) or not listed:
        return f"{shown(listed)} is no path of a file"
    try:
        encoded = os.fsencode(listed)
    except UnicodeEncodeError:  # half of a surrogate pair, which json can hold
        return f"{shown(listed)} is no text that a file can be named with"
    if b"\0" in encoded:
        return f"{shown(listed)} holds a NUL byte, which no path of a file does"
    longest = max(map(len, encoded.split(b"/")))
    if longest > _LONGEST_NAME or len(encoded) > _LONGEST_PATH:
        return f"{shown(listed)} is too long for the path of a file, expected names of at most {_LONGEST_NAME} bytes"
    return ""


def _real(path: Path) -> Path:
    # not Path.resolve, which raises RuntimeError for a link that leads to itself
    return Path(os.path.realpath(path))
