"""An adapter comes back as it went, equal content is equal bytes, and a wrong file is told in a sentence."""

import copy
import dataclasses
import hashlib
import json
import os
import struct

import pytest
import safetensors
import safetensors.torch
import torch

from coemogen_train.adapter.file import (
    Adapter,
    describe_adapter,
    load_adapter,
    make_embedder,
    make_hilora,
    read_adapter_info,
    save_adapter,
)
from coemogen_train.adapter.gaussians import EmotionGaussians
from coemogen_train.adapter.info import AdapterInfo, BaseInfo, GuidanceInfo, TextEncoderInfo, VisionInfo
from coemogen_train.emotions import MIKELS, Emotion, Taxonomy
from coemogen_train.errors import AdapterError

TAXONOMY = Taxonomy(
    "home", (Emotion("nostalgia", "mild", 0.25), Emotion("dread", "dark"), Emotion("calm", "mild"))
)
LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
INFO = AdapterInfo(
    taxonomy=TAXONOMY,
    base=BaseInfo("stable-diffusion-v1", "epsilon", 16, "a base: 基"),
    text_encoders=(TextEncoderInfo(16, 1, False),),
    vision=VisionInfo("tiny", 10),
    layers={LAYER: (8, 8), "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0": (16, 12)},
    rank=2,
    alpha=2.0,
    hidden=6,
    guidance=GuidanceInfo(3.0, "conditional"),
    training={"steps": 300, "learning_rate": 1e-3, "base": "someone/some-model"},
    data={"kept": {"nostalgia": 3, "dread": 4, "calm": 5}},
    licence="CC-BY-NC-4.0",
    origin="drawn\nby hand",
)


def an_adapter(covariance="full", seed=0):
    torch.manual_seed(seed)
    hilora = make_hilora(INFO)
    for up in hilora.up.values():
        torch.nn.init.normal_(up)
    shape = (3, 2, 10, 10) if covariance == "full" else (3, 2, 10)
    gaussians = EmotionGaussians(
        torch.tensor([[0.75, 0.25], [1.0, 0.0], [0.5, 0.5]]), torch.randn(3, 2, 10), torch.rand(shape).half()
    )
    return Adapter(INFO, make_embedder(INFO, 0.4), hilora, gaussians)


@pytest.fixture
def path(tmp_path):
    save_adapter(an_adapter(), tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def assert_same(one, other):
    assert one.info == other.info
    for part in ("embedder", "hilora"):
        first, second = getattr(one, part).state_dict(), getattr(other, part).state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    for part in ("weights", "mean", "factor"):
        assert torch.equal(getattr(one.gaussians, part), getattr(other.gaussians, part))


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_round_trip(covariance, tmp_path):
    adapter = an_adapter(covariance)
    save_adapter(adapter, tmp_path / "a.safetensors")
    loaded = load_adapter(tmp_path / "a.safetensors")
    assert_same(adapter, loaded)
    assert loaded.gaussians.covariance == covariance
    assert not loaded.hilora.training and not any(part.requires_grad for part in loaded.embedder.parameters())


def test_what_no_file_holds_is_made_anew(path):
    """Which emotion has which polarity, and the marks by which the optimiser knows the groups."""
    made, loaded = an_adapter().hilora, load_adapter(path).hilora
    assert torch.equal(loaded.gate(torch.eye(3)), made.gate(torch.eye(3)))
    assert all(p.hilora_rank == 2 and p.hilora_group_dim == 0 for p in loaded.down.values())
    assert all(p.hilora_rank == 2 and p.hilora_group_dim == 1 for p in loaded.up.values())


def test_written_again_it_has_equal_bytes(path, tmp_path):
    save_adapter(load_adapter(path), tmp_path / "b.safetensors")
    save_adapter(an_adapter(), tmp_path / "c.safetensors")
    assert (
        path.read_bytes()
        == (tmp_path / "b.safetensors").read_bytes()
        == (tmp_path / "c.safetensors").read_bytes()
    )


def test_the_safetensors_library_reads_it_alike(path):
    adapter = an_adapter()
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
        assert torch.equal(file.get_tensor(f"hilora.{LAYER}.down"), adapter.hilora.matrices(LAYER)[0])
        assert torch.equal(file.get_tensor("gaussians.factor"), adapter.gaussians.factor)
        assert torch.equal(file.get_tensor("encoder.norm.weight"), adapter.embedder.encoder.norm.weight)
    assert metadata["coemogen.format_version"] == "1"
    assert json.loads(metadata["coemogen"])["taxonomy"]["emotions"][1] == {
        "name": "dread",
        "polarity": "dark",
    }
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/coemogen"
    assert "modelspec.date" not in metadata


def test_the_checksum_covers_header_and_data(path):
    """Computed here from the bytes alone."""
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    claimed = header["__metadata__"].pop("coemogen.sha256")
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    data = raw[8 + struct.unpack("<Q", raw[:8])[0] :]
    assert hashlib.sha256(text.encode("utf-8") + data).hexdigest() == claimed


def test_the_header_is_sorted_and_the_data_aligned(path):
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    pairs = json.loads(raw[8 : 8 + length], object_pairs_hook=lambda pairs: pairs)
    names = [name for name, _ in pairs]
    assert length % 8 == 0 and names == sorted(names)


def test_loading_leaves_the_random_state_alone(path):
    torch.manual_seed(4)
    before = torch.get_rng_state()
    load_adapter(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_path_in_any_script(tmp_path):
    odd = tmp_path / "Gefühle 感情 😀" / "ärger.safetensors"
    save_adapter(an_adapter(), odd)
    assert_same(load_adapter(odd), an_adapter())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no names that are no text")
def test_a_name_that_is_no_text_is_shown_all_the_same(tmp_path):
    with pytest.raises(AdapterError) as caught:
        load_adapter(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.safetensors"))
    assert "?" in str(caught.value) and str(caught.value).encode("utf-8")


def test_probe_tensors_are_kept(tmp_path):
    adapter = an_adapter()
    adapter.probe = {"probe.weight": torch.randn(3, 10)}
    save_adapter(adapter, tmp_path / "a.safetensors")
    assert torch.equal(
        load_adapter(tmp_path / "a.safetensors").probe["probe.weight"], adapter.probe["probe.weight"]
    )


def test_describe(path):
    report = describe_adapter(path)
    assert json.loads(json.dumps(report)) == report
    assert report["gaussians"] == {
        "covariance": "full",
        "components": {"nostalgia": 2, "dread": 1, "calm": 2},
    }
    assert report["parameters"]["hilora"] == (8 + 8 + 16 + 12) * 5 * 2
    assert report["guidance"] == {"scale": 3.0, "hilora_branches": "conditional"}
    assert report["bytes"] == path.stat().st_size


def test_nothing_is_written_of_an_adapter_that_would_be_refused(tmp_path):
    adapter = an_adapter()
    with torch.no_grad():
        next(iter(adapter.hilora.up.values()))[0, 0] = torch.nan
    with pytest.raises(AdapterError, match=r"a\.safetensors: .*NaN"):
        save_adapter(adapter, tmp_path / "a.safetensors")
    wrong = dataclasses.replace(INFO, tokens=5)
    with pytest.raises(AdapterError, match="has the shape"):
        save_adapter(dataclasses.replace(an_adapter(), info=wrong), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("leak", ["/home/me/photos", "C:\\Users\\me", "~/photos", "\\\\server\\share"])
def test_paths_do_not_travel(leak, tmp_path):
    for field in ("training", "data"):
        info = dataclasses.replace(INFO, **{field: {"somewhere": ["deep", {"inside": leak}]}})
        with pytest.raises(ValueError, match="holds the path"):
            save_adapter(dataclasses.replace(an_adapter(), info=info), tmp_path / "a.safetensors")


# ---- hostile files ----


def parts_of(path):
    """(header, data) of a safetensors file."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + length]), bytearray(raw[8 + length :])


def write(path, header, data, sign=True):
    """A safetensors file of these parts, with the checksum that an enemy would compute."""
    if sign:
        header = copy.deepcopy(header)
        header["__metadata__"].pop("coemogen.sha256", None)
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        header["__metadata__"]["coemogen.sha256"] = hashlib.sha256(text.encode("utf-8") + data).hexdigest()
    raw = json.dumps(header).encode("utf-8")
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def refuses(path, fault):
    with pytest.raises(AdapterError, match=fault) as caught:
        load_adapter(path)
    message = str(caught.value)
    assert path.name in message and "\n" not in message and len(message) < 400
    assert message.endswith((".", ")"))
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_the_enemys_writer_makes_files_that_are_otherwise_good(path):
    write(path, *parts_of(path))
    assert_same(load_adapter(path), an_adapter())


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.1, 0.3, 0.9, 0.99999])
def test_truncated_anywhere(share, path):
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    refuses(path, "cut off|bytes are missing")


def test_bytes_at_the_end(path):
    path.write_bytes(path.read_bytes() + b"more")
    refuses(path, "left over")


def test_a_flipped_bit_anywhere(path):
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    positions = [
        *range(0, 8 + length, 17),
        *range(8 + length, len(raw), max(1, len(raw) // 150)),
        len(raw) - 1,
    ]
    for number, position in enumerate(positions):
        flipped = bytearray(raw)
        flipped[position] ^= 1 << (number % 8)
        path.write_bytes(flipped)
        refuses(path, ".")


def test_a_flipped_bit_in_the_data_is_told_as_damage(path):
    header, data = parts_of(path)
    data[len(data) // 2] ^= 1
    write(path, header, data, sign=False)
    refuses(path, "checksum.*damaged")


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 5 * 2**20])
def test_a_header_of_absurd_length(length, path):
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    refuses(path, f"header would have {length} bytes")


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"__metadata__": {"a": 1}}',
        b'{"__metadata__": []}',
        b'{"__metadata__": {"a": "b", "a": "c"}}',
        b'{"__metadata__": {"a": "\\ud800"}}',
        b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 4]}}',
        b'{"a": ' + b"9" * 1_000_000 + b"}",
        b'{"a": null}',
        b'{"a": {"dtype": "F32", "shape": [1]}}',
        b'{"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}',
    ],
    ids=range(14),
)
def test_a_broken_header(header, path):
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refuses(path, "broken|the dtype")


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [
        ([1], [0, 8]),
        ([1], [4, 0]),
        ([1], [-4, 0]),
        ([1], [0]),
        ([1.0], [0, 4]),
        ([True], [0, 4]),
        ([0], [0, 0]),
        ([], [0, 4]),
        ([2**62, 4], [0, 0]),
        ([2**31, 2**31, 2**31, 2**31], [0, 4]),
        ([1] * 9, [0, 4]),
        ([10**12], [0, 4 * 10**12]),
        ("1", [0, 4]),
    ],
)
def test_impossible_tensors(shape, offsets, path):
    header, data = parts_of(path)
    header["probe.x"] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    write(path, header, data)
    refuses(path, "'probe.x' has an? (impossible )?shape")


def test_overlapping_tensors(path):
    header, data = parts_of(path)
    header["probe.x"] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    write(path, header, data)
    refuses(path, "overlaps another")


def test_a_hole_in_the_data_where_anything_could_hide(path):
    header, data = parts_of(path)
    start = len(data) + 64
    header["probe.x"] = {"dtype": "F32", "shape": [2], "data_offsets": [start, start + 8]}
    write(path, header, data + bytes(72))
    refuses(path, "leaves a hole")


def test_a_wrong_shape(path):
    header, data = parts_of(path)
    header["encoder.to_q.weight"]["shape"] = [8, 32]
    write(path, header, data)
    refuses(path, r"'encoder.to_q.weight' has the shape \[8, 32\], its metadata says \[16, 16\]")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite(value, path):
    header, data = parts_of(path)
    struct.pack_into("<f", data, header["mapper.layers.0.bias"]["data_offsets"][0], value)
    write(path, header, data)
    refuses(path, "'mapper.layers.0.bias' holds a NaN")


@pytest.mark.parametrize("dtype", ["I32", "F64", "BOOL", "F8_E4M3", "object"])
def test_a_wrong_dtype(dtype, path):
    header, data = parts_of(path)
    header["mapper.layers.0.bias"]["dtype"] = dtype
    write(path, header, data)
    refuses(path, f"has the dtype '{dtype}'")


def test_an_extra_and_a_missing_tensor(path):
    header, data = parts_of(path)
    header["surplus"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
    write(path, header, data + bytes(4))
    refuses(path, "unknown tensor 'surplus'")
    del header["surplus"]
    header["surprise"] = header.pop("mapper.layers.0.bias")
    write(path, header, data)
    refuses(path, "'mapper.layers.0.bias' is missing")


@pytest.mark.parametrize("inside", [False, True])
def test_a_pickle(inside, tmp_path):
    """Neither as the file itself, in both of torch's forms, nor hidden behind a good header."""
    path = tmp_path / "a.safetensors"
    if inside:
        save_adapter(an_adapter(), path)
        header, data = parts_of(path)
        data[:40] = b"\x80\x04\x95" + bytes(37)
        write(path, header, data, sign=False)
        refuses(path, "checksum")
        return
    for zipped in (True, False):
        torch.save({"weight": torch.zeros(3)}, path, _use_new_zipfile_serialization=zipped)
        refuses(path, "pickle.*never opened")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "cut off"),
        (b"<!DOCTYPE html><html>Sign in to download</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
        (b"GGUF" + bytes(100), "GGUF"),
        (b"just some text, long enough", "no safetensors file"),
    ],
)
def test_files_that_people_mistake_for_an_adapter(content, fault, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    refuses(path, fault)


def test_no_file_and_a_folder(tmp_path):
    refuses(tmp_path / "absent.safetensors", "cannot be read")
    refuses(tmp_path, "cannot be read")


def test_a_lora(tmp_path):
    path = tmp_path / "lora.safetensors"
    safetensors.torch.save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, path)
    refuses(path, "no CoEmoGen adapter")


def test_a_newer_format(path):
    header, data = parts_of(path)
    header["__metadata__"]["coemogen.format_version"] = "2"
    write(path, header, data)
    refuses(path, "format version '2', not 1; update")


def changed(change):
    plain = INFO.to_dict()
    change(plain)
    return plain


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda plain: plain.pop("rank"), "lacks 'rank'"),
        (lambda plain: plain.update(extra=1), "unknown 'extra'"),
        (lambda plain: plain.update(rank=True), "rank must be a whole number"),
        (lambda plain: plain.update(rank=10**9), "rank must be a whole number"),
        (lambda plain: plain.update(hidden=0), "hidden must be"),
        (lambda plain: plain.update(alpha=-1), "alpha must be a number above"),
        (lambda plain: plain.update(alpha=10**400), "alpha must be a number|metadata is broken"),
        (lambda plain: plain.update(layers={}), "names no layers"),
        (lambda plain: plain.update(layers={"../up": [8, 8]}), "impossible layer"),
        (lambda plain: plain.update(layers={"a/b": [8, 8]}), "impossible layer"),
        (lambda plain: plain["layers"].update({LAYER: [8]}), "has no size"),
        (lambda plain: plain["layers"].update({LAYER: [8, 9]}), "has the shape"),
        (lambda plain: plain.update(hidden=60_000), "has the shape"),
        (lambda plain: plain["text_encoders"].append(plain["text_encoders"][0]), "2 text encoders"),
        (lambda plain: plain["taxonomy"].update(emotions=[]), "list of emotions is broken"),
        (lambda plain: plain["taxonomy"]["emotions"].pop(), "has the shape"),
        (lambda plain: plain["taxonomy"]["emotions"][0].update(name="dread"), "list of emotions is broken"),
        (lambda plain: plain["guidance"].update(hilora_branches="all"), "knows both, conditional"),
        (lambda plain: plain["guidance"].update(scale="3"), "guidance scale must be"),
        (lambda plain: plain["base"].update(name="\x1b[2Jgone"), "printable"),
        (lambda plain: plain["base"].pop("name"), "'base' lacks 'name'"),
        (lambda plain: plain["vision"].update(width=11), "has the shape"),
        (lambda plain: plain.update(training=[]), "'training' must be a table"),
        (lambda plain: plain["training"].update(many=[[]] * 70_000), "header is broken"),
        (lambda plain: plain["training"].update(deep=json.loads("[" * 9 + "]" * 9)), "more than 8 deep"),
        (lambda plain: plain["data"].update(half="\ud800"), "no Unicode"),
        (lambda plain: plain.update({"\x1b[2J": 1}), r"unknown '\\x1b\[2J'"),
        (lambda plain: plain["taxonomy"].update({"\u202e": 1}), r"has no '\\u202e'"),
        (lambda plain: plain["taxonomy"]["emotions"][0].update(polarity="x" * 9999), "at most 100"),
        (lambda plain: plain["taxonomy"]["emotions"][0].update(polarity=[0] * 9999), "word or phrase"),
        (lambda plain: plain["taxonomy"]["emotions"][0].update(valence=[0] * 9999), "finite number"),
    ],
)
def test_metadata_that_cannot_be(change, fault, path):
    header, data = parts_of(path)
    header["__metadata__"]["coemogen"] = json.dumps(changed(change))
    write(path, header, data)
    refuses(path, fault)


def test_a_number_beyond_floats_in_the_metadata(path):
    header, data = parts_of(path)
    text = header["__metadata__"]["coemogen"]
    header["__metadata__"]["coemogen"] = text.replace('"steps":300', '"steps":1e999')
    write(path, header, data)
    refuses(path, "metadata is broken")


@pytest.mark.parametrize(("value", "begin"), [(float("nan"), 0), (0.0, -4), (0.0, 4)])
def test_names_that_a_terminal_would_obey_are_told_escaped(value, begin, path):
    """Of a probe's tensors, whose names are free: one not finite, one that overlaps, one behind a hole."""
    header, data = parts_of(path)
    start = len(data) + begin
    header["probe.\x1b[2J\n"] = {"dtype": "F32", "shape": [1], "data_offsets": [start, start + 4]}
    write(path, header, data + struct.pack("<f", value) + bytes(max(0, begin)))
    refuses(path, r"'probe\.\\x1b\[2J\\n'")


def test_what_is_stored_in_half_precision_is_computed_in_full(path):
    header, data = parts_of(path)
    adapter, out = an_adapter(), bytearray()
    for name, entry in sorted(header.items(), key=lambda item: item[1].get("data_offsets", [])):
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensor = torch.frombuffer(
                data[begin:end], dtype={"F32": torch.float32}.get(entry["dtype"], torch.half)
            )
            piece = tensor.half().numpy().tobytes()
            entry |= {"dtype": "F16", "data_offsets": [len(out), len(out) + len(piece)]}
            out += piece
    write(path, header, out)
    loaded = load_adapter(path)
    for key in adapter.hilora.layers:
        for own, read in zip(adapter.hilora.matrices(key), loaded.hilora.matrices(key), strict=True):
            assert read.dtype == torch.float32 and torch.equal(read, own.half().float())


def test_metadata_that_is_no_json(path):
    header, data = parts_of(path)
    header["__metadata__"]["coemogen"] = "{" * 60_000
    write(path, header, data)
    refuses(path, "metadata is broken")


def test_sizes_from_the_metadata_are_compared_before_anything_is_allocated(path):
    """At these sizes HiLoRA alone would need terabytes."""
    plain = INFO.to_dict() | {
        "rank": 1024,
        "layers": {f"layer{number}": [65_536, 65_536] for number in range(2000)},
    }
    header, data = parts_of(path)
    header["__metadata__"]["coemogen"] = json.dumps(plain)
    write(path, header, data)
    refuses(path, "is missing")


def test_gaussian_weights_that_do_not_add_up(path):
    header, data = parts_of(path)
    struct.pack_into("<f", data, header["gaussians.weights"]["data_offsets"][0], 0.9)
    write(path, header, data)
    refuses(path, "do not add up")


def test_an_adapter_knows_the_checksum_of_its_file(tmp_path, make_adapter):
    path = tmp_path / "adapter.safetensors"
    save_adapter(make_adapter(MIKELS), path)
    assert load_adapter(path).checksum == describe_adapter(path)["sha256"]


def test_the_header_alone_tells_what_an_adapter_is(tmp_path, make_adapter):
    path = tmp_path / "adapter.safetensors"
    adapter = make_adapter(MIKELS)
    save_adapter(adapter, path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # damage in a tensor, which a header does not show
    path.write_bytes(data)
    assert read_adapter_info(path) == adapter.info
    with pytest.raises(AdapterError, match="checksum"):
        load_adapter(path)


def test_a_header_that_cannot_be_read_names_the_file(tmp_path):
    with pytest.raises(AdapterError, match=r"no\.safetensors: it cannot be read"):
        read_adapter_info(tmp_path / "no.safetensors")
