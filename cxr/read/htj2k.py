"""HTJ2K decoded so that no error is lost."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_hook_lock = threading.Lock()


def decode_htj2k(stream: Any) -> NDArray[Any]:
    """Decode HTJ2K; raise ``RuntimeError`` for whatever OpenJPH reports."""
    with reported_errors() as errors:
        samples = imagecodecs.htj2k_decode(stream)
    if errors:
        raise RuntimeError(errors[0])
    return np.asarray(samples)


@contextmanager
def reported_errors() -> Iterator[list[str]]:
    """Collect the errors that a decoder cannot raise.

    imagecodecs takes the lines of an HTJ2K film in a function that must not raise: what OpenJPH reports there goes to
    ``sys.excepthook``, which would print it, and then to ``sys.unraisablehook``, and the film comes back wrong. The
    hooks belong to the whole process: one decoder at a time sets them, and what other threads report meanwhile is
    handed on.
    """
    errors: list[str] = []
    thread = threading.get_ident()
    with _hook_lock:
        before, printing = sys.unraisablehook, sys.excepthook

        def be_quiet(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            if threading.get_ident() != thread:
                printing(kind, error, trace)

        def collect(report: Any) -> None:
            if threading.get_ident() == thread:
                errors.append(str(report.exc_value))
            else:
                before(report)

        sys.unraisablehook, sys.excepthook = collect, be_quiet
        try:
            yield errors
        finally:
            sys.unraisablehook, sys.excepthook = before, printing
