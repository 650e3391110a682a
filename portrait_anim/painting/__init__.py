"""The networks at work on one person: what they paint, and how it is composed with the warped photo."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "painter": ("Encoding", "Painter"),
        "person": ("Person",),
        "renderer": ("Renderer", "Square"),
    },
)
