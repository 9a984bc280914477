"""A font that ships with the package and has the glyphs of English and of the Chinese words this project shows.

Machines that train have no Chinese font as a rule, and a missing glyph is drawn as an empty box without a word. The
file is a subset of Noto Sans CJK TC (SIL Open Font License 1.1, ``OFL.txt`` beside it); a test holds it against the
vocabularies of ``conf/findings`` and the words of ``cxr/report/words``. A new character is added from the whole font,
with a file of the old characters and the new: ``pyftsubset NotoSansCJK-Regular.ttc --font-number=3
--layout-features=kern --text-file=FILE``.
"""

import functools
from io import BytesIO
from pathlib import Path

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from PIL import ImageFont

FONT = Path(__file__).with_name("NotoSansTC-subset.otf")


@functools.cache
def picture_font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font for Pillow at ``size`` pixels."""
    # From memory: FreeType goes back to a path at every text, and an update may replace the file under a long run
    return ImageFont.truetype(BytesIO(FONT.read_bytes()), size)


@functools.cache
def figure_font() -> FontProperties:
    """Return the font for a text of a matplotlib figure (``fontproperties=``); size and colour are the text's own."""
    font_manager.fontManager.addfont(str(FONT))
    return FontProperties(fname=str(FONT))
