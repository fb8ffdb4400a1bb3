"""What the package logs, on standard error as it is at that moment: a progress bar may have put itself there
(rich does), and logging's own handler would write past it.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO


class _StandardError(logging.Handler):
    """Writes to `sys.stderr` as it is when there is something to write."""

    def emit(self, record: logging.LogRecord) -> None:
        stream: TextIO | None = sys.stderr
        if stream is not None:
            print(self.format(record), file=stream, flush=True)


def show_logs(package: str) -> None:
    """Show what `package` has to say, and of other libraries what they show by themselves."""
    logger = logging.getLogger(package)
    if not any(isinstance(handler, _StandardError) for handler in logger.handlers):
        handler = _StandardError()
        handler.setFormatter(_WithLevel())
        logger.addHandler(handler)
    # Of several processes that train together, one tells the plan.
    logger.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)


class _WithLevel(logging.Formatter):
    """A warning begins with the word; what is merely told does not."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"
