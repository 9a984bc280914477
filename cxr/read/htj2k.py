"""Decodes HTJ2K so that no error of the decoder is lost."""

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
    """Return the decoded samples of an HTJ2K codestream. Raises ``RuntimeError`` for any error that OpenJPH reports."""
    with reported_errors() as errors:
        samples = imagecodecs.htj2k_decode(stream)
    if errors:
        raise RuntimeError(errors[0])
    return np.asarray(samples)


@contextmanager
def reported_errors() -> Iterator[list[str]]:
    """Collect the errors that a decoder cannot raise.

    imagecodecs receives the lines of an HTJ2K film in a function that must not raise. An error of OpenJPH there goes to
    ``sys.excepthook``, which would print it, and then to ``sys.unraisablehook``; the film is returned with wrong
    pixels. So these hooks are replaced while a decoder runs. They belong to the whole process: one decoder at a time
    replaces them, and errors of other threads are passed on to the hooks that were set before.
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
