"""Pages that show what a command found: HTML that cannot forget to escape, one look, pictures inside.

Nothing here knows what a page is about.
"""

from .frame import STATIC, base_style, data_uri, page, style_sheet
from .markup import Html, join, tag
from .pictures import thumbnail
from .section import Section
from .ticks import nice_ticks

__all__ = [
    "STATIC",
    "Html",
    "Section",
    "base_style",
    "data_uri",
    "join",
    "nice_ticks",
    "page",
    "style_sheet",
    "tag",
    "thumbnail",
]
