"""From images of any size to squares of one size, as others have done it."""

from PIL import Image

from postmean.importers.config import Resize


def resized(image: Image.Image, resize: Resize, resolution: int) -> Image.Image:
    """The central square of an image at another resolution."""
    return (_center_crop if resize == "center-crop" else _center_crop_dhariwal)(image, resolution)


def pixels_between(size: tuple[int, int], resize: Resize, resolution: int) -> int:
    """Pixels of the largest image that `resized` makes on the way, for an image of this width and height."""
    longer, shorter = max(size), min(size)
    return longer * resolution * resolution // shorter if resize == "center-crop-dhariwal" else 0


def _center_crop(image: Image.Image, resolution: int) -> Image.Image:
    """The largest central square, scaled by Lanczos: EDM's `center-crop`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS)


def _center_crop_dhariwal(image: Image.Image, resolution: int) -> Image.Image:
    """Halve by a box filter while at least twice too large, scale by bicubic, then crop: as in ADM and EDM2."""
    while min(image.size) >= 2 * resolution:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = resolution / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - resolution) // 2, (image.height - resolution) // 2
    return image.crop((left, top, left + resolution, top + resolution))
