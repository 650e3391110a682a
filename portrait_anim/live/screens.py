"""Show the moving portrait without a browser: in a window, or to other programs as if it were a camera."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import cv2
import numpy as np

from ..errors import InputError, UsageError
from ..media.camera import open_camera, read_frames
from .session import LiveSession

KEYS = "c calibrates, m mirrors, q ends"
_WAIT = 0.2  # s between two looks at the keys while no picture comes


class Screen(Protocol):
    """What shows pictures, one after the other."""

    def show(self, image: np.ndarray | None) -> str:
        """Show a picture (H, W, 3) uint8 RGB, None for the same as before. Returns the key that was pressed, or ""."""

    def close(self) -> None:
        """Show nothing any more."""


class Window:
    """A window on the desktop. Raises UsageError if there is no desktop, or if OpenCV was built without windows."""

    def __init__(self, title: str):
        _check_windows()
        self._title = title
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        self._size: tuple[int, int] | None = None  # of the first picture, which the others keep

    def show(self, image: np.ndarray | None) -> str:
        """Show a picture, as every Screen does. The window's close button counts as the key q."""
        if image is not None:
            if self._size is None:
                self._size = (image.shape[1], image.shape[0])
                cv2.resizeWindow(self._title, *self._size)
            cv2.imshow(self._title, _in_size(image, self._size)[..., ::-1])
        pressed = cv2.waitKey(1) & 0xFF
        if cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1 or pressed == 27:  # Esc
            return "q"
        return chr(pressed) if pressed < 128 else ""

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()


def _check_windows() -> None:
    """Raise UsageError if no window can be opened. Qt ends the process that tries in vain, so another one tries."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UsageError("--window: there is no display here; leave it out and use the page in the browser.")
    code = "import cv2; cv2.namedWindow('try'); cv2.destroyAllWindows()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, stdin=subprocess.DEVNULL)
    if b"not implemented" in done.stderr:
        raise UsageError(
            "--window: the OpenCV that is installed has no windows (opencv-python-headless); install opencv-python."
        )
    if done.returncode:
        raise UsageError("--window: the display cannot be used; leave it out and use the page in the browser.")


class VirtualCamera:
    """A camera that other programs find, such as those for calls.

    size: (width, height) px of its pictures; those in another size are resized. rate: pictures/s that it promises.
    `name` is how the other programs call it. Raises UsageError if pyvirtualcam or the system's device is missing.
    """

    def __init__(self, size: tuple[int, int], rate: float):
        try:
            import pyvirtualcam
        except ModuleNotFoundError as error:
            raise UsageError(
                "--virtual-camera needs pyvirtualcam, which is not installed; install it by: pip install '.[live]'."
            ) from error
        self._size = size
        self._last: np.ndarray = np.zeros((size[1], size[0], 3), np.uint8)
        try:
            self._device: Any = pyvirtualcam.Camera(*size, round(rate))
        except RuntimeError as error:
            raise UsageError(f"--virtual-camera: this system has no virtual camera; {_driver_advice()}.") from error
        self.name: str = self._device.device

    def show(self, image: np.ndarray | None) -> str:
        """Show a picture, as every Screen does. There are no keys."""
        if image is not None:
            self._last = _in_size(image, self._size)
        self._device.send(self._last)
        return ""

    def close(self) -> None:
        """Give the device back."""
        self._device.close()


def _in_size(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture in another size, (width, height) px, than the one that was chosen to hold the rate."""
    return image if image.shape[1::-1] == size else cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def _driver_advice() -> str:
    if sys.platform.startswith("linux"):
        return "install v4l2loopback-dkms and load it: sudo modprobe v4l2loopback exclusive_caps=1"
    return "install OBS Studio, which brings one, and start its virtual camera once"


def show_live(session: LiveSession, camera: str, screens: Sequence[Screen], say: Callable[[str], None]) -> None:
    """Let a camera of this machine move the portrait on the screens until the user ends it.

    session: begun. camera: such as "camera:0". say: gets a sentence when the size of the pictures changes, and when the
    face is lost or found again. It must be called by the main thread, which alone may have windows. Raises InputError
    if there is no such camera, or if it gives no more pictures.
    """
    news = _News(say)
    with open_camera(camera) as capture:
        ended = threading.Event()
        feeding = threading.Thread(target=_feed, args=(capture, session, ended), daemon=True)
        feeding.start()
        try:
            while not ended.is_set():
                picture = session.take(_WAIT)
                keys = [screen.show(None if picture is None else picture.image) for screen in screens]
                news.tell(session)
                if "q" in keys:
                    return
                if "c" in keys:
                    session.calibrate()
                if "m" in keys:
                    session.change(replace(session.options, mirror=not session.options.mirror))
        finally:
            ended_by_camera = ended.is_set()
            ended.set()
            feeding.join()
    if ended_by_camera:
        raise InputError(f"{camera}: it gives no more pictures; plug it in again, and start anew.")


def _feed(capture: Any, session: LiveSession, ended: threading.Event) -> None:
    """Give the session every picture of the camera."""
    for frame, taken in read_frames(capture):
        if ended.is_set():
            return
        session.put(frame, taken)
    ended.set()


class _News:
    """Tells how a session does when that changes."""

    def __init__(self, say: Callable[[str], None]):
        self._say, self._size, self._has_face, self._holds = say, (0, 0), True, True
        self._next = 0.0

    def tell(self, session: LiveSession) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 1
        status = session.status()
        if status.size != self._size and status.shown:
            self._say(f"{status.size[0]}x{status.size[1]} px, {status.wanted:g} pictures/s wanted")
            self._size = status.size
        if status.given and status.has_face != self._has_face:
            self._say("the face is seen again" if status.has_face else "no face is seen; the portrait waits")
            self._has_face = status.has_face
        if not status.holds and self._holds and status.capacity:
            self._say(f"this machine makes {status.capacity:.0f} pictures/s, {status.wanted:g} were wanted")
        self._holds = status.holds
