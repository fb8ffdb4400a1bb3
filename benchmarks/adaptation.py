"""Going on from an adapter in the toy world: `python -m benchmarks.adaptation --out DIR`.

An adapter A is trained on plain pictures of eight emotions. Then another style, woodcuts of six of them: A as
it is, A trained on for a few steps, and an adapter from scratch after as many. Then a ninth emotion,
nostalgia, is added to A, of which nothing may move; beside it nine emotions from scratch. The judges are
probes trained on real pictures of the target set. Finished runs are read, not made again.

Woodcuts are drawn with HiLoRA on both branches of the guidance: where it acts on the conditional one alone,
guidance takes the whole way from the base's style to the new one three times over. One pair of rows shows it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.measuring.answer import table
from benchmarks.toyruns import (
    EACH,
    Ground,
    Panel,
    decoded,
    drawn,
    drawn_by,
    ground,
    judged,
    kept,
    real,
    spread,
    trained,
    write_panels,
    write_sheet,
)
from coemogen_train.adapter.file import load_adapter
from coemogen_train.base.load import load_base
from coemogen_train.emotions import MIKELS
from coemogen_train.toyworld.contest import draw_from_prompts

SIX = ("awe", "contentment", "excitement", "anger", "fear", "sadness")
NINTH = "nostalgia"
OTHER_SCENES = 1000
"""Added to the seed of the woodcuts: they are of other scenes than A's pictures."""
ONE_BRANCH_AT = 100

Figures = dict[str, Any]


def by_name(emotions: tuple[str, ...], seed: int) -> Any:
    """What the bare base draws when it is told the emotion's name."""
    return drawn(draw_from_prompts(load_base("toy"), lambda name, _: f"an image of {name}"), emotions, seed)


def another_style(out: Path, source: Path, steps: list[int], seed: int) -> Figures:
    """Woodcuts of six emotions: figures by row; a row's name ends with its steps."""
    on, base = ground(out / "woodcuts", seed + OTHER_SCENES, style="woodcut", emotions=SIX), load_base("toy")
    settings = {"set": on.training_set.root, "seed": seed, "hilora_branches": "both"}
    pictures = {"base, by name": by_name(SIX, seed), "A as it is": drawn_by(source, base, SIX, seed, "both")}
    one_branch = {}
    for count in sorted(steps):
        for title, start in (("A gone on with", {"init": source}), ("from scratch", {})):
            folder = out / title.replace(" ", "_")
            adapter = trained(folder, {**settings, **start, "steps": count})
            row = f"{title}, {count} steps"
            pictures[row] = drawn_by(adapter, base, SIX, seed, "both")
            if count == ONE_BRANCH_AT:
                one_branch[f"{row}, HiLoRA on one branch"] = drawn_by(adapter, base, SIX, seed)
    pictures |= one_branch
    write_sheet(out / "woodcuts.png", {"real": _ordered(on), **pictures}, SIX)
    references = {"real held-out woodcuts": real(on), "real, through the autoencoder": decoded(on, base)}
    return references | {row: judged(on, drawings, SIX) for row, drawings in pictures.items()}


def a_ninth(out: Path, source: Path, steps: int, full_steps: int, seed: int) -> Figures:
    """Nostalgia added to A: figures of the ninth and of the eight by row, and what stayed the same."""
    on, base = ground(out / "nine", seed, emotions=(*MIKELS.names, NINTH)), load_base("toy")
    settings = {"set": on.training_set.root, "seed": seed}
    added = trained(
        out / "added",
        {**settings, "init": source, "init_mode": "add", "emotions": [NINTH], "steps": steps},
    )
    scratch = trained(out / "nine_from_scratch", {**settings, "steps": full_steps})
    before = drawn_by(source, base, MIKELS.names, seed)
    eight = {"A, before": before, "A with nostalgia": drawn_by(added, base, MIKELS.names, seed)}
    eight[f"nine from scratch, {full_steps} steps"] = drawn_by(scratch, base, MIKELS.names, seed)
    ninth = {
        "base, by name": by_name((NINTH,), seed),
        f"added to A, {steps} steps": drawn_by(added, base, (NINTH,), seed),
        f"nine from scratch, {full_steps} steps": drawn_by(scratch, base, (NINTH,), seed),
    }
    write_sheet(out / "nostalgia.png", ninth, (NINTH,))
    pairs = zip(before, eight["A with nostalgia"], strict=True)
    return {
        "ninth": {row: judged(on, pictures, (NINTH,)) for row, pictures in ninth.items()},
        "eight": {row: judged(on, pictures, MIKELS.names) for row, pictures in eight.items()},
        "real": real(on),
        "tensors": compare_tensors(source, added),
        "pictures": len(before),
        "identical_pictures": sum(one.tobytes() == two.tobytes() for one, two in pairs),
    }


def compare_tensors(source: Path, added: Path) -> dict[str, Any]:
    """Whether the part of each tensor that the source has is the same, byte for byte, in the other file."""
    old, new = load_file(source), load_file(added)
    info, other = load_adapter(source).info, load_adapter(added).info
    if other.taxonomy.names[: info.taxonomy.num_emotions] != info.taxonomy.names:
        raise ValueError("the emotions of the source do not come first")
    moved, numbers = [], 0
    for name, tensor in old.items():
        part = _carried_part(name, tensor, new[name], info, other)
        numbers += tensor.numel()
        if part.shape != tensor.shape or _bytes(part) != _bytes(tensor):
            moved.append(name)
    return {"tensors": len(old), "identical": len(old) - len(moved), "moved": moved, "numbers": numbers}


def _carried_part(name: str, old: Tensor, new: Tensor, info: Any, other: Any) -> Tensor:
    """What in `new` belongs to the source's emotions and polarities."""
    for axis, (length, longer) in enumerate(zip(old.shape, new.shape, strict=True)):
        if length == longer:
            continue
        places = torch.arange(length)
        if name.startswith("hilora."):  # the emotions' groups, then the polarities'
            rows = info.rank * info.taxonomy.num_emotions
            shift = info.rank * other.taxonomy.num_emotions - rows
            places = torch.where(places < rows, places, places + shift)
        new = new.index_select(axis, places)
    return new


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def _ordered(on: Ground) -> list[Any]:
    """Real held-out pictures, as many of each emotion, in the order of `SIX`."""
    pairs = list(zip(on.judges.test_pictures, on.judges.test_labels, strict=True))
    return [picture for name in SIX for picture, label in pairs if label == name]


def markdown(styles: list[Figures], ninths: list[Figures]) -> str:
    """Both tables: means over the seeds, and of several their range."""

    def cells(rows: list[Figures], keys: tuple[str, ...]) -> list[str]:
        return [spread([row[key] for row in rows]) if key in rows[0] else "" for key in keys]

    keys = ("emo_a", "emo_a_second_probe", "story", "coverage", "frechet")
    first = [[row, *cells([run[row] for run in styles], keys)] for row in styles[0]]
    keys = ("emo_a", "emo_a_second_probe", "story", "coverage")
    second = [
        [group, row, *cells([run[group][row] for run in ninths], keys)]
        for group in ("ninth", "eight")
        for row in ninths[0][group]
    ]
    second.append(["all nine", "real held-out pictures", *cells([run["real"] for run in ninths], keys)])
    same = [run["tensors"] for run in ninths]
    heads = ["Emo-A", "second probe", "story", "coverage of 6"]
    return "\n\n".join(
        [
            f"Woodcuts of six emotions, {EACH} pictures of each:",
            table(["row", *heads, "Frechet to woodcuts"], first),
            f"A ninth emotion, {EACH} pictures of each, judged among nine:",
            table(["emotions", "row", *heads], second),
            "Of A's tensors "
            + "; ".join(f"{one['identical']} of {one['tensors']}" for one in same)
            + " have their part byte-identical in the file with nostalgia; of the eight's pictures from the "
            "same seeds "
            + "; ".join(f"{run['identical_pictures']} of {run['pictures']}" for run in ninths)
            + " are byte-identical.",
        ]
    )


def write_curves(out: Path, styles: list[Figures]) -> None:
    """Accuracy, stories and distance over the steps of adaptation: means over the seeds."""
    panels = []
    for key, y_name in (("emo_a", "Emo-A"), ("story", "story"), ("frechet", "Frechet distance")):

        def at(row: str, key: str = key) -> float:
            return sum(float(run[row][key]) for run in styles) / len(styles)

        steps = sorted(
            int(row.split()[-2])
            for row in styles[0]
            if row.startswith("from scratch") and row.endswith("steps")
        )
        tracks = {
            title: [(count, at(f"{title}, {count} steps")) for count in steps]
            for title in ("from scratch", "A gone on with")
        }
        tracks["A gone on with"].insert(0, (0, at("A as it is")))
        panels.append(Panel("Woodcuts", tracks, "steps on woodcuts", y_name))
    write_panels(out / "adaptation.svg", panels, columns=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/adaptation"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--source-steps", type=int, default=300, help="of A, and of nine from scratch")
    parser.add_argument("--steps", type=int, nargs="+", default=[25, 50, 100, 200], help="on the woodcuts")
    parser.add_argument("--add-steps", type=int, default=100, help="on nostalgia")
    arguments = parser.parse_args()
    styles, ninths = [], []
    for seed in range(arguments.seeds):
        out = arguments.out.absolute() / f"seed{seed}"
        plain = ground(out / "plain", seed)
        source = trained(
            out / "A", {"set": plain.training_set.root, "seed": seed, "steps": arguments.source_steps}
        )
        styles.append(
            kept(
                out / "style.json",
                lambda out=out, source=source, seed=seed: another_style(out, source, arguments.steps, seed),
            )
        )
        ninths.append(
            kept(
                out / "ninth.json",
                lambda out=out, source=source, seed=seed: a_ninth(
                    out, source, arguments.add_steps, arguments.source_steps, seed
                ),
            )
        )
    write_curves(arguments.out, styles)
    told = markdown(styles, ninths)
    (arguments.out / "adaptation.md").write_text(told + "\n", encoding="utf-8")
    print(told)


if __name__ == "__main__":
    main()
