"""What merging into rounded weights loses, in a real ComfyUI: `python -m benchmarks.precision --out DIR`.

Puts HiLoRA on Stable Diffusion 1.5's full width (random weights), stored in fp16, bf16 and fp8, merged and
routed, at several strengths: merged weights are rounded to the storage type again, routed HiLoRA is not. The
loss is the distance of the final latents of the two, as a part of what HiLoRA does to them at all.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.inference.__main__ import ROOT, inside, write_models
from benchmarks.measuring.answer import table
from tests.comfyui.installation import find_comfyui

STORAGES = {"fp16": "--fp16-unet", "bf16": "--bf16-unet", "fp8 (e4m3fn)": "--fp8_e4m3fn-unet"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/precision"))
    parser.add_argument("--flags", default="--cpu", help="of ComfyUI's main.py, beside the storage's own")
    arguments = parser.parse_args()
    work = arguments.out.absolute()
    comfyui = find_comfyui()
    write_models(work / "models")
    found = {}
    for storage, flag in STORAGES.items():
        flags = f"--flags={arguments.flags} {flag}"
        found[storage] = inside(comfyui, "precision", str(ROOT), str(work / "models"), flags)
    (work / "precision.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    rows = [
        [storage, *(f"{row[key]:.3g}" for key in ("update_to_weight", "effect", "lost_by_merging"))]
        for storage, lines in found.items()
        for row in lines
    ]
    told = table(["stored as", "update / weight", "effect on latents", "lost by merging"], rows)
    (work / "precision.md").write_text(told + "\n", encoding="utf-8")
    print(told)
    print(f"ComfyUI {comfyui.version}, {arguments.flags}")


if __name__ == "__main__":
    main()
