"""What a trained adapter does, and how: when an emotion enters, who carries it, what it leaves of a prompt's
content, and whether more of it is more.
"""

from .content import Content, ContentGrid, ContentSet
from .contents import neutral_contents, read_contents
from .drawing import AdapterPainter, Eyes, Observer, Painter
from .engine import NAMES, Name, Plan, read_analyses, run_analyses
from .entry import Entry
from .intensity import Intensity
from .sections import Section, analyses_page, sections
from .swap import Swap

__all__ = [
    "NAMES",
    "AdapterPainter",
    "Content",
    "ContentGrid",
    "ContentSet",
    "Entry",
    "Eyes",
    "Intensity",
    "Name",
    "Observer",
    "Painter",
    "Plan",
    "Section",
    "Swap",
    "analyses_page",
    "neutral_contents",
    "read_analyses",
    "read_contents",
    "run_analyses",
    "sections",
]
