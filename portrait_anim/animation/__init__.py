"""Animate one portrait by one driver: the whole way from the two files to one output."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "animator": ("Animator", "Result", "default_output"),
        "inputs": ("Progress",),
        "options": ("Options",),
    },
)
