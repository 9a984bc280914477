"""The glyphs of Chinese words inside an HTML page, so that it reads the same on a machine without a Chinese font."""

import base64
import functools
import logging
from io import BytesIO

from fontTools import subset
from fontTools.ttLib import TTFont

from cxr.fonts import FONT

FAMILY = "cxr"
"""The name by which a page's style asks for the font: the first in its list, where it answers for Chinese alone.

Further back in the list, Chromium draws the first Chinese words of a page as boxes and leaves them so.
"""

_CJK = 0x2E80  # where the Chinese blocks begin; every browser has a font for what lies before them


logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs every table it cuts, which a run's log would show


def font_face(body: str) -> str:
    """Return the ``@font-face`` rule that a page with ``body`` needs in its style; "" where it has no Chinese word.

    The font holds just the Chinese glyphs that occur in ``body``, some 0.3 KB each, as WOFF in base64. A character that
    the bundled font lacks stays as the reader's machine shows it.
    """
    wanted = {ord(character) for character in set(body) if ord(character) >= _CJK} & _glyphs()
    if not wanted:
        return ""
    content = base64.b64encode(_subset(frozenset(wanted))).decode()
    source = f"url(data:font/woff;base64,{content}) format('woff')"
    return f"@font-face {{ font-family: {FAMILY}; src: {source}; unicode-range: U+{_CJK:X}-FFFF; }}"


@functools.cache
def _glyphs() -> frozenset[int]:
    with TTFont(FONT) as font:
        return frozenset(font.getBestCmap())


@functools.lru_cache(maxsize=8)  # a page that loads itself again asks for the same ones
def _subset(characters: frozenset[int]) -> bytes:
    options = subset.Options(flavor="woff", layout_features=[], notdef_outline=True)
    with TTFont(BytesIO(FONT.read_bytes())) as font:
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=characters)
        subsetter.subset(font)
        out = BytesIO()
        subset.save_font(font, out, options)
    return out.getvalue()
