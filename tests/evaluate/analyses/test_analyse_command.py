"""What `analyse` refuses, it refuses in one sentence and before anything is loaded."""

from __future__ import annotations

import sys

import pytest
import typer

from coemogen_train.cli.analyse import analyse
from coemogen_train.errors import UserError


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--only", "entry,exit"], "there is no analysis 'exit': choose of entry, swap, content, intensity"),
        (["--only", ","], "--only names no analysis"),
        (["--stretches", "9", "--steps", "8"], "9 stretches need as many steps"),
        (["--encoders", "toy"], "name it with --set"),
        ([], "name an emotion probe with --probe"),
        (
            ["--encoders", "toy", "--set", "x", "--contents", "nowhere.txt"],
            "nowhere.txt: the contents cannot",
        ),
    ],
)
def test_a_mistake_is_told_before_anything_is_loaded(options: list[str], sentence: str) -> None:
    app = typer.Typer()
    app.command()(analyse)
    command = typer.main.get_command(app)
    given = ["no.safetensors", "--base", "none", "--out", "nowhere", *options]
    with pytest.raises(UserError, match=sentence):
        command.main(args=given, prog_name=sys.executable, standalone_mode=False)
