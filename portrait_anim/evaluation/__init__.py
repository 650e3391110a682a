"""Measure how good the networks are on held-out people, and make reports and pictures of it."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "cross": ("evaluate_cross",),
        "reenactment": ("evaluate",),
    },
)
