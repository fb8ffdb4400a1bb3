"""Readers that a fuzzer must see through; in a file of their own, since they run in another process."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.fuzz.cases import Case


class Careless:
    """Case 1 ends the process, 3 raises what no reader may, 4 refuses without naming the file."""

    def __init__(self, _seed: int, _work: Path) -> None:
        pass

    def case(self, number: int) -> Case:
        def run() -> int:
            if number == 1:
                os._exit(3)
            if number == 3:
                raise KeyError("size")
            if number == 4:
                raise ValueError("this is wrong")
            return number

        return Case("number", run, ValueError, f"case {number}".encode("ascii"), named="a.bin")
