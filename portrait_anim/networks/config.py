"""The numbers that it takes to build the networks."""

from __future__ import annotations

from dataclasses import dataclass, fields

FEATURE_WARP = "feature-warp"  # ours: features of the photos are carried by the warp that carries their pixels
PAPER = "paper"  # that of Zakharov et al., which paints the whole picture from the landmark drawing
KINDS = (FEATURE_WARP, PAPER)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that sets the shapes of the networks. It is kept as JSON in the weights file; the defaults are ours.

    Values are checked when it is made, because they come out of files that nobody vouches for: a ValueError names
    the first field that is of another type, or would build something absurd.
    """

    kind: str = FEATURE_WARP
    size: int = 512  # px, the side of the frame; the generator also takes any box of it, see Generator
    embedding: int = 256  # length of e
    in_channels: int = 13  # of the generator: warped photo 3, drawing 3, maps 6, warped matte 1; the paper: drawing 3
    unshuffle: int = 4  # 4x4 pixels become channels: the generator and the source encoder work on 128x128 at most
    widths: tuple[int, ...] = (32, 64, 128, 256)  # channels of the generator at 128, 64, 32 and 16 px
    middle: int = 2  # blocks of the generator at its coarsest level
    max_flow: float = 32.0  # px, the largest correction of the warp
    feature_widths: tuple[int, ...] = (16, 48, 96)  # channels of the carried features at 128, 64 and 32 px
    source_widths: tuple[int, ...] = (48, 96, 192, 256)  # channels of the source encoder at 128, 64, 32 and 16 px
    embedder_widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512)  # of the paper's embedder; ours has none
    critic_widths: tuple[int, ...] = (64, 128, 256)  # channels of the critic of the whole frame
    critic_unshuffle: int = 4
    local_widths: tuple[int, ...] = (48, 96, 192)  # channels of the critic of crops
    local_unshuffle: int = 2
    local_side: int = 112  # px, the side of these crops: a mouth, or an eye with its brow

    @classmethod
    def paper(cls) -> ModelConfig:
        """The paper's model (arXiv 1905.08233): E has 14.9 M parameters, G with P 38.1 M, D 19.6 M; 47 GMAC a frame.

        Its encoders begin with the pixels as they are, so that nothing here about unshuffling, features or crops is
        used.
        """
        widths = (64, 128, 256, 512)
        return cls(PAPER, 256, 512, in_channels=3, widths=widths, middle=4, critic_widths=(*widths, 512, 512))

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind cannot be {self.kind!r}")
        for field in fields(self)[1:]:
            value, default = getattr(self, field.name), field.default
            if isinstance(default, tuple) and isinstance(value, list):  # JSON has no tuples
                object.__setattr__(self, field.name, value := tuple(value))
            numbers = value if isinstance(value, tuple) else (value,)
            lowest = 0 if field.name == "middle" else 1
            good = type(value) is type(default) and 1 <= len(numbers) <= 10
            if not good or not all(type(n) in (int, float) and lowest <= n <= 4096 for n in numbers):
                raise ValueError(f"{field.name} cannot be {value!r}")
        if self.kind == FEATURE_WARP:
            for name, length in (("feature_widths", len(self.widths) - 1), ("source_widths", len(self.widths))):
                if len(getattr(self, name)) != length:
                    raise ValueError(f"{name} cannot be {getattr(self, name)!r} beside {len(self.widths)} widths")

    @property
    def stride(self) -> int:
        """The px that one position of our generator's coarsest level spans: boxes come in multiples of this."""
        return self.unshuffle << len(self.widths) - 1
