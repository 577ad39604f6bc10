"""Files that browsers show are read as they show them; half a picture is never taken for one."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, PngImagePlugin, features
from samples import encode, seven

from tasks import jpeg as jpeg_reader
from tasks.decode import FORMATS, decode
from tasks.problems import Busy, TooLarge, UnreadableImage, UnsupportedMediaType

LIMIT = 1_000_000  # pixels
SIZE = (61, 40)  # no row of it ends where four bytes do
XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
ORIENTATION = 0x0112


def sample():
    """A seven in a corner: it shows which side is up and whether red is red."""
    picture = Image.new("RGB", SIZE, "white")
    ImageDraw.Draw(picture).line([(5, 4), (25, 4), (12, 30)], (200, 30, 0), 4)
    return picture


def close(image, other, most=10):
    first, second = (np.asarray(each.convert("RGB"), int) for each in (image, other))
    return first.shape == second.shape and np.abs(first - second).mean() <= most


def chunk(kind, content, checksum=None):
    right = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", right)


def with_chunk(*chunks, after=b"IHDR"):
    png = encode(sample())
    at = png.index(after) - 4
    at += 12 + struct.unpack_from(">I", png, at)[0]
    return png[:at] + b"".join(chunks) + png[at:]


LONG = zlib.compress(bytes(1_200_000))
PNGS = {
    "a long text": with_chunk(chunk(b"zTXt", b"a\0\0" + LONG)),
    "a long international text": with_chunk(chunk(b"iTXt", b"a\0\1\0\0\0" + LONG)),
    "many texts": with_chunk(*[chunk(b"zTXt", b"a\0\0" + LONG)] * 60),
    "a large colour profile": with_chunk(chunk(b"iCCP", b"a\0\0" + LONG)),
    "a broken colour profile": with_chunk(chunk(b"iCCP", b"a\0\0nonsense")),
    "a wrong checksum of a text": with_chunk(chunk(b"tEXt", b"a\0b", 1)),
    "a wrong checksum of gamma": with_chunk(chunk(b"gAMA", struct.pack(">I", 45455), 1)),
    "a wrong checksum of transparency": with_chunk(chunk(b"tRNS", bytes(6), 1)),
    "an unknown chunk that is cut short": with_chunk(chunk(b"spAl", b"")[:-4] + b"\0\0\0\0"),
    "a wrong checksum of the end": encode(sample())[:-4] + b"\0\0\0\0",
    "no end": encode(sample())[:-12],
}


@pytest.mark.parametrize("name", PNGS)
def test_what_does_not_make_a_png_keeps_nobody_from_reading_it(name):
    picture = decode(PNGS[name], LIMIT)
    assert close(picture.image, sample(), 0)


def test_texts_of_a_png_are_not_unpacked(monkeypatch):
    monkeypatch.setattr(PngImagePlugin, "_safe_zlib_decompress", pytest.fail)
    decode(PNGS["many texts"], LIMIT)


def test_a_png_whose_header_may_be_wrong_is_damaged():
    png = bytearray(encode(sample()))
    png[29] ^= 1  # the header's checksum
    with pytest.raises(UnreadableImage, match="PNG file is damaged"):
        decode(bytes(png), LIMIT)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_png_whose_pixels_are_damaged_is_not_taken_for_a_whole_one(mode):
    """Also where its checksums are right."""
    rows = zlib.compress(np.random.default_rng(1).integers(0, 255, 200_000, np.uint8).tobytes(), 9)
    broken = rows[:5000] + bytes(200) + rows[5200:]
    colour = {"L": 0, "RGB": 2}[mode]
    header = struct.pack(">IIBBBBB", 200, 200, 8, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", broken) + chunk(b"IEND", b"")
    with pytest.raises(UnreadableImage):
        decode(b"\x89PNG\r\n\x1a\n" + chunks, LIMIT)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_may_lack_its_end_but_nothing_else(options):
    photo = Image.effect_noise((200, 200), 60).convert("RGB")
    jpeg = encode(photo, "JPEG", **options)
    whole = decode(jpeg, LIMIT).image
    assert close(decode(jpeg[:-2], LIMIT).image, whole, 0)
    assert close(decode(jpeg[:-12], LIMIT).image, whole, 1)
    for share in (0.1, 0.3, 0.6):
        with pytest.raises(UnreadableImage, match="JPEG file is damaged or cut short"):
            decode(jpeg[: int(share * len(jpeg))], LIMIT)


def bmp(bits, pixels, *, head=40, compression=0, masks=b"", palette=b""):
    """A BMP file by hand."""
    if head == 12:
        info = struct.pack("<IHHHH", 12, *SIZE, 1, bits)
    else:
        fields = *SIZE, 1, bits, compression, 0, 0, 0, len(palette) // 4, 0
        info = struct.pack("<IiiHHIIiiII", head, *fields)
    info = info[:head] + masks if head <= 40 else (info + masks).ljust(head, b"\0")
    start = 14 + len(info) + len(palette)
    return struct.pack("<2sIII", b"BM", start + len(pixels), 0, start) + info + palette + pixels


def rows(depth, *fields):
    """The sample's pixels of so many bits, from the bottom up: (channel, bits, shift) each."""
    channels = {
        name: np.asarray(sample(), np.uint64)[::-1, :, index] for index, name in enumerate("RGB")
    }
    channels["A"] = np.full(SIZE[::-1], 255, np.uint64)
    channels["0"] = np.zeros(SIZE[::-1], np.uint64)
    values = sum(
        channels[name] * (2**bits - 1) // 255 << np.uint64(shift) for name, bits, shift in fields
    )
    cells = values.astype(f"<u{depth // 8}").view(np.uint8).reshape(SIZE[1], -1)
    return np.pad(cells, ((0, 0), (0, -cells.shape[1] % 4))).tobytes()


def masks_of(*fields):
    masks = {name: (2**bits - 1) << shift for name, bits, shift in fields}
    return struct.pack("<4I", *(masks.get(name, 0) for name in "RGBA"))


def indexed(bits):
    """The sample's indices of so many bits, and its palette."""
    indices = np.asarray(quantised(bits))[::-1]
    digits = (indices[..., np.newaxis] >> np.arange(bits)[::-1]) & 1
    packed = np.packbits(digits.reshape(SIZE[1], -1).astype(np.uint8), axis=1)
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 4))).tobytes()


def quantised(bits):
    return sample().quantize(2 ** min(bits, 4))


def palette(bits, entry=4):
    colours = np.asarray(quantised(bits).getpalette()[: 3 * 2**bits], np.uint8).reshape(-1, 3)
    table = np.zeros((2**bits, entry), np.uint8)
    table[: len(colours), :3] = colours[:, ::-1]
    return table.tobytes()


def runs(bits):
    """The sample in runs."""
    made = bytearray()
    for row in np.asarray(sample())[::-1] if bits == 24 else np.asarray(quantised(bits))[::-1]:
        at = 0
        while at < len(row):
            end = at + 1
            while end < len(row) and end - at < 200 and (row[end] == row[at]).all():
                end += 1
            value = (
                row[at][::-1].tobytes()
                if bits == 24
                else bytes([row[at] * (17 if bits == 4 else 1)])
            )
            made += bytes([end - at]) + value
            at = end
        made += b"\0\0"
    return bytes(made + b"\0\1")


FIELDS = {
    "16 bits, 565": (16, ("R", 5, 11), ("G", 6, 5), ("B", 5, 0)),
    "16 bits, 3-10-3": (16, ("B", 3, 0), ("G", 10, 3), ("R", 3, 13)),
    "16 bits, 4444": (16, ("B", 4, 0), ("G", 4, 4), ("R", 4, 8), ("A", 4, 12)),
    "32 bits, rgb": (32, ("B", 8, 0), ("G", 8, 8), ("R", 8, 16)),
    "32 bits, 11-11-10": (32, ("R", 11, 21), ("G", 11, 10), ("B", 10, 0)),
    "32 bits, 10-10-10-2": (32, ("R", 10, 20), ("G", 10, 10), ("B", 10, 0), ("A", 2, 30)),
    "32 bits, rgba": (32, ("R", 8, 0), ("G", 8, 8), ("B", 8, 16), ("A", 8, 24)),
}
BMPS = {
    "Pillow's": encode(sample(), "BMP"),
    "15 bits": bmp(16, rows(16, ("R", 5, 10), ("G", 5, 5), ("B", 5, 0))),
    "32 bits of which the last are 0": bmp(32, rows(32, ("R", 8, 16), ("G", 8, 8), ("B", 8, 0))),
    "an alpha of 0 everywhere": bmp(
        32,
        rows(32, ("R", 8, 16), ("G", 8, 8), ("B", 8, 0)),
        head=108,
        compression=3,
        masks=masks_of(("R", 8, 16), ("G", 8, 8), ("B", 8, 0), ("A", 8, 24)),
    ),
    **{
        f"{name}, a header of {head}": bmp(
            bits,
            rows(bits, *fields),
            head=head,
            compression=6 if head == 40 else 3,
            masks=masks_of(*fields),
        )
        for name, (bits, *fields) in FIELDS.items()
        for head in (40, 56, 108, 124)
    },
    **{
        f"{bits} bits, indexed": bmp(bits, indexed(bits), palette=palette(bits))
        for bits in (1, 2, 4, 8)
    },
    "OS/2's first header": bmp(8, indexed(8), head=12, palette=palette(8, 3)),
    "OS/2's short header": bmp(8, indexed(8), head=16, palette=palette(8)),
    "OS/2's long header": bmp(8, indexed(8), head=64, palette=palette(8)),
    "runs of 8 bits": bmp(8, runs(8), compression=1, palette=palette(8)),
    "runs of 4 bits": bmp(4, runs(4), compression=2, palette=palette(4)),
    "runs of 24 bits": bmp(24, runs(24), head=64, compression=4),
    "literals": bmp(
        8,
        b"".join(
            b"\0" + bytes([len(row)]) + row.tobytes() + b"\0" * (len(row) % 2) + b"\0\0"
            for row in np.asarray(quantised(8))[::-1]
        ),
        compression=1,
        palette=palette(8),
    ),
}


@pytest.mark.parametrize("name", BMPS)
def test_every_kind_of_bmp_is_read(name):
    picture = decode(BMPS[name], LIMIT)
    assert close(picture.image, sample())
    assert picture.image.mode in ("RGB", "RGBA")


def test_a_bmp_of_runs_may_move_on_and_leaves_the_rest_black():
    made = bmp(8, b"\0\2\5\3" + b"\4\1" + b"\0\1", compression=1, palette=bytes(4) + b"\xff" * 1020)
    pixels = np.asarray(decode(made, LIMIT).image.convert("L"))
    assert np.argwhere(pixels).tolist() == [[SIZE[1] - 4, x] for x in range(5, 9)]


@pytest.mark.parametrize(
    "name", ["15 bits", "runs of 8 bits", "8 bits, indexed", "32 bits, rgba, a header of 124"]
)
def test_half_a_bmp_is_damaged(name):
    with pytest.raises(UnreadableImage, match="BMP file is damaged or cut short"):
        decode(BMPS[name][: len(BMPS[name]) * 2 // 3], LIMIT)


def test_runs_that_take_too_long_are_refused_before_they_are_unpacked():
    with pytest.raises(TooLarge, match="Save it as PNG"):
        decode(bmp(8, b"\1\1" * 2_000_001, compression=1, palette=palette(8)), LIMIT)


@pytest.mark.parametrize("most", [255, 1023, 4095, 65535])
def test_a_picture_that_uses_few_of_16_bits_is_not_black(most):
    grey = np.asarray(seven(), np.uint32) * most // 255
    picture = decode(encode(Image.fromarray(grey.astype(np.uint16))), LIMIT)
    assert close(picture.image, seven(), 1)


def xmp_text():
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return texts


def raw_profile():
    content = turned().tobytes()
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Raw profile type exif", f"\nexif\n{len(content):8}\n{content.hex()}\n")
    return texts


def turned():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return exif


def exif_behind_the_pixels():
    png = encode(sample(), exif=turned())
    start, end = png.index(b"eXIf") - 4, png.index(b"IDAT") - 4
    return png[:start] + png[end:-12] + png[start:end] + png[-12:]


# As Chromium shows them.
UPRIGHT = {
    "JPEG with XMP": lambda: encode(sample(), "JPEG", xmp=XMP, quality=95),
    "PNG with XMP": lambda: encode(sample(), pnginfo=xmp_text()),
    "PNG with a raw profile": lambda: encode(sample(), pnginfo=raw_profile()),
    "PNG with EXIF behind the pixels": exif_behind_the_pixels,
    "WebP with XMP": lambda: encode(sample(), "WEBP", xmp=XMP, lossless=True),
    "WebP with EXIF": lambda: encode(sample(), "WEBP", exif=turned(), lossless=True),
    "GIF with XMP": lambda: encode(sample(), "GIF", xmp=XMP),
}
TURNED = {
    "JPEG": lambda: encode(sample(), "JPEG", exif=turned(), quality=95),
    "PNG": lambda: encode(sample(), exif=turned()),
    "AVIF": lambda: encode(sample(), "AVIF", exif=turned(), quality=95),
}


@pytest.mark.parametrize("name", UPRIGHT)
def test_what_browsers_do_not_look_at_turns_no_picture(name):
    picture = decode(UPRIGHT[name](), LIMIT)
    assert close(picture.image, sample())
    assert (picture.width, picture.height) == SIZE


@pytest.mark.parametrize("name", TURNED)
def test_exif_turns_a_picture(name):
    if name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    picture = decode(TURNED[name](), LIMIT)
    assert close(picture.image, sample().transpose(Image.Transpose.ROTATE_270))
    assert (picture.width, picture.height) == SIZE[::-1]


needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")


@needs_avif
@pytest.mark.parametrize(
    "options", [{}, {"save_all": True, "append_images": [sample().resize((610, 400))]}]
)
def test_an_avif_is_measured_by_what_is_coded(options):
    """Decoders take memory for that, whatever the container says; a film shows its first frame."""
    made = encode(sample().resize((610, 400)), "AVIF", **options)
    assert decode(made, 610 * 400).width == 610
    at = made.index(b"ispe") + 8
    with pytest.raises(TooLarge, match=f"has {610 * 400} pixels"):
        decode(made[:at] + struct.pack(">II", 61, 40) + made[at + 8 :], 610 * 400 - 1)


@needs_avif
def test_an_avif_of_which_nothing_is_found_is_damaged():
    made = encode(sample(), "AVIF")
    with pytest.raises(UnreadableImage, match="AVIF file is damaged"):
        decode(made.replace(b"iloc", b"free"), LIMIT)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"II*\0", "TIFF"),
        (b"\0\0\1\0\1\0", "Icon"),
        (b"\0\0\2\0\1\0", "Cursor"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    ],
)
def test_other_formats_are_named(head, name):
    with pytest.raises(UnsupportedMediaType, match=f"^{name} pictures are not supported. Convert"):
        decode(head + bytes(40), LIMIT)


@pytest.mark.parametrize("content", [b"BMW is a car", b"RIFF\x24\0\0\0WAVEfmt ", b"PNG", b"GIF"])
def test_what_only_begins_like_a_picture_is_none(content):
    with pytest.raises(UnreadableImage, match=r"^This is not an image\. Send a PNG"):
        decode(content, LIMIT)


def test_heic_is_read_or_named():
    """It is read where the package pi-heif is installed."""
    heic = b"\0\0\0\x18ftypheic" + bytes(60)
    with pytest.raises(
        UnreadableImage if "HEIF" in FORMATS else UnsupportedMediaType, match="HEIC"
    ):
        decode(heic, LIMIT)


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading")])
def test_too_little_memory_is_no_damage(monkeypatch, error):
    def load(self):
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    with pytest.raises(Busy, match="smaller size"):
        decode(encode(sample()), LIMIT)


def test_a_jpeg_of_nothing_but_parts_is_refused():
    with pytest.raises(ValueError, match="each part"):
        jpeg_reader.ended(jpeg_reader.SIGNATURE[:2] + b"\xff\xe5\x00\x02" * 10_001)
