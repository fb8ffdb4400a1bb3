"""Graphs in ComfyUI's API format, written down node by node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Node:
    """A node of a graph; `node[1]` is the wire from its second output."""

    id: str

    def __getitem__(self, output: int) -> list[Any]:
        return [self.id, output]


class Graph:
    """`graph.add("KSampler", model=checkpoint[0], seed=1, ...)`; `graph.prompt` is what a server runs."""

    def __init__(self) -> None:
        self.prompt: dict[str, dict[str, Any]] = {}

    def add(self, class_type: str, **inputs: Any) -> Node:
        """One more node; an input is a value or a wire, and a node stands for its first output."""
        wired = {name: value[0] if isinstance(value, Node) else value for name, value in inputs.items()}
        node = Node(str(len(self.prompt) + 1))
        self.prompt[node.id] = {"class_type": class_type, "inputs": wired}
        return node

    # Parts that most graphs have, at the sizes that tests can afford.

    def checkpoint(self, name: str = "small.safetensors") -> Node:
        """0 MODEL, 1 CLIP, 2 VAE."""
        return self.add("CheckpointLoaderSimple", ckpt_name=name)

    def latent(self, batch_size: Any = 1, size: int = 64) -> Node:
        return self.add("EmptyLatentImage", width=size, height=size, batch_size=batch_size)

    def text(self, clip: Any, text: str = "") -> Node:
        return self.add("CLIPTextEncode", clip=clip, text=text)

    def loader(self, model: Any, adapter: str = "small.safetensors", **choices: Any) -> Node:
        """0 MODEL, 1 COEMOGEN_EMOTION."""
        defaults = {
            "emotion": "awe",
            "mixture": "",
            "emotion_strength": 1.0,
            "polarity_strength": 1.0,
            "mode": "routed",
            "negative_strength": 0.0,
        }
        return self.add("HiLoRALoader", model=model, adapter=adapter, **defaults | choices)

    def scenes(self, emotion: Any, **choices: Any) -> Node:
        """0 COEMOGEN_EMBEDS, 1 INT."""
        defaults = {"seed": 0, "batch_size": 0, "truncation": 1.0}
        return self.add("GaussianEmotionSampler", emotion=emotion, **defaults | choices)

    def condition(self, clip: Any, emotion: Any, **choices: Any) -> Node:
        defaults = {"prompt": "{emotion}", "intensity": 1.0}
        return self.add("EmotionConditioner", clip=clip, emotion=emotion, **defaults | choices)

    def sample(self, model: Any, positive: Any, negative: Any, latent: Any, **choices: Any) -> Node:
        defaults = {
            "seed": 1,
            "steps": 2,
            "cfg": 3.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
        }
        return self.add(
            "KSampler",
            model=model,
            positive=positive,
            negative=negative,
            latent_image=latent,
            **defaults | choices,
        )

    def picture(self, latent: Any, vae: Any, name: str = "picture") -> Node:
        """Decode and save."""
        return self.add(
            "SaveImage", images=self.add("VAEDecode", samples=latent, vae=vae), filename_prefix=name
        )


def emotion_to_image(
    loader: dict[str, Any] | None = None,
    scenes: dict[str, Any] | None = None,
    condition: dict[str, Any] | None = None,
    sampler: dict[str, Any] | None = None,
    checkpoint: str = "small.safetensors",
) -> Graph:
    """The graph that people start with; the dicts change inputs of its nodes."""
    graph = Graph()
    base = graph.checkpoint(checkpoint)
    emotional = graph.loader(base[0], **loader or {})
    embeds = graph.scenes(emotional[1], **scenes or {})
    positive = graph.condition(base[1], emotional[1], embeds=embeds[0], **condition or {})
    latent = graph.latent(embeds[1])
    sampled = graph.sample(emotional[0], positive, graph.text(base[1]), latent, **sampler or {})
    graph.picture(sampled, base[2])
    return graph


def text_to_image(prompt: str = "a street", checkpoint: str = "small.safetensors", **sampler: Any) -> Graph:
    """The graph without our nodes."""
    graph = Graph()
    base = graph.checkpoint(checkpoint)
    conditions = graph.text(base[1], prompt), graph.text(base[1])
    graph.picture(graph.sample(base[0], *conditions, graph.latent(), **sampler), base[2])
    return graph
