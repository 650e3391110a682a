"""The neural networks, their weights files, and the pretrained networks that measure how alike two pictures are."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "networks": ("Discriminator", "Embedder", "Generator", "ModelConfig", "Painting"),
        "weights": ("Weights", "find_default", "load", "save"),
    },
)
