"""Pretrain the toy base: autoencoder, CLIP, U-Net, recogniser; hours rather than minutes on two cores."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTextModel

from ...emotions import MIKELS
from ..captions import names_an_emotion
from ..recogniser import save_recogniser
from . import architecture as arch
from .corpus import build_corpus
from .recogniser import train_recogniser
from .stages import (
    encode_captions,
    encode_pictures,
    teach_names,
    tokenize,
    train_autoencoder,
    train_clip,
    train_unet,
)

STAGES = ("autoencoder", "clip", "recogniser", "unet", "save")


class Pretraining:
    """The stages, each resumable from its checkpoint in the work folder."""

    def __init__(self, work: Path, seed: int, pictures: int) -> None:
        self.work, self.seed = work, seed
        work.mkdir(parents=True, exist_ok=True)
        self.pictures, self.captions = build_corpus(work / "corpus", pictures, seed)
        torch.manual_seed(seed)
        self.tokenizer = arch.make_tokenizer(self.captions[:20_000], work / "tokenizer")
        self.vae, self.clip = arch.make_autoencoder(), arch.make_clip(self.tokenizer)
        self.unet, self.schedule = arch.make_unet(), arch.make_noise_schedule()

    def log(self, line: str) -> None:
        line = f"{time.strftime('%H:%M:%S')} {line}"
        print(line, flush=True)
        with (self.work / "log.txt").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def train_autoencoder(self, steps: int) -> None:
        train_autoencoder(self.vae, self.pictures, steps, self.seed, self.work / "vae.pt", self.log)

    def train_clip(self, steps: int) -> None:
        train_clip(
            self.clip,
            self.tokenizer,
            self.pictures,
            self.captions,
            steps,
            self.seed,
            self.work / "clip.pt",
            self.log,
        )
        named = self.work / "clip_named.pt"
        if not named.exists():
            teach_names(
                self.clip,
                self.tokenizer,
                self.pictures,
                self.captions,
                MIKELS.names,
                150,
                self.seed,
                self.log,
            )
            torch.save(self.clip.state_dict(), named)

    def text_encoder(self) -> CLIPTextModel:
        """CLIP's text tower as Stable Diffusion 1.5 holds it: a model of its own, without projection."""
        encoder = CLIPTextModel(self.clip.config.text_config)
        tower = {f"text_model.{key}": value for key, value in self.clip.text_model.state_dict().items()}
        if not hasattr(encoder, "text_model"):
            tower = self.clip.text_model.state_dict()
        encoder.load_state_dict(tower)
        return encoder.eval()

    def train_unet(self, steps: int, batch: int) -> None:
        self.vae.load_state_dict(torch.load(self.work / "vae.pt", weights_only=True)["average"])
        self.clip.load_state_dict(torch.load(self.work / "clip_named.pt", weights_only=True))
        encoded = self.work / "encoded.pt"
        if not encoded.exists():
            means, deviations = encode_pictures(self.vae.eval(), self.pictures)
            scale = 1 / means.float().std().item()
            states = encode_captions(self.text_encoder(), tokenize(self.tokenizer, self.captions))
            empty = encode_captions(self.text_encoder(), tokenize(self.tokenizer, [""]))[0].float()
            latents = ((means.float() * scale).half(), (deviations.float() * scale).half())
            torch.save({"latents": latents, "states": states, "empty": empty, "scale": scale}, encoded)
        data = torch.load(encoded, weights_only=True)
        self.vae.register_to_config(scaling_factor=round(data["scale"], 5))
        checkpoint = self.work / "unet.pt"
        train_unet(
            self.unet,
            self.schedule,
            data["latents"],
            data["states"],
            data["empty"],
            np.array([i for i, caption in enumerate(self.captions) if names_an_emotion(caption)]),
            steps,
            batch,
            self.seed,
            checkpoint,
            self.log,
        )

    def train_recogniser(self, steps: int) -> None:
        torch.manual_seed(self.seed)
        recogniser = train_recogniser(steps, self.seed, self.work / "recogniser.pt", self.log)
        save_recogniser(recogniser, self.work / "recogniser.safetensors")

    def save(self, out: Path) -> None:
        """Write the weights as the loaders expect them: a diffusers folder and a CLIP folder, in half
        precision.
        """
        data = torch.load(self.work / "encoded.pt", weights_only=True)
        self.vae.load_state_dict(torch.load(self.work / "vae.pt", weights_only=True)["average"])
        self.clip.load_state_dict(torch.load(self.work / "clip_named.pt", weights_only=True))
        self.unet.load_state_dict(torch.load(self.work / "unet.pt", weights_only=True)["average"])
        self.vae.register_to_config(scaling_factor=round(data["scale"], 5))
        text_encoder = self.text_encoder()
        base = StableDiffusionPipeline(
            vae=self.vae.half(),
            text_encoder=text_encoder.half(),
            tokenizer=self.tokenizer,
            unet=self.unet.half(),
            scheduler=self.schedule,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        for name in ("base", "clip"):
            shutil.rmtree(out / name, ignore_errors=True)
        base.save_pretrained(out / "base", safe_serialization=True)
        self.clip.half().save_pretrained(out / "clip", safe_serialization=True)
        arch.make_image_processor().save_pretrained(out / "clip")
        self.tokenizer.save_pretrained(out / "clip")
        for folder in (out / "base" / "tokenizer", out / "clip"):  # what older transformers read
            for name in ("vocab.json", "merges.txt"):
                shutil.copyfile(self.work / "tokenizer" / name, folder / name)
        for file in out.rglob("*.safetensors"):
            file.chmod(0o644)
        shutil.copyfile(self.work / "recogniser.safetensors", out / "recogniser.safetensors")
        shutil.copyfile(self.work / "log.txt", out / "pretraining_log.txt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the corpus and the checkpoints")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "weights")
    parser.add_argument("--stage", choices=STAGES, action="append", help="all of them by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=60_000)
    parser.add_argument("--autoencoder-steps", type=int, default=1100)
    parser.add_argument("--clip-steps", type=int, default=900)
    parser.add_argument("--recogniser-steps", type=int, default=1500)
    parser.add_argument("--unet-steps", type=int, default=5500)
    parser.add_argument("--unet-batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = Pretraining(arguments.work, arguments.seed, arguments.pictures)
    stages = {
        "autoencoder": lambda: run.train_autoencoder(arguments.autoencoder_steps),
        "clip": lambda: run.train_clip(arguments.clip_steps),
        "recogniser": lambda: run.train_recogniser(arguments.recogniser_steps),
        "unet": lambda: run.train_unet(arguments.unet_steps, arguments.unet_batch),
        "save": lambda: run.save(arguments.out),
    }
    for name in arguments.stage or STAGES:
        stages[name]()


if __name__ == "__main__":
    main()
