"""The paper's embedder E. In our own model the source encoder gives e, see source.py."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig
from .paper import PaperEncoder


class Embedder(nn.Module):
    """Give the vector e of the person on a photo (arXiv 1905.08233); 14.9 M parameters.

    The mean of e over several photos is the person. As in the paper, e is the sum over all positions of a ReLU, not
    the mean.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder = PaperEncoder(6, config.embedder_widths, config.size)

    def forward(self, photo: Tensor, drawing: Tensor) -> Tensor:
        """Give e (N, embedder_widths[-1]) of photos and their landmark drawings, both (N, 3, size, size) in -1..1."""
        return F.relu(self.encoder(torch.cat([photo, drawing], 1))[-1]).sum((2, 3))
