"""How large a film may be. These limits bound all memory that is allocated while a file is read."""

import os

MAX_PIXELS = 40_000_000
"""Number of pixels of the largest film that is read unless ``CXR_MAX_PIXELS`` is set. A whole spine stitched together
has 30 million, a mammogram 28 million, a chest film up to 18 million."""

HEADER_BYTES = 16 * 2**20
"""Memory that the elements before Pixel Data may take: about a hundred times what the header of a film takes."""

_SETTING = "CXR_MAX_PIXELS"


def max_pixels() -> int:
    """Return the largest allowed number of pixels: the environment variable ``CXR_MAX_PIXELS``, else ``MAX_PIXELS``.

    The processes that read films inherit the variable. Raises ``ValueError`` if it is not a whole number above 0.
    """
    setting = os.environ.get(_SETTING, "").strip()
    if not setting:
        return MAX_PIXELS
    if not (setting.isascii() and setting.isdigit() and int(setting[:19]) > 0):
        raise ValueError(
            f"the environment variable {_SETTING} is {setting[:40]!r}, expected a whole number of pixels above 0, such "
            f"as {MAX_PIXELS}"
        )
    return int(setting[:19])  # a number of 19 digits is larger than any film already


def max_bytes() -> int:
    """Return the largest allowed size of a film's file in bytes: twice the largest film of 16 bits, plus a header."""
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
