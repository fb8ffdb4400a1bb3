"""What a comparison was asked for so far: its claims when it began, its experiments and its seeds.

One command adds to what another began, and the report tells all of it: who asked for one experiment at a time
would otherwise test each claim as if it were the only one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...errors import UserError
from ...files import atomic_write_text
from .claims import load_claims

_FILE = "begun.json"


@dataclass(frozen=True)
class Begun:
    """claims_sha256: of the claims before anything was measured. experiments, seeds: all asked for so far."""

    claims_sha256: str
    experiments: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    @classmethod
    def read(cls, out: Path) -> Begun:
        """Raises: UserError where no comparison was begun in `out`."""
        file = out / _FILE
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            return cls(str(told["claims_sha256"]), tuple(told["experiments"]), tuple(told["seeds"]))
        except FileNotFoundError:
            raise UserError(
                f"{out}: no comparison was begun here: leave out --report-only, or name its --out."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}: it cannot be read ({error}): choose another --out.") from None


def begin(out: Path, experiments: Sequence[str], seeds: Sequence[int]) -> Begun:
    """Note what is asked for now beside what was before; the claims stay as they were at first."""
    before = Begun.read(out) if (out / _FILE).exists() else Begun(load_claims().sha256)
    now = Begun(
        before.claims_sha256,
        tuple(dict.fromkeys([*before.experiments, *experiments])),
        tuple(sorted({*before.seeds, *seeds})),
    )
    atomic_write_text(out / _FILE, json.dumps(asdict(now), indent=1) + "\n")
    return now
