"""Saving into a set, in a real ComfyUI: batches and lists, names, and what the trainer makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coemogen_train.captions.growing_set import SAMPLES
from coemogen_train.data import prepare
from coemogen_train.data.samples import TrainingSet

from ..captions.openai_server import says, serving
from .graphs import Graph, Node
from .server import ComfyServer
from .test_captioner import captioner, pictures

pytestmark = pytest.mark.comfyui


def rows(server: ComfyServer, name: str) -> list[dict[str, Any]]:
    table = server.output / name / SAMPLES
    return [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]


def saving(graph: Graph, images: Any, set_name: str, **choices: Any) -> Node:
    return graph.add("SaveToEmotionSet", images=images, set_name=set_name, **{"emotion": "awe"} | choices)


def test_captioned_pictures_become_a_training_set(comfy_server: ComfyServer, tmp_path: Path) -> None:
    sentences = ["A dog leaps through golden leaves.", "Grey rain falls on an empty bench."]
    with serving(*map(says, sentences)) as script:
        graph = Graph()
        images = pictures(graph, comfy_server, 2)
        written = captioner(graph, images, server_url=script.url, emotion="amusement; sadness")
        saving(graph, images, "my set", emotion="amusement; sadness", caption=written)
        result = comfy_server.run(graph.prompt)
    assert [(row["emotion"], row["caption"]) for row in rows(comfy_server, "my set")] == [
        ("amusement", sentences[0]),
        ("sadness", sentences[1]),
    ]
    loaded = [np.asarray(Image.open(comfy_server.input / f"{number}.png")) for number in range(2)]
    assert [np.array_equal(*pair) for pair in zip(result.pictures, loaded, strict=True)] == [True, True]
    report = prepare(comfy_server.output / "my set" / SAMPLES, tmp_path / "set")
    assert (report.found, report.usable, report.problems) == (2, 2, {})
    captions = {sample.emotion: sample.caption for sample in TrainingSet.open(tmp_path / "set").samples()}
    assert captions == dict(zip(("amusement", "sadness"), sentences, strict=True))


def test_every_run_adds_and_nothing_is_written_over(comfy_server: ComfyServer) -> None:
    for caption in ("One sentence for both.", "Another."):
        graph = Graph()
        saving(graph, pictures(graph, comfy_server, 2), "grown", caption=caption)
        comfy_server.run(graph.prompt)
    found = rows(comfy_server, "grown")
    assert [row["caption"] for row in found] == ["One sentence for both."] * 2 + ["Another."] * 2
    assert len({row["image"] for row in found}) == 4
    assert all((comfy_server.output / "grown" / row["image"]).is_file() for row in found)


def test_without_a_caption_a_row_has_none(comfy_server: ComfyServer) -> None:
    graph = Graph()
    saving(graph, pictures(graph, comfy_server), "bare")
    comfy_server.run(graph.prompt)
    (row,) = rows(comfy_server, "bare")
    assert (row["caption"], row["similarity"]) == (None, None)


def test_a_mixture_is_kept_under_its_strongest_emotion(comfy_server: ComfyServer) -> None:
    graph = Graph()
    chosen = graph.loader(graph.checkpoint()[0], mixture="awe 0.25 + fear 0.75; sadness")
    saving(graph, pictures(graph, comfy_server, 3), "mixed", emotion=chosen[1])
    comfy_server.run(graph.prompt)
    found = [(row["emotion"], row.get("mixture")) for row in rows(comfy_server, "mixed")]
    mixed = ("fear", "awe 0.25 + fear 0.75")
    assert found == [mixed, ("sadness", None), mixed]


def test_the_workflow_is_in_the_picture_as_save_image_has_it(comfy_server: ComfyServer) -> None:
    graph = Graph()
    images = pictures(graph, comfy_server)
    saving(graph, images, "noted")
    graph.add("SaveImage", images=images, filename_prefix="beside")
    result = comfy_server.run(graph.prompt)
    ours, theirs = (
        Image.open(comfy_server.output / image["subfolder"] / image["filename"])
        for outputs in (result.outputs["2"], result.outputs["3"])
        for image in outputs["images"]
    )
    assert ours.info["prompt"] == theirs.info["prompt"]
    assert "SaveToEmotionSet" in ours.info["prompt"]
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_no_workflow_is_in_the_picture_where_comfyui_was_told_so(
    start_server: Callable[..., ComfyServer],
) -> None:
    server = start_server("--cpu", "--disable-metadata")
    graph = Graph()
    saving(graph, pictures(graph, server), "silent")
    (image,) = server.run(graph.prompt).outputs["2"]["images"]
    assert not Image.open(server.output / image["subfolder"] / image["filename"]).info


@pytest.mark.parametrize("name", ["../up", "a/b", "con", "", "C:\\x"])
def test_a_name_that_leaves_the_output_folder_is_told_before_anything_runs(
    comfy_server: ComfyServer, name: str
) -> None:
    graph = Graph()
    saving(graph, pictures(graph, comfy_server), name)
    before = sorted(comfy_server.output.rglob("*"))
    told = comfy_server.fault(graph.prompt)
    assert "Custom validation failed" in told and f"'{name}' cannot name a set: use letters" in told
    assert "\n" not in told
    assert sorted(comfy_server.output.rglob("*")) == before


def test_captions_of_other_pictures_are_told(comfy_server: ComfyServer) -> None:
    with serving(says()) as script:
        graph = Graph()
        written = captioner(graph, pictures(graph, comfy_server, 2), server_url=script.url)
        saving(graph, pictures(graph, comfy_server, 3), "mismatched", caption=written)
        told = comfy_server.fault(graph.prompt)
    assert told == (
        "there are 2 captions for 3 pictures: connect the captioner to the very pictures that are saved."
    )
