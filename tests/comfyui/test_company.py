"""Our nodes among ComfyUI's own: routed HiLoRA finds the right rows whatever else is in the graph.

The yardstick is merged mode, static weights that no other node can put on a wrong row: each picture of a
routed batch must be what its own emotion gives alone, merged. Latents are compared, not pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from .graphs import Graph, Node
from .installation import Installation
from .models import Models
from .pictures import assert_pictures
from .server import ComfyServer

pytestmark = pytest.mark.comfyui

TWO = ("awe", "fear")


def apart(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


class Scene:
    """A graph with the small checkpoint, and two emotions from one scene of the sampler."""

    def __init__(self, server: ComfyServer) -> None:
        self.server = server
        self.graph = Graph()
        self.base = self.graph.checkpoint()
        self.empty = self.graph.text(self.base[1])
        self.saved: list[str] = []

    def emotional(self, mixture: str, model: Any = None, seed: int = 5, **loader: Any) -> tuple[Any, Any]:
        """(model, conditioning) of a mixture; HiLoRA on both branches unless told."""
        loader = {"negative_strength": 1.0, "mixture": mixture} | loader
        chosen = self.graph.loader(model or self.base[0], **loader)
        embeds = self.graph.scenes(chosen[1], seed=seed)
        return chosen[0], self.graph.condition(self.base[1], chosen[1], embeds=embeds[0])

    def noise(self, count: int, first: int = 0, size: int = 64) -> Any:
        """Latents of noise, the same for a picture alone and in its batch."""
        whole = self.graph.add(
            "ProbeLoad", path=str(self.server.input / f"noise-{size}.safetensors"), tensor="value"
        )
        return self.graph.add("LatentFromBatch", samples=whole, batch_index=first, length=count)

    def sampled(self, name: str, model: Any, positive: Any, latent: Any, **choices: Any) -> None:
        """Sample onto given noise (it is the latent image, since drawn noise differs by place in a batch)."""
        negative = choices.pop("negative", self.empty)
        choices = {"denoise": 1.0, "seed": 9} | choices
        sampled = self.graph.add(
            "KSamplerAdvanced",
            model=model,
            positive=positive,
            negative=negative,
            latent_image=latent,
            add_noise="disable",
            noise_seed=choices["seed"],
            steps=choices.get("steps", 2),
            cfg=choices.get("cfg", 3.0),
            sampler_name=choices.get("sampler_name", "euler"),
            scheduler="normal",
            start_at_step=0,
            end_at_step=1000,
            return_with_leftover_noise="disable",
        )
        self.save(name, sampled)

    def save(self, name: str, value: Any) -> None:
        self.graph.add("ProbeSave", value=value, name=name)
        self.saved.append(name)

    def run(self) -> dict[str, Tensor]:
        self.server.run(self.graph.prompt)
        return {name: self.server.probed(name)[0]["samples"] for name in self.saved}


@pytest.fixture
def scene(comfy_server: ComfyServer) -> Scene:
    from safetensors.torch import save_file

    for size in (64, 128):
        path = comfy_server.input / f"noise-{size}.safetensors"
        if not path.exists():
            generator = torch.Generator().manual_seed(size)
            # As large as the noise that sampling begins with: 14.6 is Stable Diffusion's largest sigma.
            noise = 14.6 * torch.randn(8, 4, size // 8, size // 8, generator=generator) / 0.18215
            save_file({"value": noise}, str(path))
    return Scene(comfy_server)


def routed_and_alone(
    scene: Scene, change: Callable[[Scene, Any], Any] = lambda scene, model: model, **choices: Any
) -> list[float]:
    """How far each picture of a routed batch is from its own emotion alone, merged, both models changed."""
    size = choices.pop("size", 64)
    model, positive = scene.emotional("; ".join(TWO))
    scene.sampled("both", change(scene, model), positive, scene.noise(2, size=size), **choices)
    for place, emotion in enumerate(TWO):
        model, positive = scene.emotional(emotion, seed=5 + place, mode="merged")
        latent = scene.noise(1, place, size)
        scene.sampled(emotion, change(scene, model), positive, latent, **choices)
    found = scene.run()
    assert apart(found["awe"], found["fear"]) > 0.01
    return [apart(found["both"][[place]], found[emotion]) for place, emotion in enumerate(TWO)]


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m", "ddim", "uni_pc", "lms", "ipndm"])
def test_any_sampler(scene: Scene, name: str) -> None:
    assert max(routed_and_alone(scene, sampler_name=name, steps=3)) < 1e-4


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_sde", "lcm", "er_sde"])
def test_samplers_that_draw_noise_of_their_own(scene: Scene, name: str) -> None:
    """What they draw differs by place in a batch: a batch of one emotion is compared, routed and merged."""
    for mode in ("routed", "merged"):
        model, positive = scene.emotional("awe", mode=mode)
        scene.sampled(mode, model, positive, scene.noise(2), sampler_name=name)
    found = scene.run()
    assert apart(found["routed"], found["merged"]) < 1e-4


def hypertile(scene: Scene, model: Any) -> Node:
    return scene.graph.add(
        "HyperTile", model=model, tile_size=32, swap_size=2, max_depth=0, scale_depth=False
    )


def perturbed_attention(scene: Scene, model: Any) -> Node:
    return scene.graph.add("PerturbedAttentionGuidance", model=model, scale=3.0)


def self_attention(scene: Scene, model: Any) -> Node:
    return scene.graph.add("SelfAttentionGuidance", model=model, scale=0.5, blur_sigma=2.0)


def freeu(scene: Scene, model: Any) -> Node:
    return scene.graph.add("FreeU_V2", model=model, b1=1.3, b2=1.4, s1=0.9, s2=0.2)


def token_merging(scene: Scene, model: Any) -> Node:
    return scene.graph.add("TomePatchModel", model=model, ratio=0.3)


@pytest.mark.parametrize("change", [hypertile, perturbed_attention, self_attention, freeu])
def test_patches_of_the_model(scene: Scene, change: Callable[[Scene, Any], Any]) -> None:
    assert max(routed_and_alone(scene, change, size=128)) < 1e-4


def test_token_merging_runs(scene: Scene) -> None:
    """It merges by chance, so that only its running, and its effect, can be told."""
    model, positive = scene.emotional("; ".join(TWO))
    scene.sampled("merged tokens", token_merging(scene, model), positive, scene.noise(2, size=128))
    found = scene.run()["merged tokens"]
    assert found.isfinite().all() and apart(found[[0]], found[[1]]) > 0.01


def test_context_windows_over_the_batch(scene: Scene, comfyui: Installation) -> None:
    """Windows of 3 pictures over a batch of 8 emotions: each keeps its own, as if there were no windows."""
    if not comfyui.at_least(0, 30):
        pytest.skip("this ComfyUI cannot lay windows over a batch, with our nodes or without")
    model, positive = scene.emotional("all")
    windows = scene.graph.add(
        "ContextWindowsManual",
        model=model,
        context_length=3,
        context_overlap=1,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
        dim=0,
        freenoise=False,
        cond_retain_index_list="",
        split_conds_to_windows=False,
        latent_retain_index_list="",
        causal_window_fix=False,
    )
    scene.sampled("whole", model, positive, scene.noise(8))
    scene.sampled("windows", windows, positive, scene.noise(8))
    found = scene.run()
    assert apart(found["windows"], found["whole"]) < 1e-4


def test_a_controlnet(scene: Scene, models: Models) -> None:
    models.controlnet()
    net = scene.graph.add("ControlNetLoader", control_net_name="small.safetensors")
    hint = scene.graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x3377BB)

    def controlled(positive: Any) -> Node:
        return scene.graph.add(
            "ControlNetApplyAdvanced",
            positive=positive,
            negative=scene.empty,
            control_net=net,
            image=hint,
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
        )

    model, positive = scene.emotional("; ".join(TWO))
    scene.sampled("free", model, positive, scene.noise(2))
    held = controlled(positive)
    scene.sampled("both", model, held[0], scene.noise(2), negative=held[1])
    for place, emotion in enumerate(TWO):
        model, positive = scene.emotional(emotion, seed=5 + place, mode="merged")
        held = controlled(positive)
        scene.sampled(emotion, model, held[0], scene.noise(1, place), negative=held[1])
    found = scene.run()
    for place, emotion in enumerate(TWO):
        assert apart(found["both"][[place]], found[emotion]) < 1e-4
    assert apart(found["both"], found["free"]) > 0.01


def test_combined_conditionings_each_have_their_own_emotion(scene: Scene) -> None:
    """One step without guidance: the combination is the mean of the two alone."""
    model, awe = scene.emotional("awe")
    other, fear = scene.emotional("fear")
    both = scene.graph.add("ConditioningCombine", conditioning_1=awe, conditioning_2=fear)
    for name, of, positive in (("awe", model, awe), ("fear", other, fear), ("both", model, both)):
        scene.sampled(name, of, positive, scene.noise(1), steps=1, cfg=1.0)
    found = scene.run()
    assert apart(found["both"], (found["awe"] + found["fear"]) / 2) < 1e-4
    assert apart(found["awe"], found["fear"]) > 0.01


def test_two_emotions_in_two_masks_of_one_picture(scene: Scene) -> None:
    model, awe = scene.emotional("awe")
    other, fear = scene.emotional("fear")
    # White on the left half; the conditioning of the mask's own half is compared with its emotion alone.
    left = scene.graph.add("SolidMask", value=1.0, width=32, height=64)
    canvas = scene.graph.add("SolidMask", value=0.0, width=64, height=64)
    mask = scene.graph.add("MaskComposite", destination=canvas, source=left, x=0, y=0, operation="add")
    others = scene.graph.add("InvertMask", mask=mask)
    parts = [
        scene.graph.add(
            "ConditioningSetMask", conditioning=cond, mask=where, strength=1.0, set_cond_area="default"
        )
        for cond, where in ((awe, mask), (fear, others))
    ]
    both = scene.graph.add("ConditioningCombine", conditioning_1=parts[0], conditioning_2=parts[1])
    for name, of, positive in (("awe", model, awe), ("fear", other, fear), ("both", model, both)):
        scene.sampled(name, of, positive, scene.noise(1), steps=1, cfg=1.0)
    found = scene.run()
    assert apart(found["both"][..., :4], found["awe"][..., :4]) < 1e-4
    assert apart(found["both"][..., 4:], found["fear"][..., 4:]) < 1e-4


def test_two_emotions_in_two_areas_of_one_picture(scene: Scene) -> None:
    """Areas are cut out and computed by themselves; which loader the model came from does not matter."""
    model, awe = scene.emotional("awe", negative_strength=0.0)
    other, fear = scene.emotional("fear", negative_strength=0.0)
    parts = [
        scene.graph.add(
            "ConditioningSetArea", conditioning=cond, width=64, height=128, x=x, y=0, strength=1.0
        )
        for cond, x in ((awe, 0), (fear, 64))
    ]
    both = scene.graph.add("ConditioningCombine", conditioning_1=parts[0], conditioning_2=parts[1])
    same = scene.graph.add("ConditioningCombine", conditioning_1=parts[0], conditioning_2=parts[0])
    for name, of, positive in (("one", model, both), ("other", other, both), ("half", model, same)):
        scene.sampled(name, of, positive, scene.noise(1, size=128), steps=1)
    found = scene.run()
    assert torch.equal(found["one"], found["other"])
    assert apart(found["one"][..., 8:], found["half"][..., 8:]) > 0.01
    assert apart(found["one"][..., :8], found["half"][..., :8]) < 1e-4


def test_an_emotion_in_the_negative_keeps_its_own(scene: Scene) -> None:
    """One step: the guided result is fear + 3 (awe - fear), although negative_strength is 0."""
    model, awe = scene.emotional("awe", negative_strength=0.0)
    other, fear = scene.emotional("fear")
    scene.sampled("guided", model, awe, scene.noise(1), negative=fear, steps=1, cfg=3.0)
    scene.sampled("awe", model, awe, scene.noise(1), steps=1, cfg=1.0)
    scene.sampled("fear", other, fear, scene.noise(1), steps=1, cfg=1.0)
    found = scene.run()
    assert apart(found["guided"], found["fear"] + 3 * (found["awe"] - found["fear"])) < 1e-3


def test_a_negative_that_was_zeroed_out_says_nothing(scene: Scene) -> None:
    """Conditioning Zero Out of the positive, as many use it for the negative: negative_strength counts."""
    for strength in (0.0, 1.0):
        model, positive = scene.emotional("awe", negative_strength=strength)
        zeroed = scene.graph.add("ConditioningZeroOut", conditioning=positive)
        plain = scene.graph.add("ConditioningZeroOut", conditioning=scene.empty)
        scene.sampled(f"zeroed {strength}", model, positive, scene.noise(1), negative=zeroed)
        scene.sampled(f"plain {strength}", model, positive, scene.noise(1), negative=plain)
    found = scene.run()
    for strength in (0.0, 1.0):
        assert apart(found[f"zeroed {strength}"], found[f"plain {strength}"]) < 1e-5
    assert apart(found["zeroed 0.0"], found["zeroed 1.0"]) > 0.01


def test_a_compiled_model_keeps_its_emotion(scene: Scene) -> None:
    """The base first, so that there is something compiled that knows nothing of HiLoRA."""
    bare = scene.graph.add("ProbeCompiled", model=scene.base[0])
    text = scene.graph.text(scene.base[1], "a street")
    scene.sampled("base, compiled", bare, text, scene.noise(1))
    scene.run()
    after = Scene(scene.server)
    model, positive = after.emotional("awe")
    after.sampled("routed", model, positive, after.noise(1))
    after.sampled("compiled", after.graph.add("ProbeCompiled", model=model), positive, after.noise(1))
    found = after.run()
    assert apart(found["compiled"], found["routed"]) < 1e-4
    assert "runs the model uncompiled" in scene.server.log()


@pytest.mark.parametrize("copies", [2, 3])
def test_rows_of_unknown_owners_are_refused_in_a_sentence(scene: Scene, copies: int) -> None:
    model, positive = scene.emotional("awe")
    patched = scene.graph.add("ProbeRepeatedRows", model=model, copies=copies)
    scene.sampled("repeated", patched, positive, scene.noise(1))
    told = scene.server.fault(scene.graph.prompt)
    assert "set the mode of Load Emotion to merged" in told and "\n" not in told
    merged = Scene(scene.server)
    model, positive = merged.emotional("awe", mode="merged")
    patched = merged.graph.add("ProbeRepeatedRows", model=model, copies=copies)
    merged.sampled("repeated", patched, positive, merged.noise(1))
    merged.sampled("plain", model, positive, merged.noise(1))
    found = merged.run()
    assert apart(found["repeated"], found["plain"]) < 1e-4


def test_at_guidance_1_the_negative_does_not_matter(scene: Scene) -> None:
    for strength in (0.0, 1.0):
        model, positive = scene.emotional("awe", negative_strength=strength)
        scene.sampled(f"negative {strength}", model, positive, scene.noise(1), cfg=1.0)
    found = list(scene.run().values())
    assert torch.equal(*found)


def test_a_text_of_ones_own_gets_the_loaders_emotion(scene: Scene) -> None:
    """CLIP Text Encode brings no gates: the loader's own count, row by row, as a LoRA's would."""
    text = scene.graph.text(scene.base[1], "a street")
    routed = scene.graph.loader(scene.base[0], mixture="awe; fear", negative_strength=1.0)
    scene.sampled("both", routed[0], text, scene.noise(2))
    for place, emotion in enumerate(TWO):
        merged = scene.graph.loader(scene.base[0], emotion=emotion, mode="merged")
        scene.sampled(emotion, merged[0], text, scene.noise(1, place))
    found = scene.run()
    for place, emotion in enumerate(TWO):
        assert apart(found["both"][[place]], found[emotion]) < 1e-4


def test_a_batch_larger_or_smaller_than_the_list_of_emotions(scene: Scene) -> None:
    model, positive = scene.emotional("; ".join(TWO))
    scene.sampled("two", model, positive, scene.noise(2))
    scene.sampled("five", model, positive, scene.noise(5))
    scene.sampled("one", model, positive, scene.noise(1))
    found = scene.run()
    assert len(found["five"]) == 5
    assert apart(found["five"][:2], found["two"]) < 1e-4
    assert apart(found["one"], found["two"][:1]) < 1e-4
    model, positive = scene.emotional("; ".join([*TWO, *TWO, "awe"]))
    larger = Scene(scene.server)
    model, positive = larger.emotional("; ".join(TWO), seed=5)
    chosen = larger.graph.loader(larger.base[0], mixture="awe; fear; awe; fear; awe", negative_strength=1.0)
    two = larger.graph.scenes(larger.graph.loader(larger.base[0], mixture="awe; fear")[1], seed=5)
    written = larger.graph.condition(larger.base[1], chosen[1], embeds=two[0])
    larger.sampled("written out", chosen[0], written, larger.noise(5))
    assert apart(larger.run()["written out"], found["five"]) < 1e-4


def test_guiders_with_three_branches_know_their_negative(scene: Scene) -> None:
    """Dual guidance puts its negative first: which branch is which is told by name, not by place."""
    model, positive = scene.emotional("awe", negative_strength=0.0)
    guider = scene.graph.add(
        "DualCFGGuider",
        model=model,
        cond1=positive,
        cond2=positive,
        negative=scene.empty,
        cfg_conds=2.0,
        cfg_cond2_negative=3.0,
        style="regular",
    )
    sampled = scene.graph.add(
        "SamplerCustomAdvanced",
        noise=scene.graph.add("DisableNoise"),
        guider=guider,
        sampler=scene.graph.add("KSamplerSelect", sampler_name="euler"),
        sigmas=scene.graph.add("BasicScheduler", model=model, scheduler="normal", steps=2, denoise=1.0),
        latent_image=scene.noise(1),
    )
    scene.save("dual", sampled)
    scene.sampled("plain", model, positive, scene.noise(1), cfg=3.0)
    scene.sampled("on both", scene.emotional("awe")[0], positive, scene.noise(1), cfg=3.0)
    found = scene.run()
    assert apart(found["dual"], found["plain"]) < 1e-4
    assert apart(found["on both"], found["plain"]) > 0.01


def test_inpainting_keeps_what_is_not_masked(comfy_server: ComfyServer) -> None:
    graph = Graph()
    base = graph.checkpoint()
    chosen = graph.loader(base[0], emotion="awe")
    positive = graph.condition(base[1], chosen[1])
    picture = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x5588CC)
    mask = graph.add("SolidMask", value=1.0, width=32, height=64)
    canvas = graph.add("SolidMask", value=0.0, width=64, height=64)
    where = graph.add("MaskComposite", destination=canvas, source=mask, x=0, y=0, operation="add")
    for name, latent in (
        ("noise mask", graph.add("SetLatentNoiseMask", samples=encoded(graph, picture, base), mask=where)),
        (
            "for inpainting",
            graph.add("VAEEncodeForInpaint", pixels=picture, vae=base[2], mask=where, grow_mask_by=0),
        ),
    ):
        sampled = graph.sample(chosen[0], positive, graph.text(base[1]), latent)
        graph.add("ProbeSave", value=sampled, name=name)
        graph.add("ProbeSave", value=latent, name=f"{name}, before")
        graph.picture(sampled, base[2])
    assert_pictures(comfy_server.run(graph.prompt), 2)
    for name in ("noise mask", "for inpainting"):
        after, before = (comfy_server.probed(f"{name}{part}")[0]["samples"] for part in ("", ", before"))
        assert torch.allclose(after[..., 4:], before[..., 4:], atol=1e-4)
        assert apart(after[..., :4], before[..., :4]) > 0.01


def encoded(graph: Graph, picture: Node, base: Node) -> Node:
    return graph.add("VAEEncode", pixels=picture, vae=base[2])


def test_image_to_image_tiles_and_a_second_pass(comfy_server: ComfyServer) -> None:
    graph = Graph()
    base = graph.checkpoint()
    chosen = graph.loader(base[0], mixture="awe; fear")
    positive, negative = graph.condition(base[1], chosen[1]), graph.text(base[1])
    picture = graph.add("EmptyImage", width=64, height=64, batch_size=2, color=0x5588CC)
    tiles = {"tile_size": 512, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
    start = graph.add("VAEEncodeTiled", pixels=picture, vae=base[2], **tiles)
    first = graph.sample(chosen[0], positive, negative, start, denoise=0.6)
    larger = graph.add("LatentUpscaleBy", samples=first, upscale_method="bilinear", scale_by=2.0)
    second = graph.sample(chosen[0], positive, negative, larger, denoise=0.5)
    whole = graph.add("VAEDecodeTiled", samples=second, vae=base[2], **tiles)
    graph.add("SaveImage", images=whole, filename_prefix="second")
    pictures = assert_pictures(comfy_server.run(graph.prompt), 2)
    assert all(picture.shape == (128, 128, 3) for picture in pictures)
