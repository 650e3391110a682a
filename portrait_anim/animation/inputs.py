"""Portraits and driver are read: the first time by another process, while this one loads the networks.

All that is imported for either is Python and would take turns: the first frame came 0.8 s of 2.7 later.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..media.reading import probe
from ..motion.drivers import Driver, kind_of, load_driver
from ..system.helper_process import run_in_helper
from .people import Portraits, read_portraits

if TYPE_CHECKING:
    from .options import Options

KEPT = 4  # portraits and drivers that stay in memory for the next output


@dataclass(frozen=True)
class Progress:
    """stage: "portrait", "source", "driver", "tuning" or "frames". done of total units (of tuning: seconds or steps);
    total None when not known, 0 when the stage has nothing to do."""

    stage: str
    done: int
    total: int | None


class Recent:
    """What was made last, by key: several outputs of one portrait or of one driver share the work."""

    def __init__(self):
        self._values: dict = {}

    def get(self, key: tuple, make: Callable):
        """The value of key, made if need be."""
        value = self._values.pop(key, None)
        self._values[key] = value if value is not None else make()
        while len(self._values) > KEPT:
            del self._values[next(iter(self._values))]
        return self._values[key]


class Reader:
    """Reads portraits and drivers, and keeps the last few of each."""

    def __init__(self):
        self._portraits, self._drivers = Recent(), Recent()

    def read(
        self, images: list[Path], driver: str | Path, options: "Options", progress: Callable[[Progress], None]
    ) -> tuple[Portraits | None, Driver]:
        """The portraits, None where a person file stands for them, and the driver.

        Of several faults it is said first that the driver is no video, then what is wrong with the portraits, then
        what else with the driver. Nobody performs before a camera for a portrait that cannot be read.
        """
        kind, portraits = kind_of(driver), None
        if kind == "video":
            probe(driver)
        if options.person is None:
            show = lambda *step: progress(Progress(*step))
            make = lambda: read_portraits(images, options, show)
            portraits = self._portraits.get(portraits_key(images, options), make)
        progress(Progress("driver", 0, None))
        show = lambda done, total: progress(Progress("driver", done, total))
        load = lambda: load_driver(driver, *_driver_options(options), show)
        return portraits, load() if kind == "camera" else self._drivers.get(_driver_key(driver, options), load)

    def read_aside(
        self, images: list[Path], driver: str | Path, options: "Options", progress: Callable[[Progress], None]
    ) -> tuple[Portraits | None, Driver]:
        """`read`, by another process. Not for a camera: that Ctrl-C ends the recording, it would not see."""
        portraits, source = run_in_helper(_read, images, driver, options, progress=progress)
        if portraits is not None:
            self._portraits.get(portraits_key(images, options), lambda: portraits)
        return portraits, self._drivers.get(_driver_key(driver, options), lambda: source)


def _read(*given) -> tuple[Portraits | None, Driver]:
    return Reader().read(*given)


def portraits_key(images: list, options: "Options") -> tuple:
    """What decides how photos are read."""
    given = [*images, *options.stand_ins()]
    read = (options.shots, options.face, options.max_size, options.background, options.tracker)
    return (*map(_identity, given), len(images), *read)


def _driver_key(driver: str | Path, options: "Options") -> tuple:
    return (_identity(driver), *_driver_options(options))


def _driver_options(options: "Options") -> tuple:
    return (options.driver_face, options.tracker, options.start, options.end, options.fps)


def _identity(path: str | Path) -> tuple:
    """Changes when the file does. A file that is missing has none yet: whoever reads it says so."""
    try:
        status = os.stat(path)
        return (os.path.abspath(path), status.st_size, status.st_mtime_ns)
    except (OSError, ValueError):
        return (str(path),)
