"""The driver as it was asked for: a name, and what kind of thing that name stands for."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from ..system.files import PathLike
from .drivers import Driver, kind_of, load_driver

DriverKind = Literal["video", "image", "saved", "built-in", "camera"]


@dataclass(frozen=True)
class DriverSource:
    """A driver that has been named but not read yet.

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
        return cls(os.fspath(driver), cast(DriverKind, kind_of(driver)))

    def load(
        self,
        face: int = 1,
        tracker: str = "auto",
        start: float | None = None,
        end: float | None = None,
        fps: float | None = None,
        progress: Callable[[int, int | None], None] = lambda done, total: None,
    ) -> Driver:
        """Read the driver and find its landmarks. The parameters are those of `load_driver`."""
        return load_driver(self.name, face, tracker, start, end, fps, progress)
