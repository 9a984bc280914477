"""A disk that takes nothing more, told in one message by every script that leaves results."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxr.config import ConfigError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an ``OSError`` of a full, failing or forbidden disk into a ``ConfigError`` that names the file.

    ``folder`` is named where the error does not say which file it was. Any other ``OSError`` stays as it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise ConfigError(
            f"{error.filename or folder}: cannot be written: {error.strerror}. What is done is kept; when there is"
            " room, the same command goes on from there"
        ) from error
