"""Read photos of any usual format into arrays, and bring them to a size that can be worked with."""

import stat
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError

SEARCH_SIZE = 4096  # px, longer side at which faces are looked for
MAX_PIXELS = 120_000_000  # of a photo as stored: more is a decompression bomb or a mistake
# No vector or document formats: Pillow would start other programs for them.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "TGA", "ICO")


def load_photo(path: str | Path) -> np.ndarray:
    """A photo of any kind Pillow reads, (H, W, 3) uint8 RGB, upright (EXIF) and without alpha (over white).

    Raises InputError: missing, unreadable, damaged, too large, 1 px.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError) as error:
        if path.parts and path.parts[0] in ("http:", "https:"):  # a Path has lost one of its slashes
            raise InputError(f"{path}: is an address, not a file; fetch the photo and give a local file.") from error
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise InputError(f"{path}: {reason}; check the portrait's name.") from error
    if stat.S_ISDIR(kind):
        raise InputError(f"{path}: is a folder, not a photo; name the image file.")
    if not stat.S_ISREG(kind):
        raise InputError(f"{path}: is not an ordinary file; name an image file.")
    Image.MAX_IMAGE_PIXELS = None  # our own limit below has the clearer sentence
    try:
        Image.init()
        with Image.open(path, formats=[f for f in _FORMATS if f in Image.OPEN]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{path}: {image.width}x{image.height} px is too large; scale it below 120 megapixels."
                )
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):  # 16 and 32 bit: Pillow would clip, not scale
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
    except Exception as error:  # its decoders raise whatever they like
        raise InputError(f"{path}: the image is damaged or incomplete ({error}); get a whole copy of it.") from error


def fit_size(photo: np.ndarray, max_size: int) -> np.ndarray:
    """photo with its longer side at most max_size px and both sides even (H.264 needs that)."""
    height, width = photo.shape[:2]
    scale = min(1.0, max_size / max(height, width))
    size = (max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2))
    if scale == 1.0:
        return np.ascontiguousarray(photo[: size[1], : size[0]]) if min(height, width) > 1 else photo
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
