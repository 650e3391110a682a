"""Record what the portrait does, with the sound of the microphone in step, into a video that is marked as all are."""

import contextlib
import queue
import tempfile
import threading
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ..errors import PortraitAnimError
from ..media.reading import probe
from ..media.writing import VideoWriter
from ..provenance.marks import Marking

FPS = Fraction(25)
MAX_SECONDS = 1800.0  # that one recording may be long
MAX_SOUND = 64_000_000  # bytes of sound, an hour at twice the usual rate
_WAITING = 25  # pictures that wait for the encoder; if it is slower, some are left out


@dataclass(frozen=True)
class Recorded:
    """A finished recording. path: the video. seconds: how long it is. warnings: sentences for the user."""

    path: Path
    seconds: float
    warnings: list[str] = field(default_factory=list)


class Recording:
    """Writes pictures, as they come, into a video of constant frame rate, and adds the sound at the end.

    path: the file to be written, an .mp4 whose folder exists. size: (width, height) px, even. begun: when the sound
    begins, s by the camera's clock, which is when the video begins, too. marking: marks the finished file.
    """

    def __init__(self, path: Path, size: tuple[int, int], begun: float, marking: Marking):
        self._path, self._size, self._begun, self._marking = path, size, begun, marking
        self._pictures: queue.Queue[tuple[np.ndarray, float] | None] = queue.Queue(_WAITING)
        self._ended = begun
        self._sound = tempfile.NamedTemporaryFile(suffix=".webm", dir=path.parent)
        self._sound_bytes, self._left_out = 0, 0
        self._result: Recorded | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._write, name="recording", daemon=True)
        self._thread.start()

    def add(self, image: np.ndarray, taken: float) -> None:
        """Add a picture (H, W, 3) uint8 RGB that follows the camera's at a time, s. It does not wait."""
        if taken - self._begun <= MAX_SECONDS:
            try:
                self._pictures.put_nowait((image, taken))
            except queue.Full:
                self._left_out += 1  # the picture before is shown longer

    def add_sound(self, data: bytes) -> None:
        """Add the next part of the sound, a WebM file as browsers record it."""
        self._sound_bytes += len(data)
        if self._sound_bytes <= MAX_SOUND:
            self._sound.write(data)

    def finish(self, ended: float) -> Recorded:
        """End the recording at a time, s by the camera's clock, and return it when the file is whole.

        Raises PortraitAnimError if it cannot be written.
        """
        self._ended = max(self._begun, min(ended, self._begun + MAX_SECONDS))
        self._sound.flush()
        while self._thread.is_alive():
            try:
                self._pictures.put(None, timeout=0.2)
                break
            except queue.Full:  # or the encoder has failed, and nobody takes them
                continue
        self._thread.join()
        with contextlib.suppress(FileNotFoundError):  # the folder has gone, which the writer has noticed
            self._sound.close()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def _write(self) -> None:
        marking = self._marking
        try:
            with VideoWriter(self._path, self._size, FPS, metadata=marking.tags, finish=marking) as writer:
                self._write_pictures(writer)
                writer.audio_from = self._sound.name if self._sound_bytes else None  # known only now
            warnings = [*writer.warnings, *marking.warnings]
            if self._sound_bytes and not writer.warnings and not probe(self._path).has_audio:
                warnings.append("The sound of the microphone could not be used; the recording has none.")
            if self._left_out:
                warnings.append(f"{self._left_out} pictures were left out: the video could not be written faster.")
            self._result = Recorded(self._path, float(writer.count / FPS), warnings)
        except PortraitAnimError as error:
            self._error = error
        except Exception as error:
            self._error = PortraitAnimError(f"The recording was lost ({type(error).__name__}: {error}); try again.")

    def _write_pictures(self, writer: VideoWriter) -> None:
        """Show each picture from its time on until the next one is there."""
        shown: np.ndarray | None = None
        while (item := self._pictures.get()) is not None:
            image, taken = item
            if shown is not None:
                self._hold(writer, shown, taken)
            if image.shape[1::-1] != self._size:  # another size was chosen meanwhile
                image = cv2.resize(image, self._size, interpolation=cv2.INTER_LINEAR)
            shown = image
        if shown is not None:
            self._hold(writer, shown, max(self._ended, self._begun + float(1 / FPS)))

    def _hold(self, writer: VideoWriter, image: np.ndarray, until: float) -> None:
        while self._begun + float(writer.count / FPS) < until - 1e-6:
            writer.write(image)
