"""A photo made ready to move: the person's face in it, the crop that the networks see, person and background apart."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "checks": ("portrait_warnings",),
        "portrait": ("Portrait",),
        "source_video": ("portraits_of_video",),
    },
)
