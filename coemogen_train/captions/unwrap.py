"""Taking a model's answer out of what it is wrapped in: reasoning, markup, lead-ins, quotation marks.

Each function takes text and gives the text without its wrapping; what is said in the answer stays as it is.
Answers come from servers and models of any kind: `without_long_runs` shortens the runs of spaces, line breaks
and full stops in which a stuck model ends, and those that taking something out leaves, since over these the
patterns take quadratic time, in which `re` lets nothing else run.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata

# Names of the blocks in which reasoning models think before they answer.
_THOUGHTS = r"(?:think|thinking|thought|thoughts|reason|reasoning|reflection|analysis|scratchpad)"
_OPENING = rf"(?:<\s*{_THOUGHTS}\s*>|\[\s*{_THOUGHTS}\s*\]|◁\s*{_THOUGHTS}\s*▷)"
_CLOSING = rf"(?:<\s*/\s*{_THOUGHTS}\s*>|\[\s*/\s*{_THOUGHTS}\s*\]|◁\s*/\s*{_THOUGHTS}\s*▷)"
_OPEN_THOUGHT = re.compile(_OPENING, re.IGNORECASE)
_CLOSED_THOUGHT = re.compile(_CLOSING, re.IGNORECASE)
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\s*<\|message\|>")

# <|im_end|>, <|assistant|>, <s>, </s>, <eos>, <end_of_turn>, <image>, [INST]: marks of chat templates.
_SPECIAL = re.compile(
    r"<\|[^<>|\n]{1,40}\|>|</?(?:s|eos|bos|pad|unk|end_of_turn|start_of_turn|image|img)>|\[/?INST\]"
)
_TAG = re.compile(
    r"</?(?:p|b|i|u|br|em|strong|span|div|h[1-6]|ul|ol|li|caption|answer|code|pre|output)\b[^<>]*>"
)
_LINK = re.compile(r"!?\[([^\[\]\n]{1,300})\]\([^()\s]{1,500}\)")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~).*$", re.MULTILINE)
_HEADING = re.compile(r"^[ \t]{0,3}(?:#{1,6}[ \t]+|>[ \t]?)", re.MULTILINE)
_EMPHASIS = re.compile(
    r"(\*\*\*|\*\*|\*|___|__)(?=\S)([^*_\n]{1,400}?)(?<=\S)\1|(?<!\w)_(?=\S)([^_\n]{1,400}?)_(?!\w)"
)
_CAPTION_KEYS = ("caption", "sentence", "description", "answer", "text", "output")

# "Sure! Here is a one-sentence caption for the image:" and the like, up to its colon.
_POLITE = re.compile(
    r"^(?:(?:sure|certainly|of course|absolutely|okay|ok|great|gladly|yes)\b[ ,]*(?:thing)?\s*"
    r"[!.,:\-\N{EN DASH}\N{EM DASH}]\s*)+",
    re.IGNORECASE,
)
_ANNOUNCED = re.compile(
    r"^(?:here(?:'s|\N{RIGHT SINGLE QUOTATION MARK}s| is| are)|below is|this is|the following is|my|"
    r"one possible|a possible|a one[- ]sentence|one[- ]sentence)\b[^:.!?\n]{0,120}:\s*",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^(?:(?:image|picture|photo|final|short|detailed|emotional|suggested|generated|one[- ]sentence|"
    r"the)\s+){0,3}"
    r"(?:caption|description|sentence|answer|response|output|result|assistant|ai|model|bot)"
    r"\s{0,3}(?:\(?\d?\)?)\s{0,3}(?::|\N{FULLWIDTH COLON}|\s[-\N{EN DASH}\N{EM DASH}]\s)\s*",
    re.IGNORECASE,
)
# "The image shows a man": what follows stands by itself. "The image shows that ..." does not.
_SHOWS = re.compile(
    r"^(?:in )?(?:this|the|an?)\s+(?:[a-z\-]+\s+)?"
    r"(?:image|picture|photo|photograph|painting|illustration|scene),?\s+"
    r"(?:(?:clearly|vividly|simply|here)\s+)?"
    r"(?:shows|depicts|features|portrays|presents|captures|displays|illustrates|is of|"
    r"we see|you can see|there is|there are)\s+(?!that\b|how\b|us\b|what\b)",
    re.IGNORECASE,
)
_QUOTES = {
    '"': '"',
    "'": "'",
    "`": "`",
    "\N{LEFT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}",
    "\N{DOUBLE LOW-9 QUOTATION MARK}": "\N{LEFT DOUBLE QUOTATION MARK}",
    "\N{LEFT SINGLE QUOTATION MARK}": "\N{RIGHT SINGLE QUOTATION MARK}",
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}": "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}",
    "\N{LEFT CORNER BRACKET}": "\N{RIGHT CORNER BRACKET}",
}
_STOPS = ".!?\N{HORIZONTAL ELLIPSIS}"
_SPACES = re.compile(r"[^\S\n]+")
_BREAKS = re.compile(r" ?\n[ \n]*")
_LONG_STOP = re.compile(rf"[{_STOPS}]{{6,}}")


def plain_characters(text: str) -> str:
    """NFC, without what has no glyph (control and format characters, half pairs) and without long runs."""
    whole = text.encode("utf-8", errors="ignore").decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    spaced = "".join(
        letter if letter == "\n" or letter.isprintable() else " " if letter.isspace() else ""
        for letter in whole
    )
    return without_long_runs(unicodedata.normalize("NFC", spaced)).strip()


def without_long_runs(text: str) -> str:
    """With one space of many, two line breaks, five full stops."""
    text = _BREAKS.sub(lambda run: "\n" * min(2, run[0].count("\n")), _SPACES.sub(" ", text))
    return _LONG_STOP.sub(lambda run: run[0][:5], text)


def without_reasoning(text: str) -> tuple[str, bool]:
    """Return what follows the reasoning, and whether reasoning is all there is: a thought that never ends."""
    finals = list(_FINAL_CHANNEL.finditer(text))
    if finals:
        return text[finals[-1].end() :].strip(), False
    closings = list(_CLOSED_THOUGHT.finditer(text))
    opening = _OPEN_THOUGHT.search(text)
    if not closings:
        # Some templates have opened the thought already; then only its end shows.
        return (
            (text[: opening.start()].strip(), not text[: opening.start()].strip())
            if opening
            else (text, False)
        )
    before = text[: opening.start()].strip() if opening and opening.start() < closings[0].start() else ""
    after = text[closings[-1].end() :].strip()
    again = _OPEN_THOUGHT.search(after)
    if again:
        after = after[: again.start()].strip()
    return after or before, not (after or before)


def without_markup(text: str) -> str:
    """Without chat marks, HTML, Markdown and a JSON object around the answer."""
    text = _SPECIAL.sub(" ", text)
    text = _FENCE.sub("", text).strip()
    text = _from_json(text)
    text = plain_characters(html.unescape(_TAG.sub(" ", text)))  # JSON and HTML spell any character
    text = _LINK.sub(r"\1", _HEADING.sub("", text))
    text = _EMPHASIS.sub(lambda found: found[2] or found[3], text)
    return re.sub(r"[ \t]+", " ", text).strip()


def without_lead_in(text: str) -> str:
    """Without "Sure!", "Here is a caption:", "Caption:"."""
    for _ in range(4):
        shorter = text
        for pattern in (_POLITE, _ANNOUNCED, _LABEL):
            shorter = pattern.sub("", shorter, count=1).lstrip()
        if shorter == text:
            break
        text = shorter
    return text


def without_frame(sentence: str) -> str:
    """ "The image shows a man in the rain." as "A man in the rain."."""
    bare = _SHOWS.sub("", sentence, count=1)
    return bare if bare == sentence or not bare else bare[0].upper() + bare[1:]


def without_quotes(text: str) -> str:
    """Without quotation marks around the whole, which may stand before or after the full stop."""
    for _ in range(3):
        body = text.rstrip(_STOPS)
        stop = text[len(body) :]
        close = _QUOTES.get(text[:1])
        if close is None or len(body) < 2 or not body.endswith(close):
            break
        inner = body[1:-1]
        # 'The boy' and 'the dog' begins and ends with a mark, but they are not a pair.
        if close in inner and not (close == "'" and _apostrophes_only(inner)):
            break
        text = (inner + stop).strip()
    return text


def _apostrophes_only(text: str) -> bool:
    return len(re.findall(r"(?<=\w)'(?=\w)", text)) == text.count("'")


def _from_json(text: str) -> str:
    """The caption of {"caption": "..."}; anything else as it is."""
    if not text.startswith("{") or not text.endswith("}"):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, dict):
        for key in _CAPTION_KEYS:
            if isinstance(value.get(key), str):
                return value[key].strip()
    return text
