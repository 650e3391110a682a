"""The options of `Animator.animate`, and so of the `animate` command: their names, defaults and possible values."""

from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import UsageError, unknown
from ..landmarks.tracking import check_tracker
from ..motion.options import MotionOptions
from ..motion.timeline import check_timeline
from ..provenance.marks import check_signing

MAX_SHOTS = 32  # frames of a source video
BACKGROUNDS = ("still", "warp")
FINETUNE_SECONDS = (5.0, 3600.0)  # the shortest and the longest fine-tuning that may be asked for


@dataclass(frozen=True)
class Options(MotionOptions):
    """The options of an animation; those of the motion itself are inherited from `MotionOptions`.

    `animate --help` explains each of them. save_motion, save_person: files to write beside the output. preview: whether
    to make only a contact sheet of a few frames, OUTPUT.preview.png. finetune: "auto", "off" or seconds. person: a file
    that save_person wrote before. source_video: a video of which `shots` frames are used as photos, after those given
    or alone.
    """

    force: bool = False
    face: int = 1
    driver_face: int = 1
    tracker: str = "auto"
    speed: float = 1.0
    pingpong: bool = False
    loop: int = 1
    save_motion: str | Path | None = None
    start: float | None = None
    end: float | None = None
    fps: float | None = None
    max_size: int = 1280
    background: str = "still"
    teeth: bool = True
    audio: bool = True
    crf: int = 18
    compare: bool = False
    preview: bool = False
    show_mesh: bool = False
    finetune: str | float = "auto"
    seed: int = 0
    save_person: str | Path | None = None
    person: str | Path | None = None
    source_video: str | Path | None = None
    shots: int = 8
    label: bool = False
    private: bool = False
    sign_cert: str | Path | None = None
    sign_key: str | Path | None = None

    @property
    def retimed(self) -> bool:
        """Whether the driver's frames are shown otherwise than one after the other, once."""
        return self.speed != 1 or self.pingpong or self.loop > 1

    @property
    def needs_networks(self) -> bool:
        """Whether a person is to be tuned, saved or loaded, which the warp alone cannot do."""
        return self.person is not None or self.save_person is not None or self.finetune not in ("auto", "off")

    def stand_ins(self) -> list[str | Path]:
        """Return the files that replace photos: the source video and the person file, as far as they are given."""
        return [path for path in (self.source_video, self.person) if path is not None]

    def checked(self, images: list[Path]) -> "Options":
        """Return these options in their final form, checked against each other and against the given photos.

        Nothing is read from disk. Raises UsageError for a value or a combination that is impossible.
        """
        self.check()
        check_tracker(self.tracker)
        check_timeline(self.speed, self.loop)
        if not 16 <= self.max_size <= 8192:
            raise UsageError(f"--max-size {self.max_size} is out of range; choose 16 to 8192 px.")
        if not 0 <= self.crf <= 51:
            raise UsageError(f"--crf {self.crf} is out of range; choose 0 (lossless) to 51 (worst).")
        if self.background not in BACKGROUNDS:
            raise unknown("--background", self.background, BACKGROUNDS)
        if self.face < 1 or self.driver_face < 1:
            raise UsageError("Faces are counted from 1, the largest.")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed} is impossible; choose 0 or more.")
        if not 1 <= self.shots <= MAX_SHOTS:
            raise UsageError(f"--shots {self.shots} is out of range; choose 1 to {MAX_SHOTS} frames.")
        if self.shots != Options.shots and self.source_video is None:
            raise UsageError("--shots has no meaning without --source-video; leave it out.")
        check_signing(self.sign_cert, self.sign_key)
        finetune = check_finetune(self.finetune)
        if self.person is not None:
            if images or self.source_video is not None:
                raise UsageError("--person stands for the photos it was made of; give either it or photos.")
            if self.save_person is not None or finetune not in ("auto", "off"):
                raise UsageError("--person is ready: to fine-tune or to save one, give the photos.")
        return replace(self, finetune=finetune, only=tuple(self.only))


def check_finetune(finetune: str | float) -> str | float:
    """Return "auto", "off" or the number of seconds that the option asks for. Raises UsageError."""
    if finetune in ("auto", "off"):
        return finetune
    low, high = FINETUNE_SECONDS
    try:
        seconds = float(finetune)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not low <= seconds <= high:
        raise UsageError(
            f"--finetune {str(finetune)[:60]} is not possible; choose auto, off, or {low:g} to {high:g} seconds."
        )
    return seconds
