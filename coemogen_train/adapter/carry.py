"""Going on from an adapter: what it has learned, carried over to a run of other emotions.

Shared weights are carried whole; what belongs to one emotion or polarity goes by its name, so that the run
may have fewer, more or reordered emotions. To add emotions without touching what is there, the rest is
frozen: parameters of which only some places may move carry `trainable_mask`, which the optimiser honours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..emotions import MAX_NAME_LENGTH, Emotion, Taxonomy
from ..errors import AdapterError, TaxonomyError
from .condition import EmotionEmbedder
from .file import Adapter
from .gaussians import EmotionGaussians
from .hilora import HiLoRA

# (place here, place in the source), of what both have.
Pairs = list[tuple[int, int]]


@torch.no_grad()
def carry_over(source: Adapter, embedder: EmotionEmbedder, hilora: HiLoRA, taxonomy: Taxonomy) -> None:
    """Copy into fresh modules of `taxonomy` all that `source` has learned of it; the rest stays fresh.

    Shared weights are copied whole, per emotion its part of the mapper and its HiLoRA group, per polarity its
    group. Emotions are found by name as `Taxonomy.index` forgives spelling, polarities whatever their case.

    Raises:
        AdapterError: sizes or inputs that differ, all named, with the settings that would cure it.
        ValueError: modules that were not made for `taxonomy`.
    """
    if hilora.polarity_of != taxonomy.polarity_of:
        raise ValueError("hilora was made for another taxonomy")
    _check_fits(source, embedder, hilora)
    emotions, polarities = _shared(taxonomy, source.info.taxonomy)
    per_emotion, axis = embedder.mapper.per_emotion
    learned = source.embedder.mapper.state_dict()
    for name, tensor in embedder.mapper.state_dict().items():
        if name == per_emotion:
            _copy_places(tensor, learned[name], axis, emotions)
        else:
            tensor.copy_(learned[name])
    embedder.encoder.load_state_dict(source.embedder.encoder.state_dict())
    first, first_there = taxonomy.num_emotions, source.info.taxonomy.num_emotions
    groups = emotions + [(first + here, first_there + there) for here, there in polarities]
    rows = [
        (here * hilora.rank + row, there * hilora.rank + row)
        for here, there in groups
        for row in range(hilora.rank)
    ]
    for key in hilora.layers:
        for axis, (own, theirs) in enumerate(
            zip(hilora.matrices(key), source.hilora.matrices(key), strict=True)
        ):
            _copy_places(own, theirs, axis, rows)


def extended_taxonomy(source: Taxonomy, emotions: Sequence[Emotion]) -> Taxonomy:
    """The source's emotions in their order, then the new ones; a known polarity keeps the source's spelling.

    Since polarities are numbered by first appearance, the source's keep their numbers too.

    Raises:
        TaxonomyError: no new emotion, or one that the source has, in any spelling.
    """
    known = [emotion.name for emotion in emotions if _index(source, emotion.name) is not None]
    if known or not emotions:
        told = f"already has {', '.join(known)}" if known else "has every emotion of the set already"
        raise TaxonomyError(
            f"the adapter to add emotions to {told}: name only new ones by --set emotions, or go on training "
            "all of it by --set init_mode=continue."
        )
    added = []
    for emotion in emotions:
        place = _polarity_index(source, emotion.polarity)
        added.append(emotion if place is None else replace(emotion, polarity=source.polarities[place]))
    name = source.name if source.name.endswith(" extended") else f"{source.name} extended"
    return Taxonomy(name if len(name) <= MAX_NAME_LENGTH else source.name, (*source.emotions, *added))


def freeze_carried(source_taxonomy: Taxonomy, embedder: EmotionEmbedder, hilora: HiLoRA) -> None:
    """Let only what the emotions beyond `source_taxonomy` brought move, in modules of an extended taxonomy.

    A parameter of which only some places may move gets `trainable_mask`, [its shape], bool, on its device;
    one in which nothing may, requires_grad = False. What emotions share is frozen, the LoRAs of the source's
    polarities included. Masks are attributes: call this on the very modules that are trained, where they are.

    Raises:
        ValueError: the modules' first emotions and polarities are not those of `source_taxonomy`.
    """
    carried, emotions = source_taxonomy.num_emotions, hilora.num_emotions
    if hilora.polarity_of[:carried] != source_taxonomy.polarity_of:
        raise ValueError("freeze_carried needs modules of an extended taxonomy")
    embedder.requires_grad_(False)
    per_emotion, axis = embedder.mapper.per_emotion
    part = dict(embedder.mapper.named_parameters()).get(per_emotion)
    if part is not None:  # the embeddings of names are no parameter
        _train_only(part, axis, range(carried, emotions))
    first_polarity = emotions + source_taxonomy.num_polarities
    groups = [*range(carried, emotions), *range(first_polarity, hilora.num_groups)]
    rows = [group * hilora.rank + row for group in groups for row in range(hilora.rank)]
    for axis, matrices in enumerate((hilora.down, hilora.up)):
        for parameter in matrices.values():
            _train_only(parameter, axis, rows)


def joined_gaussians(source: EmotionGaussians, added: EmotionGaussians) -> EmotionGaussians:
    """The Gaussians of the source's emotions, bit for bit, then those of the added ones.

    Where one has more Gaussians per emotion, the other is filled up with some of weight 0.

    Raises:
        AdapterError: covariances of another form, or embeddings of another width.
    """
    if source.width != added.width:
        raise AdapterError(
            f"the adapter's Gaussians are over embeddings of width {source.width}, the new emotions' of "
            f"width {added.width}: use the vision model that the adapter names."
        )
    if source.covariance != added.covariance:
        raise AdapterError(
            f"the adapter's Gaussians are {source.covariance}, the new emotions' {added.covariance}: "
            f"add --set gaussian_covariance={source.covariance}."
        )
    components = max(source.weights.shape[1], added.weights.shape[1])
    return EmotionGaussians(
        *(
            torch.cat([_filled_up(old, components), _filled_up(new.to(old), components)])
            for old, new in (
                (source.weights, added.weights),
                (source.mean, added.mean),
                (source.factor, added.factor),
            )
        )
    )


def _shared(taxonomy: Taxonomy, source: Taxonomy) -> tuple[Pairs, Pairs]:
    """The places of the emotions and of the polarities that both have."""
    emotions = [(here, _index(source, name)) for here, name in enumerate(taxonomy.names)]
    polarities = [(here, _polarity_index(source, name)) for here, name in enumerate(taxonomy.polarities)]
    return (
        [(here, there) for here, there in emotions if there is not None],
        [(here, there) for here, there in polarities if there is not None],
    )


def _index(taxonomy: Taxonomy, name: str) -> int | None:
    try:
        return taxonomy.index(name)
    except TaxonomyError:
        return None


def _polarity_index(taxonomy: Taxonomy, name: str) -> int | None:
    """The place of a polarity: of this very spelling, else of another case."""
    if name in taxonomy.polarities:
        return taxonomy.polarities.index(name)
    folded = [known.casefold() for known in taxonomy.polarities]
    return folded.index(name.casefold()) if name.casefold() in folded else None


def _copy_places(into: Tensor, source: Tensor, axis: int, pairs: Pairs) -> None:
    here, there = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(dim=1)
    values = source.index_select(axis, there.to(source.device))
    into.index_copy_(axis, here.to(into.device), values.to(into))


def _train_only(parameter: nn.Parameter, axis: int, places: Iterable[int]) -> None:
    index = torch.tensor(list(places), dtype=torch.long, device=parameter.device)
    mask = torch.zeros_like(parameter, dtype=torch.bool).index_fill_(axis, index, True)
    parameter.trainable_mask = mask  # type: ignore[attr-defined]  # an attribute of ours
    parameter.requires_grad_(len(index) > 0)


def _filled_up(tensor: Tensor, components: int) -> Tensor:
    """[E, K, ...] with zeros up to K = components."""
    missing = tensor.new_zeros(len(tensor), components - tensor.shape[1], *tensor.shape[2:])
    return torch.cat([tensor, missing], dim=1)


def _check_fits(source: Adapter, embedder: EmotionEmbedder, hilora: HiLoRA) -> None:
    """Raise AdapterError, all differences in one sentence, where the source's tensors fit no module here."""
    info, mapper, encoder = source.info, embedder.mapper, embedder.encoder
    settings = (
        ("rank", info.rank, hilora.rank),
        ("alpha", f"{info.alpha:g}", f"{hilora.alpha:g}"),
        ("tokens", info.tokens, mapper.tokens),
        ("hidden", info.hidden, mapper.hidden),
        ("visual_tokens", info.visual_tokens, encoder.visual_tokens),
        ("mapper_input", info.mapper_input, mapper.input),
    )
    faults = [f"{key} {theirs} (here {own})" for key, theirs, own in settings if theirs != own]
    cures = [f"--set {key}={theirs}" for key, theirs, own in settings if theirs != own]
    other_base = _has_other_layers(source, hilora)
    if other_base:
        faults.append("other layers in its U-Net")
    elif info.layers.keys() != hilora.layers.keys():
        faults.append(f"other targets ({', '.join(info.targets)})")
        cures.append(f'--set "targets={list(info.targets)}"')
    width, vision_width = info.text_encoders[0].width, encoder.to_tokens.in_features
    if width != mapper.width:
        faults.append(f"pseudo-words {width} wide (here {mapper.width})")
        other_base = True
    if info.vision.width != vision_width:
        faults.append(f"image embeddings {info.vision.width} wide (here {vision_width})")
    if not faults:
        return
    advice = [f"add {' '.join(cures)}"] if cures else []
    if other_base:
        advice.append(f"use its base model '{info.base.name}' or one of its kind")
    if info.vision.width != vision_width:
        advice.append(f"use its vision model '{info.vision.name}'")
    raise AdapterError(f"the adapter to go on from has {', '.join(faults)}: {', and '.join(advice)}.")


def _has_other_layers(source: Adapter, hilora: HiLoRA) -> bool:
    """Whether the base models differ, so that choosing the source's targets would not help.

    They do where a layer has another size, or where both adapt layers of a target but not the same ones.
    """
    theirs, own = source.info.layers, hilora.layers
    if any(tuple(theirs[key]) != own[key] for key in theirs.keys() & own.keys()):
        return True
    for target in source.info.targets:
        here, there = (
            {key for key in layers if f".{key}".endswith(f".{target}")} for layers in (own, theirs)
        )
        if here and here != there:
            return True
    return False
