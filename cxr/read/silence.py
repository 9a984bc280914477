"""Keeps pydicom and highdicom silent while films are read and written about.

What they warn of is a value of the header, and a value may be a patient's name.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock

from pydicom import config


class Shared:
    """A setting of the whole process that stands as long as any thread asks for it.

    Were it set and restored by each thread for itself, the first to end would end it for the others.

    Args:
        setting: returns a context in which the setting stands.
    """

    def __init__(self, setting: Callable[[], AbstractContextManager[None]]) -> None:
        self._setting = setting
        self._lock = Lock()
        self._users = 0
        self._context: AbstractContextManager[None] | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Return a context in which the setting stands."""
        with self._lock:
            self._users += 1
            if self._context is None:
                self._context = self._setting()
                self._context.__enter__()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0 and self._context is not None:
                    self._context.__exit__(None, None, None)
                    self._context = None


@contextmanager
def _without_warnings() -> Iterator[None]:
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it logs what it warns of, too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


SILENT = Shared(_without_warnings)
"""No warning of any library is shown."""

UNCHECKED = Shared(config.disable_value_validation)
"""pydicom takes values as they are."""
