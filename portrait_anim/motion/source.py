"""What a driver's name stands for, found out once."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError, UsageError
from ..media.content import content_type
from ..media.reading import check_times
from ..system.files import PathLike
from .builtin import NAMES

DriverKind = Literal["video", "image", "saved", "built-in", "camera"]
IMAGE_SUFFIXES = {
    ".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".jp2", ".tga", ".ppm", ".ico",
}  # fmt: skip


@dataclass(frozen=True)
class DriverSource:
    """A driver that has been named but not read yet. `load_driver` reads it.

    name: as the user wrote it. kind: "video", "image", "saved" (a motion written by --save-motion), "built-in" or
    "camera".
    """

    name: str
    kind: DriverKind

    @classmethod
    def of(cls, driver: "PathLike | DriverSource") -> "DriverSource":
        """Find out what kind of driver a name stands for; a file wins over a built-in motion of the same name.

        Raises InputError for a word that is neither a file nor a built-in motion, and UsageError for a camera without
        a number. Whether a named file exists is found out when it is read.
        """
        if isinstance(driver, DriverSource):
            return driver
        return cls(os.fspath(driver), kind_of(driver))

    @property
    def is_file(self) -> bool:
        """Whether the name is that of a file."""
        return self.kind not in ("built-in", "camera")

    def check_times(self, start: float | None, end: float | None, fps: float | None) -> None:
        """Raise UsageError if a driver of this kind cannot be read from start to end, in seconds, at the rate fps."""
        check_times(start, end, fps)
        if start and self.kind in ("camera", "image"):
            what = "a camera" if self.kind == "camera" else "an image"
            raise UsageError(f"{self.name}: --start has no meaning for {what}.")


def kind_of(driver: PathLike) -> DriverKind:
    """Tell what kind of driver a name stands for, as `DriverSource.of` does.

    What a file holds counts, not its suffix, so that a photo that was named .mp4 is a photo.
    """
    name = str(driver)
    if name.startswith("camera:"):
        number = name.removeprefix("camera:")
        if not (number.isascii() and number.isdigit()):
            raise UsageError(f"{name}: a camera is named by its number, as in camera:0.")
        return "camera"
    if not os.path.isfile(name) and name in NAMES:
        return "built-in"
    if not os.path.lexists(name) and name.replace("-", "").replace("_", "").isalpha():
        near = difflib.get_close_matches(name.lower(), NAMES, 1, 0.5)
        meant = f"did you mean {near[0]}?" if near else "animate --list-motions shows those that there are."
        raise InputError(f"{name}: no such file, and no built-in motion of that name; {meant}")
    kind = content_type(name)
    if kind is None:  # damaged, missing, or of a rare kind: the name says what it is meant to be
        suffix = Path(name).suffix.lower()
        return "saved" if suffix == ".npz" else "image" if suffix in IMAGE_SUFFIXES else "video"
    if kind == "application/zip":
        return "saved"
    return "image" if kind.startswith("image/") and kind != "image/gif" else "video"
