"""The mistakes a user can make, each told in one sentence: what is wrong, in which file, and what to do.

The commands turn a `UserError` into that sentence and exit code 2; anything else that is raised is a fault
of ours.
"""

from __future__ import annotations

# Characters of a wrong value that a sentence quotes.
_LONGEST_VALUE = 120
# A terminal of 24 lines of 80 columns, less what stands around the sentence.
_LONGEST = 1600


class UserError(Exception):
    """A mistake in what the user gave us; its message is the one sentence that he reads.

    It may quote whatever a file or a server holds: as text, what a terminal would obey is escaped, and what
    is longer than a screen has lost its middle.
    """

    def __str__(self) -> str:
        text = escaped(super().__str__(), but="\n")
        half = _LONGEST // 2
        return text if len(text) <= _LONGEST else f"{text[:half]} [...] {text[-half:]}"


def escaped(text: str, but: str = "") -> str:
    """`text` with what a terminal would obey escaped, but for the characters in `but`."""
    return "".join(c if c.isprintable() or c in but else ascii(c)[1:-1] for c in text)


def quoted(value: object) -> str:
    """A wrong value as a sentence can hold it, whoever wrote it and however long it is."""
    try:
        text = repr(value[: _LONGEST_VALUE + 1] if isinstance(value, str) else value)
    except ValueError:  # more digits than Python writes
        return "a number beyond reason"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


class AdapterError(UserError):
    """An adapter file, or the model it is put on, that does not fit."""


class TaxonomyError(UserError):
    """A list of emotions that contradicts itself, or an emotion that is not in it."""


class MixtureError(UserError):
    """A mixture of emotions that cannot be read."""


class ConfigError(UserError):
    """A setting that does not exist or has an impossible value."""


class DataError(UserError):
    """A folder, table or image of training data that cannot be used."""


class CaptionError(UserError):
    """A captioning model, server or answer that cannot be used."""
