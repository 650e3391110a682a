"""One page that is connected: what it sends, what it gets, and the recordings it makes.

Binary messages of the page begin with a byte that says what follows: FRAME, then the camera's time (float64, ms, little
endian) and a JPEG file, or SOUND, then a part of a WebM file. Binary messages to the page are the time of the camera's
picture and a JPEG file. All else is JSON: orders of the page {"do": ...}, news for it {"say": ...}.
"""

import asyncio
import io
import json
import math
import re
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from PIL import Image

from ..errors import InputError, PortraitAnimError, UsageError
from ..motion.options import MotionOptions
from ..provenance.marks import Marking
from .recording import Recorded, Recording
from .session import LiveSession, Picture, jpeg
from .sizes import Pace, RenderersBySize

FRAME, SOUND = 1, 2  # kinds of binary messages
MAX_MESSAGE = 1_000_000  # bytes
MAX_SIDE = 1920  # px of a camera's picture
MAX_RATE = 120  # messages/s, over MAX_RATE_SECONDS; no camera of a browser is faster
MAX_RATE_SECONDS = 2.0
MAX_KEPT = 8  # recordings that are kept, until the server stops
STATUS_SECONDS = 0.5


class Recordings:
    """The recordings of a server, of which the last few are kept. folder: for their files. name: of the portrait."""

    def __init__(self, folder: Path, name: str, make_marking: Callable[[], Marking]):
        self._folder, self._make_marking = folder, make_marking
        self._name = re.sub(r"[^\w .()+-]", "_", name).lstrip(". -")[-80:] or "portrait"
        self._kept: dict[int, Recorded] = {}
        self._number = 0

    def begin(self, size: tuple[int, int], begun: float) -> Recording:
        """Begin a recording, see `Recording`."""
        self._number += 1
        path = self._folder / f"{self._name}--live-{self._number}.mp4"
        return Recording(path, size, begun, self._make_marking())

    def keep(self, recorded: Recorded) -> None:
        """Keep a finished recording, and delete the oldest of too many."""
        self._kept[int(recorded.path.stem.rsplit("-", 1)[1])] = recorded
        while len(self._kept) > MAX_KEPT:
            self._kept.pop(min(self._kept)).path.unlink(missing_ok=True)

    def get(self, number: int) -> Recorded | None:
        """Return the recording with a number, None if it is not there."""
        return self._kept.get(number)

    def listed(self) -> list[dict]:
        """Return what the page says about the recordings."""
        return [
            {"number": number, "name": made.path.name, "seconds": made.seconds, "warnings": made.warnings}
            for number, made in sorted(self._kept.items())
        ]


class Connection:
    """The page at the other end of a WebSocket, while its camera moves the portrait."""

    def __init__(self, socket: WebSocket, recordings: Recordings):
        self._socket, self._recordings = socket, recordings
        self._recording: Recording | None = None
        self._last_taken = -math.inf
        self._messages, self._counted = 0, time.monotonic()

    def session(
        self,
        renderers: RenderersBySize,
        options: MotionOptions,
        rate: float,
        threads: int | None,
        pace: Pace | None,
        label: bool,
    ) -> LiveSession:
        """Return a session whose pictures go to the page, and into the recording while there is one."""
        return LiveSession(renderers, options, rate, threads, pace, label, jpeg, self._watch)

    def _watch(self, picture: Picture) -> None:
        if (recording := self._recording) is not None:
            recording.add(picture.image, picture.taken)

    async def run(self, session: LiveSession) -> None:
        """Let the page's camera move the portrait until the page goes, or something is wrong, which it is told."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, session.__enter__)
        work = [asyncio.ensure_future(do(session)) for do in (self._receive, self._show, self._tell)]
        try:
            await self._say("ready", options=_told(session.options), recordings=self._recordings.listed())
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except WebSocketDisconnect:
            pass
        except PortraitAnimError as error:
            await self.end(str(error))
        finally:
            for task in work:
                task.cancel()
            closing = loop.run_in_executor(None, self._close, session)  # even if this is cancelled, too
            await asyncio.gather(*work, return_exceptions=True)
            await asyncio.shield(closing)

    async def end(self, sentence: str) -> None:
        """Tell the page why it is over, and close."""
        try:
            await self._say("error", text=sentence)
            await self._socket.close(1000)
        except (RuntimeError, WebSocketDisconnect):  # it has gone
            pass

    def _close(self, session: LiveSession) -> None:
        """End the session; what was being recorded is kept for the page's next visit."""
        session.__exit__(None, None, None)
        if self._recording is not None:
            try:
                self._recordings.keep(self._recording.finish(self._last_taken))
            except PortraitAnimError:
                pass  # nobody is left to tell, and there is no file

    async def _say(self, what: str, **news) -> None:
        await self._socket.send_text(json.dumps({"say": what, **news}))

    # ---------------------------------------------------------------- to the page

    async def _show(self, session: LiveSession) -> None:
        """Send the newest picture of the portrait, again and again; while the page is slow, others are left out."""
        loop = asyncio.get_running_loop()
        while True:
            picture = await loop.run_in_executor(None, session.take, 0.5)
            if picture is not None and picture.encoded is not None:
                await self._socket.send_bytes(struct.pack("<d", picture.taken * 1000) + picture.encoded)

    async def _tell(self, session: LiveSession) -> None:
        while True:
            await asyncio.sleep(STATUS_SECONDS)
            await self._say("status", **asdict(session.status()))

    # ---------------------------------------------------------------- from the page

    async def _receive(self, session: LiveSession) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            self._count()
            if (data := message.get("bytes")) is not None:
                self._take(session, data)
            else:
                await self._obey(session, message.get("text") or "")

    def _count(self) -> None:
        """Refuse a page that sends more than any camera gives."""
        self._messages += 1
        now = time.monotonic()
        if now - self._counted > MAX_RATE_SECONDS:
            self._messages, self._counted = 1, now
        if self._messages > MAX_RATE * MAX_RATE_SECONDS:
            raise UsageError(f"The page sends more than {MAX_RATE} messages a second; reload it.")

    def _take(self, session: LiveSession, data: bytes) -> None:
        if data[:1] == bytes([SOUND]) and self._recording is not None:
            self._recording.add_sound(data[1:])
        elif data[:1] == bytes([FRAME]) and len(data) > 9:
            taken = struct.unpack_from("<d", data, 1)[0] / 1000
            if math.isfinite(taken) and taken > self._last_taken:
                self._last_taken = taken
                session.put(lambda: read_frame(data[9:]), taken)

    async def _obey(self, session: LiveSession, text: str) -> None:
        try:
            order = json.loads(text)
            do = order.pop("do")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise UsageError("The page sent an order that is not known; reload it.") from error
        loop = asyncio.get_running_loop()
        if do == "calibrate":
            await loop.run_in_executor(None, session.calibrate)
        elif do == "change":
            await loop.run_in_executor(None, session.change, _changed(session.options, order))
        elif do == "record" and self._recording is None:
            size = session.status().size
            begin = lambda: self._recordings.begin((size[0], size[1]), _seconds(order))
            self._recording = await loop.run_in_executor(None, begin)
        elif do == "finish" and self._recording is not None:
            recording, self._recording = self._recording, None
            try:
                recorded = await loop.run_in_executor(None, recording.finish, _seconds(order))
                self._recordings.keep(recorded)
                await self._say("recorded", recordings=self._recordings.listed())
            except PortraitAnimError as error:  # the camera goes on
                await self._say("failed", text=str(error))


def _seconds(order: dict) -> float:
    moment = order.get("time")
    if not isinstance(moment, int | float) or not math.isfinite(moment):
        raise UsageError("The page sent an order without its time; reload it.")
    return moment / 1000


def _changed(options: MotionOptions, order: dict) -> MotionOptions:
    """Return options with those changed that the page may change. Raises UsageError."""
    strength, mirror, only = (order.get(name, getattr(options, name)) for name in ("strength", "mirror", "only"))
    parts = only if isinstance(only, list | tuple) else ()
    if (
        not isinstance(strength, int | float)
        or isinstance(strength, bool)
        or not all(isinstance(p, str) for p in parts)
    ):
        raise UsageError("The page sent options that cannot be; reload it.")
    changed = replace(options, strength=float(strength), mirror=bool(mirror), only=tuple(parts))
    changed.check()
    return changed


def _told(options: MotionOptions) -> dict:
    return {"strength": options.strength, "mirror": options.mirror, "only": list(options.only)}


def read_frame(data: bytes) -> np.ndarray:
    """Return a camera's picture, (H, W, 3) uint8 RGB, from a JPEG file. Raises InputError."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as file:  # reads no more than the header
            width, height = file.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError("The camera's picture is not a JPEG file; reload the page.") from error
    if max(width, height) > MAX_SIDE or min(width, height) < 16:
        raise InputError(f"The camera's picture has {width}x{height} px; 16 to {MAX_SIDE} are taken.")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError("The camera's picture is damaged; reload the page.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
