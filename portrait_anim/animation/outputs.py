"""Write the finished frames: a video or a folder of frames, a single picture, or a contact sheet.

Each writer is a context manager with `write(frame)`. Its output appears at the end of the block, whole or not at all.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ..media.writing import VideoWriter
from ..system.files import atomic_write
from .overlays import contact_sheet

Frame = np.ndarray  # (H, W, 3) uint8 RGB


class Writer(Protocol):
    """An output that takes frames in their order inside a `with` block.

    size: (width, height) of what was written, in px, known at the end. warnings: sentences for the user, complete at
    the end.
    """

    size: tuple[int, int]
    warnings: list[str]

    def __enter__(self) -> "Writer": ...

    def __exit__(self, kind, error, trace) -> None: ...

    def write(self, frame: Frame) -> None:
        """Add the next frame, (H, W, 3) uint8 RGB."""


class _StillWriter:
    """Writes one PNG at the end.

    finish: called with the path of the whole file before the file gets its name.
    """

    def __init__(self, path: Path, finish: Callable[[Path], None]):
        self.size, self.warnings = (0, 0), []
        self._path, self._finish = path, finish
        self._frames: list[Frame] = []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:
            return
        picture = self._picture()
        self.size = picture.shape[1], picture.shape[0]
        with atomic_write(self._path, self._path.suffix) as partial:
            partial.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
            self._finish(partial)


class PictureWriter(_StillWriter):
    """Writes the last of the frames as a PNG."""

    def write(self, frame: Frame) -> None:
        """Replace the picture by a frame, (H, W, 3) uint8 RGB."""
        self._frames = [frame]

    def _picture(self) -> np.ndarray:
        return self._frames[0]


class SheetWriter(_StillWriter):
    """Writes all frames as one PNG: a grid of small pictures, each under a label.

    numbers: those of the frames in the driver. fps: the frame rate of the driver, for the seconds in the labels.
    """

    def __init__(self, path: Path, finish: Callable[[Path], None], numbers: list[int], fps: Fraction):
        super().__init__(path, finish)
        self._labels = [f"frame {t}, {float(t / fps):.2f} s" for t in numbers]

    def write(self, frame: Frame) -> None:
        """Add the next frame, (H, W, 3) uint8 RGB."""
        self._frames.append(frame)

    def _picture(self) -> np.ndarray:
        return contact_sheet(self._frames, self._labels)


__all__ = ["PictureWriter", "SheetWriter", "VideoWriter", "Writer"]
