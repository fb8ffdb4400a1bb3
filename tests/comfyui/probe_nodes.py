"""Nodes for tests alone: what goes through a graph is saved as it is, and loaded into one.

Copied into `custom_nodes`, where ComfyUI loads it beside the pack under test. Files go to `output/probe/`.
"""

from __future__ import annotations

import hashlib
import json
import os

import comfy.model_management
import folder_paths
import safetensors.torch
import torch


class Anything(str):
    """A type that every wire fits."""

    __slots__ = ()

    def __ne__(self, other):
        return False


ANYTHING = Anything("*")


class ProbeSave:
    """Save a value: its tensors by path (`0.cond`, `0.pooled_output`, `samples`), the rest as metadata."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANYTHING,), "name": ("STRING", {"default": "value"})}}

    CATEGORY, FUNCTION, OUTPUT_NODE, RETURN_TYPES = "probe", "save", True, ()
    INPUT_IS_LIST = True

    def save(self, value, name):
        tensors, plain = {}, {}
        for index, item in enumerate(value):  # a wire carries one value, or a list of them
            flatten(item, "" if len(value) == 1 else f"item{index}", tensors, plain)
        folder = os.path.join(folder_paths.get_output_directory(), "probe")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{name[0]}.safetensors")
        safetensors.torch.save_file(tensors, path, {"plain": json.dumps(plain, default=str)})
        return {"ui": {"probe": [path]}}


class ProbeLoad:
    """Load a file's tensor `tensor` as what a wire carries."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {}), "tensor": ("STRING", {"default": "value"})}}

    CATEGORY, FUNCTION = "probe", "load"
    RETURN_TYPES = ("LATENT", "CONDITIONING", "COEMOGEN_EMBEDS", "IMAGE", "NOISE")

    def load(self, path, tensor):
        value = safetensors.torch.load_file(path)[tensor]
        return {"samples": value}, [[value, {}]], value, value, GivenNoise(value)

    @classmethod
    def IS_CHANGED(cls, path, tensor):
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()


class GivenNoise:
    """Noise for SamplerCustomAdvanced that is not drawn but given."""

    seed = 0

    def __init__(self, noise):
        self.noise = noise

    def generate_noise(self, latent):
        return self.noise


class ProbeModel:
    """Tell the state of a model's base once all is taken off it; `after` makes it wait for a sampler."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "name": ("STRING", {})}, "optional": {"after": (ANYTHING,)}}

    CATEGORY, FUNCTION, OUTPUT_NODE, RETURN_TYPES = "probe", "tell", True, ()

    def tell(self, model, name, after=None):
        comfy.model_management.unload_all_models()
        base = model.model.diffusion_model
        digest = hashlib.sha256()
        for key, tensor in sorted(base.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        changed = [path for path, module in base.named_modules() if "forward" in vars(module)]
        hooks = [path for path, module in base.named_modules() if module._forward_hooks]
        told = {
            "weights": digest.hexdigest(),
            "changed_forwards": changed,
            "hooks": hooks,
            "patches": {key: len(patches) for key, patches in model.patches.items()},
        }
        return ProbeSave().save([told], [name])

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")  # what is told is the present, not what was once computed


class ProbeCompiled:
    """A model as core's TorchCompileModel gives it, by a backend that needs no compiler."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    CATEGORY, FUNCTION, RETURN_TYPES = "probe", "compile", ("MODEL",)

    def compile(self, model):
        from comfy_api.torch_helpers import set_torch_compile_wrapper

        compiled = model.clone()
        set_torch_compile_wrapper(model=compiled, backend="eager")
        return (compiled,)


class ProbeRepeatedRows:
    """A model whose cross-attention sees the conditional rows several times, as regional packs do it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "copies": ("INT", {"default": 2})}}

    CATEGORY, FUNCTION, RETURN_TYPES = "probe", "repeat", ("MODEL",)

    def repeat(self, model, copies):
        patched = model.clone()

        def repeated(tensor, options):
            chunks = tensor.chunk(len(options["cond_or_uncond"]))
            several = zip(chunks, options["cond_or_uncond"], strict=True)
            return torch.cat([chunk.repeat(1 if kind else copies, 1, 1) for chunk, kind in several])

        def before(n, context, value, options):
            return repeated(n, options), repeated(context, options), repeated(value, options)

        def after(n, options):
            kinds = options["cond_or_uncond"]
            rows = n.shape[0] // sum(1 if kind else copies for kind in kinds)
            kept, start = [], 0
            for kind in kinds:
                kept.append(n[start : start + rows])
                start += rows * (1 if kind else copies)
            return torch.cat(kept)

        patched.set_model_attn2_patch(before)
        patched.set_model_attn2_output_patch(after)
        return (patched,)


def flatten(value, path, tensors, plain):
    """Put the tensors of nested lists and dicts under their paths into `tensors`, all else into `plain`."""
    if isinstance(value, torch.Tensor):
        tensors[path or "value"] = value.detach().cpu().contiguous().clone()
    elif isinstance(value, dict):
        for key, part in value.items():
            flatten(part, f"{path}.{key}".lstrip("."), tensors, plain)
    elif isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], torch.Tensor) and isinstance(value[1], dict):
            value = {"cond": value[0], **value[1]}  # an entry of a CONDITIONING
            flatten(value, path, tensors, plain)
            return
        for index, part in enumerate(value):
            flatten(part, f"{path}.{index}".lstrip("."), tensors, plain)
    elif hasattr(value, "image_embeds"):  # CLIP Vision's output
        tensors[f"{path}.image_embeds".lstrip(".")] = value.image_embeds.detach().cpu().contiguous()
    else:
        plain[path or "value"] = value


PROBES = (ProbeSave, ProbeLoad, ProbeModel, ProbeCompiled, ProbeRepeatedRows)
NODE_CLASS_MAPPINGS = {probe.__name__: probe for probe in PROBES}
