"""Make a photo ready to move: find its face, cut the crop that the networks see, separate person and background."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "checks": ("portrait_warnings",),
        "portrait": ("Portrait",),
        "source_video": ("portraits_of_video",),
    },
)
