"""Conversion and resizing, against numpy and the code of EDM."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from postmean.base.errors import ConfigError
from postmean.contract.image_store import ImageStore
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images
from tests.support.image_files import encoded, make_source, planes, png, random_images
from tests.support.imports import imported, refused_import

SIZES = [(40, 60), (61, 33), (32, 32), (200, 90), (20, 25)]


def edm_center_crop(width, height, img):
    """NVlabs/edm, dataset_tool.py."""
    crop = np.min(img.shape[:2])
    img = img[
        (img.shape[0] - crop) // 2 : (img.shape[0] + crop) // 2, (img.shape[1] - crop) // 2 : (img.shape[1] + crop) // 2
    ]
    return np.array(PIL.Image.fromarray(img).resize((width, height), PIL.Image.Resampling.LANCZOS))


def adm_center_crop(image_size, arr):
    """openai/guided-diffusion, image_datasets.py; NVlabs/edm2 copies it."""
    pil_image = PIL.Image.fromarray(arr)
    while min(*pil_image.size) >= 2 * image_size:
        pil_image = pil_image.resize(tuple(x // 2 for x in pil_image.size), resample=PIL.Image.Resampling.BOX)
    scale = image_size / min(*pil_image.size)
    pil_image = pil_image.resize(tuple(round(x * scale) for x in pil_image.size), resample=PIL.Image.Resampling.BICUBIC)
    arr = np.array(pil_image)
    crop_y = (arr.shape[0] - image_size) // 2
    crop_x = (arr.shape[1] - image_size) // 2
    return arr[crop_y : crop_y + image_size, crop_x : crop_x + image_size]


@pytest.mark.parametrize("resize", ["center-crop", "center-crop-dhariwal"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_resized_pixels_are_those_of_edm(tmp_path, resize, channels):
    images = [random_images(1, (*size, *channels))[0] for size in SIZES]
    source = make_source(tmp_path, "zip", {f"a/{i}.png": png(image) for i, image in enumerate(images)})
    report = import_images(
        ImportConfig(source=source, store=tmp_path / "store", resize=resize, resolution=32, workers=1)
    )
    if resize == "center-crop":
        oracle = [edm_center_crop(32, 32, image) for image in images]
    else:
        oracle = [adm_center_crop(32, image) for image in images]
    store = ImageStore.open(tmp_path / "store")
    assert np.array_equal(store.images, planes(np.stack(oracle)))
    assert report.resized == store.header.source["resized"] == 4  # one is 32x32 already
    assert store.header.source["resize"] == resize
    assert store.header.source["resolution"] == 32


def edm_center_crop_wide(width, height, img):
    """The middle rows whose shape is width x height, by Lanczos, between black bars: NVlabs/edm, dataset_tool.py."""
    rows = int(np.round(width * img.shape[0] / img.shape[1]))
    middle = img[(img.shape[0] - rows) // 2 :][:rows]
    out = np.zeros((width, width, *img.shape[2:]), np.uint8)
    scaled = PIL.Image.fromarray(middle).resize((width, height), PIL.Image.Resampling.LANCZOS)
    out[(width - height) // 2 :][:height] = np.array(scaled)
    return out


def edm_scale(width, height, img):
    """No --transform in dataset_tool.py: both sides scaled, whatever the shape."""
    return np.array(PIL.Image.fromarray(img).resize((width, height), PIL.Image.Resampling.LANCZOS))


def ddim_celeba(side, img):
    """ermongroup/ddim: rows 121 - 64 .. 121 + 64 and columns 89 - 64 .. 89 + 64, then torchvision's bilinear Resize."""
    face = img[57:185, 25:153]
    return np.array(PIL.Image.fromarray(face).resize((side, side), PIL.Image.Resampling.BILINEAR))


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(
    ("resize", "resolution", "sizes", "oracle"),
    [
        ("center-crop-wide", "32x24", [(60, 60), (61, 33), (48, 64), (33, 40), (24, 32)], edm_center_crop_wide),
        ("center-crop-wide", "32x32", [(60, 40), (32, 32)], edm_center_crop_wide),
        ("scale", "32x24", [(40, 60), (20, 25), (24, 32)], edm_scale),
        ("scale", 32, SIZES, edm_scale),
        ("celeba", 64, [(218, 178), (218, 178)], lambda w, h, img: ddim_celeba(w, img)),
    ],
)
def test_other_resamplers_are_those_of_their_publications(tmp_path, resize, resolution, sizes, oracle, channels):
    width, height = map(int, resolution.split("x")) if isinstance(resolution, str) else (resolution, resolution)
    images = [random_images(1, (*size, *channels), seed=i)[0] for i, size in enumerate(sizes)]
    source = make_source(tmp_path, "zip", {f"a/{i}.png": png(image) for i, image in enumerate(images)})
    store = imported(tmp_path, source, resize=resize, resolution=resolution)
    assert np.array_equal(store.images, planes(np.stack([oracle(width, height, image) for image in images])))


@pytest.mark.parametrize(
    ("resize", "resolution", "message"),
    [
        (
            "center-crop-wide",
            "64x48",
            r"\(40x30 pixels, too small for 64x48, for --resize center-crop-wide",
        ),
        ("celeba", 64, r"corrupt image \(40x30 pixels, an aligned image of CelebA has 178x218, for --resize celeba"),
    ],
)
def test_images_that_a_resampler_leaves_out_are_named(tmp_path, resize, resolution, message):
    files = {"a/0.png": png(random_images(1, (218, 178, 3))[0]), "a/1.png": png(random_images(1, (30, 40, 3))[0])}
    source = make_source(tmp_path, "zip", files)
    with refused_import(tmp_path, message):
        imported(tmp_path, source, resize=resize, resolution=resolution)
    store = imported(tmp_path, source, resize=resize, resolution=resolution, on_corrupt="skip")
    assert (len(store), store.header.source["skipped"]) == (1, 1)


@pytest.mark.parametrize(
    ("resize", "resolution", "message"),
    [
        ("center-crop", "64x48", r"resolution 64x48: center-crop makes squares"),
        ("center-crop-wide", "48x64", r"makes images no higher than wide"),
        ("scale", "64x48x3", r"expected pixels such as 64, or WxH such as 64x48"),
        ("scale", "-1", r"expected pixels such as 64"),
        ("scale", "0x5", r"expected 1\.\.4096 pixels"),
    ],
)
def test_resolutions_that_do_not_fit_the_resampler_are_refused(tmp_path, resize, resolution, message):
    with pytest.raises(ConfigError, match=message):
        ImportConfig(source="x", store=tmp_path / "store", resize=resize, resolution=resolution)


RGB = random_images(1)[0]
GREY = random_images(1, (5, 6))[0]
ALPHA = np.dstack([RGB, GREY])
LUMA = np.asarray(PIL.Image.fromarray(RGB).convert("L"))
CMYK = encoded(PIL.Image.fromarray(RGB).convert("CMYK"), "JPEG")
CMYK_RGB = np.asarray(PIL.Image.open(io.BytesIO(CMYK)).convert("RGB"))


def sixteen_bit_rgb_png(image):
    """A PNG of 16 bits per channel, which Pillow cannot write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("payload", "rgb", "grey"),
    [
        (png(GREY), np.dstack([GREY] * 3), GREY),
        (png(RGB), RGB, LUMA),
        (png(ALPHA), RGB, LUMA),
        (png(np.dstack([GREY, GREY])), np.dstack([GREY] * 3), GREY),
        (png((GREY.astype(np.uint16) << 8) + 200), np.dstack([GREY] * 3), GREY),
        (sixteen_bit_rgb_png((RGB.astype(np.uint16) << 8) + 200), RGB, LUMA),
        (CMYK, CMYK_RGB, np.asarray(PIL.Image.open(io.BytesIO(CMYK)).convert("L"))),
        (
            png(PIL.Image.fromarray(GREY > 99)),
            np.dstack([(GREY > 99) * np.uint8(255)] * 3),
            (GREY > 99) * np.uint8(255),
        ),
    ],
    ids=["grey", "rgb", "rgba", "la", "16-bit grey", "16-bit rgb", "cmyk", "1-bit"],
)
def test_channels_are_converted_and_counted_when_asked(tmp_path, payload, rgb, grey):
    source = make_source(tmp_path, "zip", {"a/0.png": payload, "a/1.png": png(RGB), "a/2.png": png(GREY)})
    for channels, first, others in (
        ("rgb", rgb, [RGB, np.dstack([GREY] * 3)]),
        ("grey", grey, [LUMA, GREY]),
    ):
        report = import_images(
            ImportConfig(source=source, store=tmp_path / channels, channels=channels, workers=1)  # type: ignore[arg-type]
        )
        store = ImageStore.open(tmp_path / channels)
        assert np.array_equal(store.images, planes(np.stack([first, *others])))
        as_it_was = payload == png(RGB if channels == "rgb" else GREY)
        assert report.converted == store.header.source["converted"] == (1 if as_it_was else 2)


def test_palette_with_transparency_keeps_its_colours(tmp_path):
    image = PIL.Image.fromarray(RGB).quantize(8)
    payload = png(image, transparency=bytes(range(8)))
    source = make_source(tmp_path, "zip", {"a/0.png": payload})
    import_images(ImportConfig(source=source, store=tmp_path / "store", channels="rgb"))
    store = ImageStore.open(tmp_path / "store")
    assert np.array_equal(store.images, planes(np.asarray(image.convert("RGB"))[None]))
