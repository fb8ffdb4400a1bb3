"""CoEmoGen: from pictures sorted by emotion to an adapter that evokes them in new pictures."""

__version__ = "0.1.0"
