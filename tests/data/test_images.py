"""Every picture file becomes upright RGB or one class of problem, whatever is in it."""

import contextlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from coemogen_train.data.images import ImageLimits, ImageProblem, check_image, decode_rgb, load_rgb
from coemogen_train.data.pixels import square, to_pixels

LIMITS = ImageLimits()

# The commands silence these with `quiet_pillow`.
pytestmark = [
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL"),
]


def encoded(image: Image.Image, name: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A valid PNG header and next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def problem_of(data: bytes) -> str:
    with pytest.raises(ImageProblem) as caught:
        decode_rgb(data, LIMITS)
    return caught.value.kind


@pytest.mark.parametrize("size", [(12000, 12000), (50000, 50000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bomb_is_too_large_before_any_pixel_is_decoded(size):
    assert problem_of(png_claiming(*size)) == "too_large"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_every_cut_of_a_file_is_a_problem_or_a_picture_and_never_another_error(draw, name):
    data = encoded(draw(1, 40, 40), name)
    for length in range(1, len(data), max(1, len(data) // 40)):
        try:
            image, _, _ = decode_rgb(data[:length], LIMITS)
        except ImageProblem:
            continue
        assert image.mode == "RGB"


def test_truncated_jpeg_is_a_problem(draw):
    data = encoded(draw(1, 200, 200), "JPEG")
    assert problem_of(data[: len(data) // 2]) == "truncated"


def test_flipped_bytes_never_raise_anything_else(draw):
    data = encoded(draw(1, 40, 40), "PNG")
    generator = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(data)
        for place in generator.integers(0, len(data), 4):
            broken[place] = generator.integers(0, 256)
        with contextlib.suppress(ImageProblem):
            decode_rgb(bytes(broken), LIMITS)


def test_text_called_jpg_is_undecodable():
    assert problem_of(b"<html>not found</html>") == "undecodable"


def test_one_pixel_is_too_small():
    assert problem_of(encoded(Image.new("RGB", (1, 1)), "PNG")) == "too_small"


def test_exif_rotation_is_applied(draw):
    image = draw(1, 30, 20)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, _, notes = decode_rgb(encoded(image, "PNG", exif=exif), LIMITS)
    assert notes == ("exif_rotated",)
    np.testing.assert_array_equal(np.asarray(turned), np.rot90(np.asarray(image), k=-1))


def test_broken_exif_does_not_cost_the_picture(draw):
    data = encoded(draw(1), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    assert decode_rgb(data, LIMITS)[0].size == (24, 20)


def test_palette_with_alpha_lies_on_white():
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 20))
    rgb, _, notes = decode_rgb(encoded(image.quantize(), "PNG"), LIMITS)
    assert notes == ("transparent",)
    assert rgb.getpixel((2, 2)) == (255, 255, 255)
    assert rgb.getpixel((15, 15)) == (255, 0, 0)


def test_half_transparent_mixes_with_white():
    rgb, _, _ = decode_rgb(encoded(Image.new("RGBA", (20, 20), (0, 0, 0, 51)), "PNG"), LIMITS)
    assert rgb.getpixel((3, 3)) == (204, 204, 204)


def test_grey_with_transparent_colour_lies_on_white():
    rgb, _, _ = decode_rgb(encoded(Image.new("L", (20, 20), 7), "PNG", transparency=7), LIMITS)
    assert rgb.getpixel((0, 0)) == (255, 255, 255)


def test_opaque_alpha_is_no_oddity():
    assert decode_rgb(encoded(Image.new("RGBA", (20, 20), (9, 8, 7, 255)), "PNG"), LIMITS)[2] == ()


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_range(name):
    ramp = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    rgb, _, notes = decode_rgb(encoded(Image.fromarray(ramp), name), LIMITS)
    assert notes == ("deep_grey",)
    np.testing.assert_array_equal(np.asarray(rgb)[..., 0], np.rint(ramp / 257).astype(np.uint8))


def test_float_tiff_is_scaled():
    ramp = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    rgb, _, _ = decode_rgb(encoded(Image.fromarray(ramp), "TIFF"), LIMITS)
    np.testing.assert_array_equal(np.asarray(rgb)[..., 1], np.rint(ramp * 255.0).astype(np.uint8))


def test_cmyk_becomes_rgb():
    rgb, _, notes = decode_rgb(encoded(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG"), LIMITS)
    assert notes == ("cmyk",)
    red, green, blue = rgb.getpixel((5, 5))
    assert red > 200 and green < 60 and blue < 60


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_animation_gives_its_first_frame(name):
    frames = [Image.new("RGB", (20, 20), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    data = encoded(frames[0], name, save_all=True, append_images=frames[1:])
    rgb, _, notes = decode_rgb(data, LIMITS)
    assert notes == ("animated",)
    assert np.abs(np.asarray(rgb)[5, 5].astype(int) - (255, 0, 0)).max() < 12


@pytest.mark.parametrize("mode", ["1", "L", "P", "LAB"])
def test_other_modes_become_rgb(draw, mode):
    assert decode_rgb(encoded(draw(1).convert(mode), "TIFF"), LIMITS)[0].mode == "RGB"


def test_missing_empty_folder_and_changed_are_told_apart(tmp_path, draw):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    draw(1).save(tmp_path / "a.png")
    kinds = {}
    for name in ("missing.png", "empty.png", "folder.png", "nul\0.png"):
        with pytest.raises(ImageProblem) as caught:
            check_image(tmp_path / name)
        kinds[name] = caught.value.kind
    assert kinds == {
        "missing.png": "missing",
        "empty.png": "empty",
        "folder.png": "not_a_file",
        "nul\0.png": "unreadable",
    }
    with pytest.raises(ImageProblem, match="changed"):
        load_rgb(tmp_path / "a.png", sha256="0" * 64)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageProblem, match="not_a_file"):
        check_image(tmp_path / "pipe.jpg")


def test_file_above_the_byte_limit_is_not_read(tmp_path, draw):
    draw(1).save(tmp_path / "a.png")
    with pytest.raises(ImageProblem, match="too_large"):
        check_image(tmp_path / "a.png", ImageLimits(max_bytes=10))


def test_png_called_jpg_is_noted(tmp_path, draw):
    draw(1).save(tmp_path / "a.jpg", "PNG")
    assert check_image(tmp_path / "a.jpg").notes == ("wrong_suffix",)


def test_square_cuts_the_longer_side_equally():
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    image.paste((0, 0, 255), (10, 0, 30, 20))
    assert (np.asarray(square(image, 20)) == (0, 0, 255)).all()


def test_square_of_the_right_size_is_the_picture_itself(draw):
    image = draw(1, 20, 20)
    assert square(image, 20).tobytes() == image.tobytes()


def test_pixels_span_minus_one_to_one():
    image = Image.new("RGB", (16, 16), (0, 255, 51))
    pixels = to_pixels([image, image])
    assert pixels.shape == (2, 3, 16, 16)
    np.testing.assert_allclose(pixels[0, :, 3, 3].numpy(), [-1.0, 1.0, -0.6], atol=1e-6)
