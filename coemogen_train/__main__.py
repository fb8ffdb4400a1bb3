"""`python -m coemogen_train`, the console script, and what `accelerate launch -m coemogen_train` starts."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

# Of `ProcessLost`, whose file would load torch.
_RESUME = 75


def main() -> NoReturn:
    """Run the command line and exit: 0 success, 2 a user's mistake, 1 a fault of ours, 130 interrupted,
    75 to be resumed: another process that trained along is gone.
    """
    try:
        from .cli import run
    except ModuleNotFoundError as error:  # a bare installation has no typer, so `run` cannot say this
        if (error.name or "").startswith(f"{__package__}."):
            raise
        message = f'the trainer needs {error.name}, which is not installed: pip install "coemogen[train]".'
        print(f"coemogen_train: {message}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    code = run()
    if code == _RESUME:
        # At an ordinary end torch takes down its groups, and NCCL's would wait for the lost process.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":  # worker processes import this file under another name
    main()
