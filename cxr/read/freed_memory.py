"""A setting that lets a process use again the memory of films it no longer needs."""

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep up to 512 MiB of freed memory in this process; with other C libraries do nothing.

    A sample needs arrays of several megabytes. By default glibc returns them to the system when they are freed, and the
    system clears the same pages again for the next sample. That takes more than half of a sample's time (mallopt(3)).
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 64 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 512 << 20)
