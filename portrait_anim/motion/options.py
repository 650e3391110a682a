"""The options that say how the driver's motion is transferred."""

from dataclasses import dataclass, fields

from ..errors import UsageError, unknown

MOTIONS = ("relative", "absolute")
PARTS = ("head", "face", "eyes", "lips")


@dataclass(frozen=True)
class MotionOptions:
    """How the driver's motion is transferred. The names and defaults are those of `Animator.animate`.

    motion: "relative" transfers the changes from the reference frame; "absolute" transfers the driver's own turn of the
    head, and its expression as the change from its most neutral frame. strength: factor for all motion, 0 to 3.
    head_strength, eyes_strength (with lids and brows), lips_strength (with the jaw): further factors. only: any of
    PARTS, empty for all. mirror: whether the portrait moves as the driver's mirror image. max_turn: degrees that the
    head may turn, as limit for `soft_limit`. smooth: whether the motion is smoothed over time. reference_frame: the
    frame of the driver that stands for the portrait as it is, None for the one that suits best.
    """

    motion: str = "relative"
    strength: float = 1.0
    head_strength: float = 1.0
    eyes_strength: float = 1.0
    lips_strength: float = 1.0
    only: tuple[str, ...] = ()
    mirror: bool = False
    max_turn: float = 40.0
    smooth: bool = True
    reference_frame: int | None = None

    def check(self) -> None:
        """Raise UsageError for values that are unknown or out of range."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool) and not isinstance(value, bool):
                raise UsageError(f"{field.name}={value!r:.60} is neither True nor False; give one of them.")
        if self.motion not in MOTIONS:
            raise unknown("--motion", self.motion, MOTIONS)
        if odd := [part for part in self.only if part not in PARTS]:
            raise unknown("--only", odd[0], PARTS)
        for name in ("strength", "head_strength", "eyes_strength", "lips_strength"):
            if not 0 <= (value := getattr(self, name)) <= 3:
                option = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{option} {value:g} is out of range; choose 0 (no motion) to 3, 1 is the driver's own."
                )
        if not 1 <= self.max_turn <= 90:
            raise UsageError(f"--max-turn {self.max_turn:g} is out of range; choose 1 to 90 degrees.")
        if self.reference_frame is not None and self.reference_frame < 0:
            raise UsageError(f"--reference-frame {self.reference_frame} is impossible; frames are counted from 0.")

    @property
    def moves_head(self) -> bool:
        """Whether the motion of the head is transferred, and not only that of the face."""
        return not self.only or "head" in self.only
