"""Record the frames of a camera, until a time has passed or the user presses Ctrl-C."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from ..errors import InputError


@contextmanager
def open_camera(name: str) -> Iterator[Any]:
    """Open the camera `camera:NUMBER` as a cv2.VideoCapture for the `with` block.

    Raises InputError if there is no such camera, or if it is in use.
    """
    cv2.setLogLevel(0)
    capture = cv2.VideoCapture(int(name.removeprefix("camera:")[:9]))
    try:
        if not capture.isOpened():
            raise InputError(f"{name}: there is no such camera, or it is in use; try another number, or a video file.")
        yield capture
    finally:
        capture.release()


def record(capture: Any, end: float | None, times: list[float], stopped: threading.Event) -> Iterator[np.ndarray]:
    """Yield the frames of a camera, (H, W, 3) uint8 RGB, until `end` seconds have passed or `stopped` is set.

    It also ends when the camera gives no more frames. times: the seconds at which each frame was taken are appended to
    it, by a clock that begins anywhere.
    """
    for frame, now in read_frames(capture):
        if stopped.is_set() or (end is not None and times and now - times[0] >= end):
            return
        times.append(now)
        yield frame


def read_frames(capture: Any) -> Iterator[tuple[np.ndarray, float]]:
    """Yield each frame of a camera, (H, W, 3) uint8 RGB, and when it was taken, s, until it gives no more."""
    while True:
        here, frame = capture.read()
        now = time.monotonic()
        if not here:
            return
        yield np.ascontiguousarray(frame[..., ::-1]), now


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """Let Ctrl-C set an event, instead of ending the program, inside the `with` block.

    Only the main thread can do that; in other threads the event is never set.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
