"""What a process does with the memory of a film it is done with."""

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep up to 512 MiB of freed memory in this process; elsewhere nothing happens.

    A sample is made of arrays of megabytes. By default glibc gives them back to the system when they are freed, and
    for the next sample the system clears the same pages again: more than half of a sample's time (mallopt(3)).
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 64 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 512 << 20)
