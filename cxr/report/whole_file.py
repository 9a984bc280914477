"""Files that stand at their place when they are whole, and leave nothing behind where they cannot be written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the path of a part file, which takes the place of ``path`` at the end.

    Where the caller raises, the part is removed. An ``OSError``, as of a full disk, comes out with ``path`` as its file
    name: several libraries leave it out.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
