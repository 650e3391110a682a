"""The adversaries of the generator.

FeatureCritic judges in meta-training of our own kind of model; the discriminator D in fine-tuning, and in
meta-training of the paper's kind.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .blocks import SLOPE, Encoder, LeanBlock, conv
from .config import PAPER, ModelConfig
from .paper import PaperBlock, PaperEncoder


class PatchHead(nn.Module):
    """Score each position of h (N, width, H, W) on its own, knowing the person (N, embedding): (N, 1, H, W)."""

    def __init__(self, width: int, embedding: int):
        super().__init__()
        self.conv = conv(width, width, spectral=True)
        self.score = conv(width, 1, 1, spectral=True)
        self.person = spectral_norm(nn.Linear(embedding, width))

    def forward(self, h: Tensor, person: Tensor) -> Tensor:
        """Return the scores of all positions."""
        v = F.leaky_relu(self.conv(F.leaky_relu(h, SLOPE)), SLOPE)
        return self.score(v) + (v * self.person(person)[:, :, None, None]).mean(1, keepdim=True)


class LocalCritic(nn.Module):
    """Score full-size crops around given places; that the drawing is cropped, too, tells what each of them shows."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.side = config.local_side
        self.encoder = Encoder(6, config.local_widths, config.local_unshuffle, spectral=True)
        self.head = PatchHead(config.local_widths[-1], config.embedding)

    def forward(self, x: Tensor, person: Tensor, centres: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Give scores (N K, 1, h, w), and the features behind them, of crops of x (N, 6, H, W).

        centres: (N, K, 2), x and y in px of x. Crops that would reach beyond the frame are moved into it.
        """
        each = centres.shape[1]
        features = self.encoder(crops(x.repeat_interleave(each, 0), centres.flatten(0, 1), self.side))
        return self.head(features[-1], person.repeat_interleave(each, 0)), features


class Discriminator(nn.Module):
    """Tell real frames from painted ones, given the drawing and the person; the losses are hinges, so no sigmoid.

    Both kinds of model have the score of the paper, <v, W_i + w0> + b for the whole frame. W_i is the row of training
    video i, which L_MCH pulls towards e. Ours adds a map of scores of the frame's patches, and one of full-size crops.
    n_videos: rows of W; without them persons are given as vectors, as in fine-tuning.
    """

    def __init__(self, config: ModelConfig, n_videos: int = 0):
        super().__init__()
        self.config = config
        self.paper = config.kind == PAPER
        width, n = config.critic_widths[-1], config.embedding
        if self.paper:
            self.encoder: nn.Module = PaperEncoder(6, config.critic_widths, config.size)
            self.final: nn.Module = PaperBlock(width, n)
        else:
            self.encoder = Encoder(6, config.critic_widths, config.critic_unshuffle, spectral=True)
            self.final = LeanBlock(width, n, "down", spectral=True)
        self.linear = spectral_norm(nn.Linear(n, 1))  # w0 and b
        # W, as rows; without spectral norm, for they must reach e; as short as an untrained e
        self.videos = nn.Embedding(n_videos, n, _weight=torch.randn(n_videos, n) / 11) if n_videos else None
        self.patch = None if self.paper else PatchHead(width, n)
        self.local = None if self.paper else LocalCritic(config)

    def forward(
        self, photo: Tensor, drawing: Tensor, person: Tensor, centres: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Give the scores, higher for real, and the features that feature matching compares.

        photo and drawing are (N, 3, H, W) in -1..1, sides in multiples of 32 px. person is W_i itself (N, embedding),
        or the numbers i of training videos (N,), integers. centres (N, K, 2), x and y in px, are where to look
        closely, for example at mouth and eyes; the discriminator of the paper ignores them. The scores are (N,), and
        for ours also (N, 1, h, w) of patches and, with centres, (N K, 1, h', w') of crops.
        """
        person = person if person.is_floating_point() else self.videos(person)
        x = torch.cat([photo, drawing], 1)
        features = self.encoder(x)
        features.append(self.final(features[-1]))
        v = F.relu(features[-1])
        v = v.sum((2, 3)) if self.paper else v.mean((2, 3))  # the size of the frame must not set its score
        scores = [(v * person).sum(1) + self.linear(v)[:, 0]]
        if self.patch is not None:
            scores.append(self.patch(features[-2], person))
        if self.local is not None and centres is not None:
            score, seen = self.local(x, person, centres)
            scores.append(score)
            features += seen
        return scores, features


class FeatureCritic(nn.Module):
    """Small heads that judge what frozen networks see of a picture, each knowing the landmark drawing.

    Such a critic is steady from the first steps on, because what it looks at is learned already ("Projected GANs
    Converge Faster", Sauer et al., NeurIPS 2021). Its scores are compared place by place with those of the true picture
    ("The relativistic discriminator", Jolicoeur-Martineau, ICLR 2019), so that only the difference counts.

    channels: of the feature maps. strides: of the two 3x3 convolutions of each head.
    """

    CHANNELS = (32, 24, 40, 32, 64, 128)  # ImageNetFeatures, and FaceNet without its first map
    STRIDES = ((2, 2), (1, 2), (1, 2), (1, 2), (1, 2), (1, 1))

    def __init__(self, channels=CHANNELS, strides=STRIDES, width: int = 64):
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                conv(c + 3, width, stride=first, slope=1),
                nn.LeakyReLU(SLOPE),
                conv(width, width, stride=second),
                nn.LeakyReLU(SLOPE),
                conv(width, 1, 1),
            )
            for c, (first, second) in zip(channels, strides)
        )
        self.register_buffer("scale", torch.zeros(len(channels)))  # of the maps' values, 0 while unknown

    @torch.no_grad()
    def calibrate(self, features: list[Tensor]) -> None:
        """Learn by what the maps must be divided so that their deviation is 1, from those of a batch."""
        self.scale.copy_(torch.stack([level.float().std() for level in features]))

    def forward(self, features: list[Tensor], drawing: Tensor) -> list[Tensor]:
        """Return a map of scores (N, 1, h, w) float32 for each map of features; drawing: (N, 3, H, W) in -1..1."""
        scores = []
        for head, level, scale in zip(self.heads, features, self.scale):
            lines = F.adaptive_avg_pool2d(drawing, level.shape[2:])
            x = torch.cat([level / scale.to(level.dtype), (2 * lines + 1).to(level.dtype)], 1)
            scores.append(head(x.contiguous(memory_format=torch.channels_last)).float())
        return scores


def crops(x: Tensor, centres: Tensor, side: int) -> Tensor:
    """Cut squares of `side` px out of x (N, C, H, W), each at whole pixels around its centre (N, 2), x and y in px.

    Squares that would reach beyond the frame are moved into it. Gradients pass to x, and nothing waits for the device.
    """
    frame = x.new_tensor([x.shape[3], x.shape[2]], dtype=torch.float32)
    corners = (centres.float() - side / 2).round().clamp(min=0).minimum(frame - side)
    steps = torch.arange(side, device=x.device) + 0.5
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)  # (side, side, 2) x, y
    grid = (corners[:, None, None] + offsets) * (2 / frame) - 1
    cut = F.grid_sample(x.float(), grid, mode="nearest", padding_mode="border", align_corners=False)
    return cut.contiguous(memory_format=torch.channels_last)
