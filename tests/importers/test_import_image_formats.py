"""Image files of every format, oriented, cut off or of odd modes, against Pillow on its own."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore
from postmean.importers import limits
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images
from tests.support.image_files import encoded, make_source, planes, png, random_images
from tests.support.imports import imported, refused_import

pytestmark = pytest.mark.usefixtures("bounded")


def smooth(height=48, width=64):
    """A picture rather than noise: what is missing of its file is filled in without an error."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    channels = np.stack([128 + 100 * np.sin(x / 9 + y / 13 + c) for c in range(3)], -1)
    return Image.fromarray(np.clip(channels + noise, 0, 255).astype(np.uint8))


PICTURE = smooth()
LOSSLESS = {
    "png": ("PNG", {}),
    "bmp": ("BMP", {}),
    "tif": ("TIFF", {}),
    "TIFF": ("TIFF", {"compression": "tiff_lzw"}),
    "webp": ("WEBP", {"lossless": True}),
    "ppm": ("PPM", {}),
    "jp2": ("JPEG2000", {}),
}
NAMED = {
    "tga": ("TGA", {}),
    "targa": ("TGA", {"compression": "tga_rle"}),
    "pcx": ("PCX", {}),
    "sgi": ("SGI", {}),
    "qoi": ("QOI", {}),
    "dds": ("DDS", {}),
    "ico": ("ICO", {"sizes": [(64, 48), (16, 12)]}),
    "im": ("IM", {}),
}
"""Formats that are read only from files of their suffix."""
LOSSY = {
    "jpg": ("JPEG", {}),
    "JPEG": ("JPEG", {"progressive": True}),
    "jfif": ("JPEG", {"optimize": True, "restart_marker_rows": 1}),
    "WebP": ("WEBP", {}),
    "avif": ("AVIF", {}),
}


def read(tmp_path, files, **settings):
    source = make_source(tmp_path / "from", "folder", files)
    return imported(tmp_path, source, **settings)


def said(store):
    """The notes of the store but for the one about its only class."""
    assert store.classes == 1
    return [note for note in store.header.source["notes"] if not note.startswith("all images are of one class")]


def refused(tmp_path, files, message, **settings):
    with refused_import(tmp_path, message):
        read(tmp_path, files, **settings)


@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
def test_images_of_all_formats_are_read_in_class_folders(tmp_path, form):
    kinds = LOSSLESS | LOSSY
    files = {
        f"{'ab'[i % 2]}/{i:02}.{ext}": encoded(PICTURE, *kinds[ext][:1], **kinds[ext][1]) for i, ext in enumerate(kinds)
    }
    source = make_source(tmp_path, form, files)
    report = import_images(ImportConfig(source=source, store=tmp_path / "store", workers=1))
    store = ImageStore.open(tmp_path / "store")
    oracle = [np.asarray(Image.open(io.BytesIO(files[name])).convert("RGB")) for name in sorted(files)]
    assert np.array_equal(store.images, planes(np.stack(oracle)))
    assert store.labels is not None
    assert store.labels.tolist() == [name[0] == "b" for name in sorted(files)]
    assert (report.ignored, report.notes) == (0, [])
    for image, name in zip(store.images, sorted(files), strict=True):
        if name.split(".")[1] in LOSSLESS:
            assert np.array_equal(image, planes(np.asarray(PICTURE)[None])[0])


def test_the_content_decides_the_format_not_the_name(tmp_path):
    store = read(tmp_path, {"a/0.jpg": encoded(PICTURE, "WEBP", lossless=True), "a/1.png": encoded(PICTURE, "BMP")})
    assert np.array_equal(store.images, planes(np.stack([np.asarray(PICTURE)] * 2)))


def test_gif_is_a_palette_image_and_its_first_frame_is_read(tmp_path):
    frames = [Image.fromarray(image) for image in random_images(3, (9, 8, 3))]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    refused(
        tmp_path / "a", {"a/0.gif": gif}, r"a/0\.gif: palette image, expected 8-bit RGB or grey: pass --channels rgb"
    )
    store = read(tmp_path, {"a/0.gif": gif, "a/1.gif": encoded(frames[0], "GIF")}, channels="rgb")
    oracle = np.asarray(Image.open(io.BytesIO(gif)).convert("RGB"))
    assert np.array_equal(store.images, planes(np.stack([oracle] * 2)))
    place = tmp_path / "from" / "source" / "a" / "0.gif"
    assert said(store) == [f"1 image of several frames or pages: the first is read, such as {place}"]


@pytest.mark.parametrize(("form", "options"), [("TIFF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("AVIF", {})])
def test_pages_and_frames_after_the_first_are_noted(tmp_path, form, options):
    frames = [Image.fromarray(image) for image in random_images(2, (16, 16, 3))]
    files = {"a/0.png": encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)}
    store = read(tmp_path, files)
    assert np.array_equal(store.images[0], planes(np.asarray(Image.open(io.BytesIO(files["a/0.png"])))[None])[0])
    assert "1 image of several frames" in said(store)[0]


@pytest.mark.parametrize("name", ["x.heic", "x.HEIF", "x.eps", "x.dng", "x.svg", "x.jxl", "x.fits"])
def test_images_of_formats_that_are_not_read_are_refused_by_name(tmp_path, name):
    message = rf"a/{name}: an image of a format that is not read: convert it to PNG, or remove it"
    refused(tmp_path, {"a/0.png": png(PICTURE), f"a/{name}": b"x"}, message)


ORIENTED = ("JPEG", "PNG", "WEBP", "TIFF")


@pytest.mark.parametrize("form", ORIENTED)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path, form, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    payload = encoded(PICTURE, form, exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(payload)))
    assert upright.size == ((64, 48) if orientation < 5 else (48, 64))
    store = read(tmp_path, {"a/0.jpg": payload})
    assert np.array_equal(store.images, planes(np.asarray(upright.convert("RGB"))[None]))
    place = tmp_path / "from" / "source" / "a" / "0.jpg"
    note = f"1 image turned upright, as their EXIF orientation says, such as {place}"
    assert said(store) == ([note] if orientation > 1 else [])


def test_sizes_are_compared_after_turning(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    on_its_side = encoded(PICTURE.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    store = read(tmp_path, {"a/0.png": png(PICTURE), "a/1.png": on_its_side})
    assert np.array_equal(store.images[0], store.images[1])


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientation_that_is_none_changes_nothing(tmp_path, value):
    exif = Image.Exif()
    exif[0x112] = value
    store = read(tmp_path, {"a/0.png": encoded(PICTURE, "PNG", exif=exif)})
    assert np.array_equal(store.images, planes(np.asarray(PICTURE)[None]))
    assert said(store) == []


def test_damaged_exif_changes_nothing_and_is_one_line_at_most(tmp_path):
    exif = Image.Exif()
    exif[0x112], exif[0x10E] = 6, "x" * 40
    payload = encoded(PICTURE, "JPEG", exif=exif)
    at, draw = payload.index(b"Exif\0\0") + 6, np.random.default_rng(0)
    files = {}
    for i in range(40):
        damaged = bytearray(payload)
        for place in draw.integers(at, at + 60, 3):
            damaged[place] = draw.integers(0, 256)
        files[f"a/{i:02}.jpg"] = bytes(damaged)
    store = read(tmp_path, files, resize="center-crop", resolution=48)
    assert len(store) == 40


def test_colour_profiles_other_than_srgb_are_noted(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    files = {"a/0.png": png(PICTURE, icc_profile=srgb), "a/1.png": png(PICTURE, icc_profile=lab)}
    notes = said(read(tmp_path, files))
    assert len(notes) == 1
    assert notes[0].startswith("1 image with a colour profile other than sRGB, which is not applied, such as ")
    assert notes[0].endswith("a/1.png")


# a file without its end, or with zeros in its place, as after a cut copy or on a full disk
ENDS = {name: encoded(PICTURE, form, **options) for name, (form, options) in (LOSSLESS | LOSSY).items()}
ENDS["gif"] = encoded(PICTURE, "GIF")
TELL = [name for name in ENDS if name not in ("bmp", "tif", "ppm")]  # those hold pixels as they are: zeros are black


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("name", ENDS)
def test_file_without_its_end_is_corrupt(tmp_path, name, share):
    payload, message = ENDS[name], r"a/0\..*: corrupt image \(.+\): replace it, or pass --on-corrupt skip"
    kept = payload[: int(share * len(payload))]
    refused(tmp_path / "cut", {f"a/0.{name}": kept}, message, channels="rgb")
    if name in TELL:
        zeros = kept + bytes(len(payload) - len(kept))
        refused(tmp_path / "zeros", {f"a/0.{name}": zeros}, message, channels="rgb")


def test_jpeg_with_a_thumbnail_is_not_whole_by_the_end_of_the_thumbnail(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x927C] = encoded(PICTURE.resize((16, 12)), "JPEG")
    payload = encoded(PICTURE, "JPEG", exif=exif)
    assert payload.count(b"\xff\xd9") == 2
    read(tmp_path / "whole", {"a/0.jpg": payload + b"trailing"})
    refused(tmp_path, {"a/0.jpg": payload[:-900] + bytes(900)}, r"a/0\.jpg: corrupt image \(no end mark: cut off\)")


def test_jpeg_of_very_many_scans_is_refused(tmp_path):
    payload = encoded(PICTURE, "JPEG", progressive=True)
    last = payload.rindex(b"\xff\xda")
    refused(tmp_path, {"a/0.jpg": payload[:-2] + payload[last:-2] * 300 + b"\xff\xd9"}, r"more than 200 scans")


def test_png_with_a_wrong_checksum_is_corrupt(tmp_path):
    payload = bytearray(png(PICTURE))
    payload[payload.index(b"IDAT") + 100] ^= 1
    refused(tmp_path, {"a/0.png": bytes(payload)}, r"a/0\.png: corrupt image \(chunk IDAT does not match its checksum")


ODD = {
    "alpha tiff": (encoded(PICTURE.convert("RGBA"), "TIFF"), "RGBA"),
    "cmyk tiff": (encoded(PICTURE.convert("CMYK"), "TIFF"), "CMYK"),
    "alpha webp": (encoded(Image.new("RGBA", (4, 4), (1, 2, 3, 99)), "WEBP"), "RGBA"),
    "one bit bmp": (encoded(PICTURE.convert("1"), "BMP"), "black-and-white"),
    "palette bmp": (encoded(PICTURE.convert("P"), "BMP"), "palette"),
    "bits of a pbm": (encoded(PICTURE.convert("1"), "PPM"), "black-and-white"),
    "16-bit tiff": (
        encoded(Image.fromarray(np.asarray(PICTURE.convert("L")).astype(np.uint16) * 257), "TIFF"),
        "16-bit",
    ),
    "16-bit pgm": (b"P5 2 2 65535 " + bytes(range(8)), "16-bit"),
    "16-bit ppm": (b"P6 2 2 65535 " + bytes(range(24)), "16-bit"),
    "grey with a transparent one": (png(PICTURE.convert("L"), transparency=3), "partly transparent"),
    "colour with a transparent one": (png(PICTURE, transparency=(1, 2, 3)), "partly transparent"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_modes_are_refused_by_name_or_converted(tmp_path, name):
    payload, mode = ODD[name]
    message = rf"a/0\.png: {mode} image, expected 8-bit RGB or grey: pass --channels rgb or --channels grey"
    refused(tmp_path / "as-is", {"a/0.png": payload}, message)
    for channels, count in (("rgb", 3), ("grey", 1)):
        store = read(tmp_path / channels, {"a/0.png": payload}, channels=channels)
        assert store.image_shape[0] == count
        assert store.header.source["converted"] == 1
        expected = (
            "of 16 bits" if "16-bit" in name else "with transparency" if "alpha" in name or "trans" in name else None
        )
        notes = said(store)
        assert len(notes) == (expected is not None)
        assert expected is None or notes[0].startswith(f"1 image {expected}")


@pytest.mark.parametrize(
    ("mode", "form"), [("F", "TIFF"), ("I", "TIFF"), ("LAB", "TIFF")], ids=["float", "32-bit integer", "Lab"]
)
def test_modes_without_a_meaning_as_8_bit_are_refused(tmp_path, mode, form):
    image = PICTURE.convert("L").convert(mode) if mode != "LAB" else Image.new("LAB", (4, 4))
    message = r"a/0\.tif: (32-bit|LAB) image: convert it to 8-bit RGB or grey, or remove it"
    for channels in ("as-is", "rgb", "grey"):
        refused(tmp_path / channels, {"a/0.tif": encoded(image, form)}, message, channels=channels)


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1), (1, 40_000)])
def test_image_of_one_million_rows_is_refused(tmp_path, size):
    payload = png(Image.new("RGB", size))
    message = rf"a/0\.png: corrupt image \({size[0]}x{size[1]} pixels, more than 32,768 on a side\)"
    refused(tmp_path, {"a/0.png": payload}, message)
    for resize in ("center-crop", "center-crop-dhariwal"):
        refused(tmp_path / resize, {"a/0.png": payload}, message, resize=resize, resolution=64)


@pytest.mark.parametrize("suffix", NAMED)
def test_formats_without_a_mark_are_read_by_their_suffix_alone(tmp_path, suffix):
    form, options = NAMED[suffix]
    payload = encoded(PICTURE, form, **options)
    store = read(tmp_path / "named", {f"a/0.{suffix}": payload}, channels="rgb")
    assert np.array_equal(store.images, planes(np.asarray(PICTURE)[None]))
    refused(
        tmp_path / "other", {"a/0.png": payload}, r"a/0\.png: corrupt image \(none of JPEG, PNG, WEBP", channels="rgb"
    )
    for share in (0.1, 0.5, 0.9):
        cut = payload[: int(share * len(payload))]
        refused(tmp_path / f"{share}", {f"a/0.{suffix}": cut}, r"corrupt image", channels="rgb")


def test_image_that_grows_when_scaled_is_refused(tmp_path):
    payload = png(Image.new("RGB", (1, 32_000)))
    message = r"a/0\.png: corrupt image \(1x32000 pixels, too narrow for --resize center-crop-dhariwal\)"
    refused(tmp_path, {"a/0.png": payload}, message, resize="center-crop-dhariwal", resolution=64)
    assert read(tmp_path, {"a/0.png": payload}, resize="center-crop", resolution=64).image_shape == (3, 64, 64)
    assert limits.MAX_SIDE >= 32_000


def test_damaged_files_of_every_format_give_an_image_or_one_line():
    from postmean.importers.layouts.layout import Item
    from postmean.importers.pixels.decode import PixelRule, decode

    draw = np.random.default_rng(0)
    small = PICTURE.resize((16, 12))
    kinds = {**LOSSLESS, **LOSSY, "gif": ("GIF", {}), **NAMED}
    files = [(f"x.{suffix}", encoded(small, form, **options)) for suffix, (form, options) in kinds.items()]
    for i in range(20 * len(files)):
        name, payload = files[i % len(files)]
        damaged = np.frombuffer(payload, np.uint8).copy()
        first = 80 if i % 2 else len(damaged)  # half of them in the header
        damaged[draw.integers(0, min(first, len(damaged)), 1 + i % 4)] = draw.integers(0, 256)
        rule = PixelRule(channels="rgb", on_corrupt="skip", resize="center-crop", size=(8, 8))
        try:
            decoded = decode(Item("x", damaged.tobytes(), None, name), rule, None)
        except DataError as error:
            assert "\n" not in str(error)
            assert "image" in str(error)
            continue
        assert decoded is None or decoded.pixels.shape == (3, 8, 8)
