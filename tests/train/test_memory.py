"""The memory of a step, estimated without numbers, against what a real step allocates."""

import json
from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from coemogen_train.adapter.condition import EmotionEmbedder, encode_text
from coemogen_train.adapter.encoder import VisualPerceptionEncoder
from coemogen_train.adapter.hilora import HiLoRA
from coemogen_train.adapter.mapper import NeuroSymbolicMapper
from coemogen_train.base.shape import BaseShape, read_base_shape
from coemogen_train.base.single_file import SD15_CONFIGS
from coemogen_train.emotions import MIKELS
from coemogen_train.train.config import make_config
from coemogen_train.train.memory import MemoryEstimate, StepMemory, choose_checkpointing, estimate_memory
from coemogen_train.train.objective import denoising_loss, semantic_loss
from coemogen_train.train.precision import dtype_of
from coemogen_train.train.rehearsal import MetaModels, rehearse_encoding, rehearse_step

VISION_WIDTH = 96
# The toy base, and Stable Diffusion 1.5 at a fifth of its width and half of its blocks.
TOY = {"batch_size": 8, "resolution": 64}
MIDDLING = {"batch_size": 2, "resolution": 128}


def config_of(**changes):
    return make_config({"base": "toy", "vision": "toy", "set": "set", "out": "out", **changes})


def middling_shape() -> BaseShape:
    shape = read_base_shape("nobody/nothing")
    unet = {"block_out_channels": [64, 128, 256, 256], "layers_per_block": 1, "cross_attention_dim": 128}
    unet |= {"norm_num_groups": 16}
    text = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
    return replace(
        shape,
        unet_config=dict(shape.unet_config) | unet,
        text_config=dict(shape.text_config) | text,
        architecture="middling",
    )


def rehearsed(shape, config, device_type="cpu", checkpointing=False):
    models = MetaModels.build(config, shape, MIKELS, VISION_WIDTH)
    return rehearse_step(models, config, shape, device_type, checkpointing)


def allocated(step) -> int:
    """Bytes at the peak of what PyTorch's allocator gave out during `step`, inside of kernels too."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    waiting, events = list(recorded.profiler.kineto_results.experimental_event_tree()), []
    while waiting:
        node = waiting.pop()
        waiting.extend(node.children)
        if (size := getattr(node.extra_fields, "alloc_size", None)) is not None:
            events.append((node.start_time_ns, size))
    now = peak = 0
    for _, size in sorted(events, key=lambda event: event[0]):
        now += size
        peak = max(peak, now)
    return peak


def real_step(shape, config, checkpointing):
    """A step of these sizes with random weights, put together as the objective does."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(dict(shape.unet_config)).requires_grad_(False)
    text_encoder = CLIPTextModel(CLIPTextConfig(**shape.text_config)).eval().requires_grad_(False)
    if checkpointing:
        unet.train().enable_gradient_checkpointing()
    mapper = NeuroSymbolicMapper(8, shape.width, config.tokens, config.hidden)
    embedder = EmotionEmbedder(mapper, VisualPerceptionEncoder(shape.width, VISION_WIDTH))
    hilora = HiLoRA.for_unet(unet, MIKELS.polarity_of, config.rank)
    attached = hilora.attach(unet)
    torch.nn.Module.to(unet, dtype_of(config.precision))
    torch.nn.Module.to(unet, memory_format=torch.channels_last)
    batch, side = config.batch_size, config.resolution // shape.vae_factor
    dtype = dtype_of(config.precision)

    def step():
        emotion, ids = torch.eye(8)[torch.arange(batch) % 8], torch.zeros(batch, shape.max_length).long()
        latents = torch.randn(batch, shape.latent_channels, side, side)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            condition = encode_text(text_encoder, ids, 0, embedder(emotion, torch.randn(batch, VISION_WIDTH)))
            attached.route(hilora.gate(emotion))
            hidden = condition.hidden.to(dtype)
            with torch.autocast("cpu", enabled=False):
                prediction = unet(latents.to(dtype), torch.zeros(batch), encoder_hidden_states=hidden).sample
            with torch.no_grad():
                caption = encode_text(text_encoder, ids, 0)
            loss = denoising_loss(prediction, latents) + semantic_loss(condition, caption, "sequence")
        loss.mean().backward()
        for parameter in (*embedder.parameters(), *hilora.parameters()):
            parameter.grad = None

    return step


@pytest.mark.parametrize(
    ("name", "settings", "checkpointing"),
    [
        ("toy", TOY, False),
        ("toy", {**TOY, "precision": "bf16"}, True),
        ("middling", MIDDLING, False),
        ("middling", MIDDLING, True),
    ],
    ids=["toy", "toy, bf16, checkpointed", "middling", "middling, checkpointed"],
)
def test_estimate_is_within_a_tenth_of_what_a_real_step_allocates(name, settings, checkpointing):
    shape = read_base_shape("toy") if name == "toy" else middling_shape()
    config = config_of(**settings)
    estimated = rehearsed(shape, config, checkpointing=checkpointing).peak_bytes
    step = real_step(shape, config, checkpointing)
    step()  # what is laid out once and kept is no part of a step
    assert estimated == pytest.approx(allocated(step), rel=0.1)


def test_products_are_those_measured_for_stable_diffusion():
    # Forward and backward at 512 px: 1.745 TFLOP with stacked LoRAs of rank 40, 0.027 of the text encoder for
    # e^c and 0.013 for the caption; 1.117 of the VAE. (Attention's backward pass was counted lower.)
    shape, config = read_base_shape("nobody/nothing"), config_of(resolution=512)
    models = MetaModels.build(config, shape, MIKELS, 768)
    assert rehearse_step(models, config, shape, "cpu", False).flops == pytest.approx(1.785e12, rel=0.05)
    assert rehearse_encoding(models, 512, 1).flops == pytest.approx(1.117e12, rel=0.01)


def test_activations_grow_with_the_batch_and_the_area_and_not_faster():
    shape = middling_shape()
    base = rehearsed(shape, config_of(**MIDDLING)).peak_bytes
    wide = rehearsed(shape, config_of(**MIDDLING | {"batch_size": 4})).peak_bytes
    large = rehearsed(shape, config_of(**MIDDLING | {"resolution": 256})).peak_bytes
    assert wide == pytest.approx(2 * base, rel=0.05)
    assert large < 4 * base  # the [L, L] matrix of attention alone would take 16 times as much


def test_half_precision_halves_what_the_unet_keeps_and_a_gpu_keeps_little_more():
    shape = middling_shape()
    full = rehearsed(shape, config_of(**MIDDLING), "cuda").peak_bytes
    cpu = rehearsed(shape, config_of(**MIDDLING, precision="bf16"), "cpu").peak_bytes
    gpu = rehearsed(shape, config_of(**MIDDLING, precision="bf16"), "cuda").peak_bytes
    assert 0.45 * full < cpu < gpu < 0.65 * full  # the text encoder's norms stay in single precision


def test_a_rehearsal_leaves_nothing_behind():
    shape, config = read_base_shape("toy"), config_of(**TOY)
    models = MetaModels.build(config, shape, MIKELS, VISION_WIDTH)
    first = [rehearse_step(models, config, shape, "cpu", checkpointing) for checkpointing in (True, False)]
    assert all(parameter.grad is None for parameter in models.trained)
    assert not any("forward" in vars(module) for module in models.unet.modules())
    assert not any(module._forward_hooks for module in models.unet.modules())
    assert torch.zeros(2).device.type == "cpu"
    again = [rehearse_step(models, config, shape, "cpu", checkpointing) for checkpointing in (True, False)]
    assert first == again


def test_parts_of_the_estimate_are_weights_states_and_context():
    shape, config = read_base_shape("nobody/nothing"), config_of(resolution=512, precision="bf16")
    models = MetaModels.build(config, shape, MIKELS, 768)
    step = rehearse_step(models, config, shape, "cuda", False)
    encoding = rehearse_encoding(models, 512, 1)
    plain = estimate_memory(models, config, "cuda", step, None, encoding).plain
    # 859.5 M weights of the U-Net and 83.7 M of the VAE in two bytes, 123.1 M of the text encoder in four.
    assert plain.weights == pytest.approx(859.5e6 * 2 + 123.1e6 * 4 + 83.7e6 * 2, rel=0.001)
    averaged = estimate_memory(
        models, config.model_copy(update={"ema_decay": 0.999}), "cuda", step, None, encoding
    )
    assert averaged.plain.trainable == plain.trainable * 5 // 4
    on_cpu = estimate_memory(models, config, "cpu", step, None, encoding).plain
    assert plain.overhead - on_cpu.overhead == pytest.approx(0.6 * 2**30, rel=0.001)


@pytest.mark.parametrize(
    ("setting", "available", "expected"),
    [("auto", 100, False), ("auto", 99, True), (True, 1000, True), (False, 1, False)],
)
def test_checkpointing_is_on_where_a_step_would_not_fit_unless_the_settings_say_otherwise(
    setting, available, expected
):
    memory = StepMemory(MemoryEstimate(60, 10, 20, 10), MemoryEstimate(60, 10, 2, 1), 0)
    chosen, reason = choose_checkpointing(config_of(gradient_checkpointing=setting), memory, available)
    assert chosen is expected
    assert reason


def test_the_bundled_sizes_of_stable_diffusion_are_what_an_unknown_base_is_planned_with():
    sizes = json.loads((SD15_CONFIGS / "unet" / "config.json").read_text(encoding="utf-8"))
    assert read_base_shape("nobody/nothing").unet_config["block_out_channels"] == sizes["block_out_channels"]
