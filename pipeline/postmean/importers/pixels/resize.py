"""From images of any size to images of one size, exactly as others have done it."""

from PIL import Image

from postmean.importers.config import Resize

Size = tuple[int, int]
"""Width and height."""


class WrongSizeError(Exception):
    """The image has not the size that a resampler needs."""


def resized(image: Image.Image, resize: Resize, size: Size) -> Image.Image:
    """An image at another size.

    Raises:
        WrongSizeError: `center-crop-wide` would enlarge the image, or it is no aligned image of CelebA.
    """
    if resize == "scale":
        return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
    if resize == "center-crop":
        return _center_crop(image, size)
    if resize == "center-crop-wide":
        return _center_crop_wide(image, size)
    return _center_crop_dhariwal(image, size[0]) if resize == "center-crop-dhariwal" else _celeba(image, size)


def pixels_between(image: Size, resize: Resize, size: Size) -> int:
    """Pixels of the largest image that `resized` makes on the way, for an image of this width and height."""
    longer, shorter = max(image), min(image)
    return longer * size[0] * size[0] // shorter if resize == "center-crop-dhariwal" else 0


def _center_crop(image: Image.Image, size: Size) -> Image.Image:
    """The largest central square, scaled by Lanczos: EDM's `center-crop`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize(size, Image.Resampling.LANCZOS)


def _center_crop_wide(image: Image.Image, size: Size) -> Image.Image:
    """The central rows of the wanted shape, scaled by Lanczos, on a black square: EDM's `center-crop-wide`."""
    width, height = size
    rows = round(width * image.height / image.width)
    if image.width < width or rows < height:
        raise WrongSizeError(f"{image.width}x{image.height} pixels, too small for {width}x{height}")
    top = (image.height - rows) // 2
    scaled = image.crop((0, top, image.width, (image.height + rows) // 2)).resize(size, Image.Resampling.LANCZOS)
    square = Image.new(image.mode, (width, width))
    square.paste(scaled, (0, (width - height) // 2))
    return square


def _center_crop_dhariwal(image: Image.Image, side: int) -> Image.Image:
    """Halve by a box filter while at least twice too large, scale by bicubic, then crop: as in ADM and EDM2."""
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _celeba(image: Image.Image, size: Size) -> Image.Image:
    """The face of an aligned CelebA image of 178x218 pixels, scaled by bilinear: as in DDIM."""
    if image.size != (178, 218):
        raise WrongSizeError(f"{image.width}x{image.height} pixels, an aligned image of CelebA has 178x218")
    return image.crop((25, 57, 153, 185)).resize(size, Image.Resampling.BILINEAR)
