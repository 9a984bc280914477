"""How large a film may be. Everything that is allocated for a file's sake is bounded by what stands here."""

import os

MAX_PIXELS = 40_000_000
"""Pixels of the largest film that is read where ``CXR_MAX_PIXELS`` says nothing else: a stitched whole spine has 30
million, a mammogram 28 million, a chest film up to 18 million."""

HEADER_BYTES = 16 * 2**20
"""Memory that the elements before Pixel Data may take: some hundred times what a film's header takes."""

_SETTING = "CXR_MAX_PIXELS"


def max_pixels() -> int:
    """Return the largest number of pixels of a film: the environment variable ``CXR_MAX_PIXELS``, else ``MAX_PIXELS``.

    The processes that read films inherit it. Raises ``ValueError`` where it is not a whole number above 0.
    """
    setting = os.environ.get(_SETTING, "").strip()
    if not setting:
        return MAX_PIXELS
    if not (setting.isascii() and setting.isdigit() and int(setting[:19]) > 0):
        raise ValueError(
            f"the environment variable {_SETTING} is {setting[:40]!r}, expected a whole number of pixels above 0, such "
            f"as {MAX_PIXELS}"
        )
    return int(setting[:19])  # more digits than these are no limit either way


def max_bytes() -> int:
    """Return the largest number of bytes of a film's file: twice the largest film at 16 bits, and a header."""
    return 4 * max_pixels() + HEADER_BYTES


def check_pixels(rows: int, columns: int) -> None:
    """Raise ``ValueError`` unless a film has at least one pixel and at most ``max_pixels()``."""
    if rows < 1 or columns < 1:
        raise ValueError(f"Rows × Columns is {rows} × {columns}, expected at least 1 × 1")
    if rows * columns > (limit := max_pixels()):
        raise ValueError(
            f"Rows × Columns is {rows} × {columns}, expected at most {limit:,} pixels together; if the film is sound, "
            f"type {_SETTING}={rows * columns} before the command"
        )
