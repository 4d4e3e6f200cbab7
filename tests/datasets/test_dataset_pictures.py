"""The one reader of pictures, over modes, depths, orientations and formats; numpy says which pixels are right."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import write_picture
from PIL import Image, TiffImagePlugin

from trainables.datasets import load, read_pictures
from trainables.datasets._pictures import look, open_picture, range_of, read
from trainables.evaluate.pictures import read_images

# EXIF orientation -> what to do with the stored array, (H, W, ...), to see the picture upright (EXIF 2.3, 4.6.4)
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
LOSSLESS = ("PNG", "TIFF", "WEBP")


def png16(values: np.ndarray, key: tuple[int, ...] | None = None, turned: int | None = None) -> bytes:
    """A PNG of 16 bits, uint16 (H, W, C) of 1 to 4 channels, as the standard describes it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    exif = b""
    if turned is not None:
        tags = Image.Exif()
        tags[0x0112] = turned
        exif = chunk(b"eXIf", tags.tobytes().removeprefix(b"Exif\0\0"))
    return b"".join([
        b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)), exif,
        chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b"",
        chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""),
    ])  # fmt: skip


def opener(data: bytes):
    return lambda: open_picture(io.BytesIO(data))


def pixels(data: bytes, channels: int, white: float | None = None) -> np.ndarray:
    """The picture as the reader gives it, int (H, W) or (H, W, 3)."""
    return np.asarray(read(opener(data), channels, white)[0]).astype(int)


def saved(image: Image.Image, kind: str, turned: int | None = None) -> bytes:
    file, exif, more = io.BytesIO(), Image.Exif(), {"lossless": True, "exact": True} if kind == "WEBP" else {}
    if turned is not None:
        exif[0x0112] = turned
    image.save(file, kind, exif=exif, **more)
    return file.getvalue()


sides = st.integers(1, 7)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, height: int, width: int, channels: int, below: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, below, (height, width, channels))


@given(sides, sides, seeds, st.sampled_from(sorted(UPRIGHT)), st.sampled_from(["L", "RGB"]), st.sampled_from(LOSSLESS))
@settings(max_examples=60, deadline=None)
def test_any_orientation_of_any_format(height, width, seed, turned, mode, kind):
    stored = drawn(seed, height, width, len(mode), 256).astype(np.uint8)
    data = saved(Image.fromarray(stored.squeeze(2) if mode == "L" else stored), kind, turned)
    expected = UPRIGHT[turned](stored if mode == "RGB" else stored.repeat(3, 2))
    np.testing.assert_array_equal(pixels(data, 3), expected)
    assert look(opener(data)).size == expected.shape[1::-1]


@given(sides, sides, seeds, st.integers(1, 16), st.sampled_from([1, 3]), st.sampled_from(sorted(UPRIGHT)))
@settings(max_examples=60, deadline=None)
def test_any_depth_in_sixteen_bits(height, width, seed, bits, channels, turned):
    values = drawn(seed, height, width, channels, 2**bits)
    values[0, 0] = 2**bits - 1  # the set holds its white
    data = png16(values, turned=turned)
    seen = look(opener(data))
    assert (seen.largest, range_of(seen.largest), seen.grey) == (2**bits - 1, 2**bits - 1, channels == 1)
    expected = UPRIGHT[turned](values.repeat(4 - channels, 2)[..., :3] * 255 / (2**bits - 1))
    assert np.abs(pixels(data, 3, range_of(seen.largest)) - expected).max() <= 0.5
    assert seen.size == expected.shape[1::-1]


@given(sides, sides, seeds, st.sampled_from([2, 4]), st.sampled_from([8, 12, 16]))
@settings(max_examples=40, deadline=None)
def test_transparency_of_sixteen_bits_is_laid_on_white(height, width, seed, channels, bits):
    values = drawn(seed, height, width, channels, 2**bits)
    values[..., -1] = drawn(seed + 1, height, width, 1, 2**16)[..., 0]  # alpha has all 16 bits
    white = float(2**bits - 1)
    opaque = values[..., -1:] / 65535
    expected = values[..., :-1] / white * 255 * opaque + 255 * (1 - opaque)
    found = pixels(png16(values), 3, white)
    assert np.abs(found - expected).max() <= 2  # alpha is rounded to 8 bits
    seen = look(opener(png16(values)))
    assert seen.largest == values[..., :-1].max() and seen.grey == (channels == 2)


@given(sides, sides, seeds, st.sampled_from(["RGBA", "LA", "P"]), st.sampled_from(["PNG", "WEBP"]))
@settings(max_examples=60, deadline=None)
def test_transparency_is_laid_on_white_whatever_hides_under_it(height, width, seed, mode, kind):
    stored = drawn(seed, height, width, 4, 256).astype(np.uint8)
    if mode == "LA":
        stored[..., 1:3] = stored[..., :1]
    image = Image.fromarray(stored)
    if mode == "P":  # a palette of 8 colours, one of them transparent
        picks = (stored[..., 0] // 32).astype(np.uint8)
        colours = drawn(seed + 1, 1, 8, 3, 256)[0].astype(np.uint8)
        image = Image.fromarray(picks, "P")
        image.putpalette(colours.tobytes())
        image.info["transparency"] = 3
        stored = np.dstack([colours[picks], np.where(picks == 3, 0, 255)]).astype(np.uint8)
    elif kind == "PNG":
        image = image.convert(mode)
    if mode == "P":
        kind = "PNG"
    opaque = stored[..., 3:] / 255
    expected = stored[..., :3] * opaque + 255 * (1 - opaque)
    data = saved(image, kind)
    picture, transparent = read(opener(data), 3, None)
    assert np.abs(np.asarray(picture) - expected).max() <= 1
    assert transparent == bool((stored[..., 3] < 255).any())


@given(sides, sides, seeds, st.sampled_from(["<", ">"]), st.booleans(), st.sampled_from([1, 3, 4]))
@settings(max_examples=40, deadline=None)
def test_sixteen_bits_in_tiff_of_either_byte_order(height, width, seed, order, packed, channels):
    values = drawn(seed, height, width, channels, 4096).astype(np.uint16)
    values[0, 0] = 4095
    if channels == 4:
        values[..., 3] = 65535
    file = io.BytesIO()
    tifffile.imwrite(
        file, values.squeeze(2) if channels == 1 else values, byteorder=order, compression="zlib" if packed else None,
        photometric="minisblack" if channels == 1 else "rgb", extrasamples=["unassalpha"] if channels == 4 else None,
    )  # fmt: skip
    expected = (values.repeat(3, 2) if channels == 1 else values[..., :3]) * (255 / 4095)
    assert np.abs(pixels(file.getvalue(), 3, 4095.0) - expected).max() <= 0.5


def test_floats_are_taken_from_nought_to_one():
    values = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    data = saved(Image.fromarray(values), "TIFF")
    assert range_of(look(opener(data)).largest) == 1
    assert np.abs(pixels(data, 1, 1.0) - values * 255).max() <= 0.5


@pytest.mark.parametrize(
    ("largest", "white"), [(0, 1), (0.3, 1), (1, 1), (1.5, 3), (255, 255), (255.5, 511), (3825, 4095), (65535, 65535)]
)
def test_the_range_is_what_the_bits_of_the_largest_value_hold(largest, white):
    assert range_of(largest) == white


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_values_that_no_range_holds_are_refused(value):
    data = saved(Image.fromarray(np.full((2, 2), value, np.float32)), "TIFF")
    with pytest.raises(ValueError, match="mode F holds"):
        look(opener(data))


def test_tiff_whose_white_is_nought_is_inverted():
    image, tags = Image.fromarray(np.array([[0, 65535]], np.uint16)), TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    file = io.BytesIO()
    image.save(file, "TIFF", tiffinfo=tags)
    if Image.open(io.BytesIO(file.getvalue())).tag_v2[262] != 0:
        pytest.skip("this Pillow does not write the tag")
    assert pixels(file.getvalue(), 1, 65535.0).tolist() == [[255, 0]]


def test_one_colour_of_sixteen_bits_declared_transparent():
    values = np.array([[[100, 200, 300], [4095, 0, 0]]])
    assert pixels(png16(values, key=(100, 200, 300)), 3, 4095.0).tolist() == [[[255, 255, 255], [255, 0, 0]]]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "1", "L", "P"])
def test_other_colour_models(mode):
    colours = np.array([[[255, 0, 0], [0, 0, 255]], [[255, 255, 255], [0, 0, 0]]], np.uint8).repeat(8, 0).repeat(8, 1)
    if mode in ("1", "L"):
        colours = colours[..., :1].repeat(3, 2)
    image = Image.fromarray(colours).convert(mode)
    data = saved(image, {"CMYK": "TIFF", "YCbCr": "JPEG"}.get(mode, "PNG"))
    found = pixels(data, 3)
    assert np.abs(found - colours)[::15, ::15].max() <= 8, found[::15, ::15]


def test_a_grey_palette_is_grey_and_a_colour_palette_is_not(tmp_path, random):
    picks = random.integers(0, 256, (8, 8), np.uint8)
    for name, colours in (("grey", np.arange(256).repeat(3)), ("colour", np.arange(768) % 256)):
        image = Image.fromarray(picks, "P")
        image.putpalette(colours.astype(np.uint8).tobytes())
        assert look(opener(saved(image, "PNG"))).grey == (name == "grey")
        assert look(opener(saved(image, "BMP"))).grey == (name == "grey")


def test_further_pages_are_counted_and_left_out(tmp_path, random):
    frames = [Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)) for _ in range(3)]
    for i in range(12):
        kind = ("png", "gif", "tiff")[i % 3]
        (tmp_path / "pets").mkdir(exist_ok=True)
        frames[0].save(tmp_path / "pets" / f"{i}.{kind}", save_all=True, append_images=frames[1:])
    splits = load(f"folder:{tmp_path / 'pets'}", tmp_path)
    assert (splits.train.images == np.asarray(frames[0])).all()
    assert splits.reading.pixels.paged == 12
    assert "only the first page of 12 files with several" in splits.reading.words()


def test_a_picture_by_name_that_is_another_kind_is_never_run(tmp_path, random):
    write_picture(tmp_path / "a.png", random.integers(0, 256, (8, 8), np.uint8))
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    with pytest.raises(ValueError, match=r"1 of 2 pictures cannot be read: .*b\.png"):
        read_pictures(tmp_path)


def test_a_picture_of_too_many_pixels_is_named(tmp_path, monkeypatch):
    for name in "ab":
        write_picture(tmp_path / f"{name}.png", np.zeros((8, 8), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"2 of 2 pictures cannot be read: .*a\.png \(DecompressionBombError"):
        read_pictures(tmp_path)


# The set


def test_twelve_bits_are_scaled_by_the_range_of_the_set(tmp_path):
    values = np.arange(256).reshape(16, 16) * 15
    for i in range(12):
        write_picture(tmp_path / "scans" / f"{i}.png", (values // (i + 1)).astype(np.uint16))
    splits = load(f"folder:{tmp_path / 'scans'}", tmp_path)
    found = np.concatenate([part.images for part in (splits.train, splits.valid, splits.test)])
    assert found.max() == round(3825 * 255 / 4095)
    expected = [np.round((values // (i + 1)) * (255 / 4095)).astype(np.uint8).tobytes() for i in range(12)]
    assert sorted(image.tobytes() for image in found) == sorted(expected)
    assert (splits.reading.pixels.deep, splits.reading.pixels.white) == (12, 4095)
    assert "12 pictures of more than 8 bits, 0 to 4095 scaled to 0 to 255" in splits.reading.words()
    again = load(f"folder:{tmp_path / 'scans'}", tmp_path)  # from the prepared file
    assert again.reading == splits.reading


def test_transparent_pictures_are_counted(tmp_path, random):
    for i in range(12):
        image = random.integers(0, 256, (8, 8, 4), np.uint8)
        image[..., 3] = 0 if i < 5 else 255
        write_picture(tmp_path / "icons" / f"{i}.png", image)
    splits = load(f"folder:{tmp_path / 'icons'}", tmp_path)
    found = np.concatenate([part.images for part in (splits.train, splits.valid, splits.test)])
    assert (found == 255).all((1, 2, 3)).sum() == 5
    assert "5 pictures with transparent pixels, blended with white" in splits.reading.words()


def test_a_scored_folder_is_read_as_a_trained_one(tmp_path):
    """Orientation, palettes, transparency, 16 bits and hidden folders, by both ways."""
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    for i in range(10):
        write_picture(tmp_path / "set" / f"{i:02}.png", grey)
    sideways = Image.fromarray(np.ascontiguousarray(np.rot90(grey)))
    (tmp_path / "set" / "10.png").write_bytes(saved(sideways, "PNG", 6))
    palette = Image.fromarray(grey, "P")
    palette.putpalette(np.arange(256, dtype=np.uint8).repeat(3).tobytes())
    palette.save(tmp_path / "set" / "11.gif")
    Image.fromarray(np.dstack([grey, np.full_like(grey, 255)]), "LA").save(tmp_path / "set" / "12.png")
    write_picture(tmp_path / "set" / ".thumbnails" / "13.png", np.zeros((8, 8), np.uint8))
    write_picture(tmp_path / "set" / "@eaDir" / "14.png", np.zeros((8, 8), np.uint8))
    scored, how = read_images(tmp_path / "set", 1)
    splits = load(f"folder:{tmp_path / 'set'}", tmp_path)
    trained = np.concatenate([part.images for part in (splits.train, splits.valid, splits.test)])
    assert (scored == grey).all() and (trained == grey).all()
    assert len(scored) == len(trained) == 13
    assert how == f"13 pictures of {tmp_path / 'set'}; left out: 2 hidden"


def test_copies_of_grey_are_scored_as_grey_and_colour_is_not(tmp_path, random):
    grey = random.integers(0, 256, (8, 8), np.uint8)
    for name in "ab":
        write_picture(tmp_path / f"{name}.png", np.dstack([grey] * 3))
    assert read_images(tmp_path, 1)[0].shape == (2, 1, 8, 8)
    write_picture(tmp_path / "c.png", random.integers(0, 256, (8, 8, 3), np.uint8))
    assert read_images(tmp_path, 1)[0].shape == (3, 3, 8, 8)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_masks_of_0_and_1_are_refused_and_not_read_as_black(kind, tmp_path, random):
    masks = random.integers(0, 2, (30, 8, 8), np.uint8)
    if kind == "folder":
        for i, mask in enumerate(masks):
            Image.fromarray(mask).save(tmp_path / f"{i}.png")
        name = f"folder:{tmp_path}"
    else:
        np.save(tmp_path / "masks.npy", masks)
        name = f"file:{tmp_path / 'masks.npy'}"
    words = "contain only the values 0 and 1 of 0 to 255, which is black; scale them"
    with pytest.raises(ValueError, match=words):
        load(name, tmp_path)
    np.save(tmp_path / "scored.npy", masks[:, None])
    with pytest.raises(ValueError, match=words):
        read_images(tmp_path if kind == "folder" else tmp_path / "scored.npy", 1)
