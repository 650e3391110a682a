"""Read portrait and driver, the first time in a helper process while this one loads the networks.

Most of either is the importing of Python code, for which threads of one process would take turns. With two processes
the first frame comes 0.8 s earlier (of 2.7 s).
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..media.reading import probe
from ..motion.drivers import Driver, load_driver
from ..system.helper_process import can_run_helper, run_in_helper
from .people import Portraits, read_portraits
from .request import Request

KEPT = 4  # portraits and drivers that stay in memory for the next output


@dataclass(frozen=True)
class Progress:
    """How far a run is: `done` of `total` units of a stage.

    stage: "portrait", "source", "driver", "tuning" or "frames". total: None when it is not known, 0 when the stage has
    nothing to do. The units of "tuning" are seconds or steps.
    """

    stage: str
    done: int
    total: int | None


class LruCache:
    """A least-recently-used cache, so that several outputs of one portrait or driver are read only once."""

    def __init__(self, size: int = KEPT):
        self._size = size
        self._values: dict = {}

    def get(self, key: tuple, make: Callable):
        """Return the value of key, which `make` makes if it is not there."""
        value = self._values.pop(key, None)
        self._values[key] = value if value is not None else make()
        while len(self._values) > self._size:
            del self._values[next(iter(self._values))]
        return self._values[key]


class Reader:
    """Reads portraits and drivers and keeps the last few of each."""

    def __init__(self) -> None:
        self._portraits, self._drivers = LruCache(), LruCache()

    def read(self, request: Request, progress: Callable[[Progress], None]) -> tuple[Portraits | None, Driver]:
        """Return the portraits (None where a person file stands for them) and the driver.

        Of several faults it is said first that the driver is no video, then what is wrong with the portraits, then
        what else is wrong with the driver. Nobody performs before a camera for a portrait that cannot be read.
        """
        portraits, driver, options = None, request.driver, request.options
        if driver.kind == "video":
            probe(driver.name)
        if options.person is None:
            show = lambda *step: progress(Progress(*step))
            make = lambda: read_portraits(list(request.images), options, show)
            portraits = self._portraits.get(portraits_key(request), make)
        progress(Progress("driver", 0, None))
        show = lambda done, total: progress(Progress("driver", done, total))
        load = lambda: load_driver(driver, *_driver_options(request), show)
        return portraits, load() if driver.kind == "camera" else self._drivers.get(_driver_key(request), load)

    def read_in_helper(self, request: Request, progress: Callable[[Progress], None]) -> tuple[Portraits | None, Driver]:
        """Do what `read` does in a helper process, which would not see the Ctrl-C that ends a camera's recording."""
        portraits, source = run_in_helper(_read, request, progress=progress)
        if portraits is not None:
            self._portraits.get(portraits_key(request), lambda: portraits)
        return portraits, self._drivers.get(_driver_key(request), lambda: source)

    def best_way(self, request: Request) -> Callable[..., tuple[Portraits | None, Driver]]:
        """Return `read_in_helper` where that gains time, else `read`: it gains nothing once torch is loaded."""
        gains = "torch" not in sys.modules and can_run_helper() and request.driver.kind != "camera"
        return self.read_in_helper if gains else self.read


def _read(*given) -> tuple[Portraits | None, Driver]:
    return Reader().read(*given)


def portraits_key(request: Request) -> tuple:
    """Return what decides how the photos are read, their files' dates included."""
    options = request.options
    read = (options.shots, options.face, options.max_size, options.background, options.tracker)
    return (*map(_identity, request.sources), len(request.images), *read)


def _driver_key(request: Request) -> tuple:
    return (_identity(request.driver.name), *_driver_options(request))


def _driver_options(request: Request) -> tuple:
    options = request.options
    return (options.driver_face, options.tracker, *request.driver_range)


def _identity(path: str | Path) -> tuple:
    """Return a key of a file that changes when the file does.

    A missing file has a key, too: the code that reads it reports the fault.
    """
    try:
        status = os.stat(path)
        return (os.path.abspath(path), status.st_size, status.st_mtime_ns)
    except (OSError, ValueError):
        return (str(path),)
