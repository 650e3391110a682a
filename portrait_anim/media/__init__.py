"""Files on one side, arrays on the other: read photos, videos and cameras, and write videos."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "camera": ("open_camera", "record", "stop_on_interrupt"),
        "content": ("content_type",),
        "photo": ("fit_size", "load_photo"),
        "reading": ("FrameReader", "VideoInfo", "probe"),
        "writing": ("VideoWriter",),
    },
)
