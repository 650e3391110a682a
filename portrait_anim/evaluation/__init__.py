"""Measures on held-out people, with reports and pictures of them.

reenactment  one person's clip from its own first frame: `portrait-anim evaluate`
cross        one person's clip drives another's portrait: `portrait-anim evaluate --cross`
pairs        which frames are reenacted from which
meter        measures of a picture against its target, at 256 px
motion       measures of the motion that is found again
"""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "cross": ("evaluate_cross",),
        "reenactment": ("evaluate",),
    },
)
