"""Read photos of any usual format into arrays, and bring them to a size that can be worked with."""

import stat
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..system.files import PathLike, check_input
from ..system.quiet import quiet_stderr

SEARCH_SIZE = 4096  # px, the longer side of the photo in which faces are looked for
MAX_PIXELS = 120_000_000  # of a photo as stored: more is a decompression bomb or a mistake
# No vector or document formats: Pillow would start other programs for them.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "TGA", "ICO")


def load_photo(path: PathLike) -> np.ndarray:
    """Load a photo as (H, W, 3) uint8 RGB, turned upright as its EXIF data say, and over white where it is transparent.

    It may have any format that Pillow decodes itself. 16-bit and floating-point greys are scaled to 0 to 255.

    Raises InputError if the file is missing, unreadable or damaged, or has more than MAX_PIXELS.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    check_input(path)
    try:
        kind, size = (status := path.stat()).st_mode, status.st_size
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); check the portrait's name.") from error
    if stat.S_ISDIR(kind):
        raise InputError(f"{path}: is a folder, not a photo; name the image file.")
    if not stat.S_ISREG(kind):
        raise InputError(f"{path}: is not an ordinary file; name an image file.")
    if size == 0:
        raise InputError(f"{path}: the file is empty; get it again.")
    Image.MAX_IMAGE_PIXELS = None  # the limit below gives a clearer message
    try:
        Image.init()
        with quiet_stderr(), Image.open(path, formats=[f for f in _FORMATS if f in Image.OPEN]) as file:
            if file.width * file.height > MAX_PIXELS:
                raise InputError(f"{path}: {file.width}x{file.height} px is too large; scale it below 120 megapixels.")
            file.load()
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.mode.startswith(("I", "F")):  # Pillow would clip 16 and 32 bits, not scale them
                values = np.array(image, np.float32)  # in place from here: it may have 100 megapixels
                np.nan_to_num(values, copy=False, posinf=0, neginf=0)
                top = 65535 if values.max() > 255 and image.mode.startswith("I") else max(values.max(), 1e-9)
                np.clip(values, 0, top, out=values)
                np.rint(np.multiply(values, 255 / top, out=values), out=values)
                return np.repeat(values.astype(np.uint8)[..., None], 3, 2)
            if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            return np.array(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: not an image that can be read (is it really a photo?); use JPEG, PNG or WebP."
        ) from error
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of any kind
        raise InputError(f"{path}: the image is damaged or incomplete ({error}); get a whole copy of it.") from error


def fit_size(photo: np.ndarray, max_size: int) -> np.ndarray:
    """Make a photo (H, W, 3) smaller until its longer side is at most max_size px. Both sides become even.

    H.264 needs even sides. A photo that is small enough loses at most its last row and column.
    """
    height, width = photo.shape[:2]
    scale = min(1.0, max_size / max(height, width))
    size = (max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2))
    if scale == 1.0:
        return np.ascontiguousarray(photo[: size[1], : size[0]]) if min(height, width) > 1 else photo
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
