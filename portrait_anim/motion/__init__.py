"""The motion of a driver, and how it becomes motion of the portrait: read it, retarget it, time it."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "builtin": ("NAMES", "make_motion"),
        "causal": ("CausalRetargeter",),
        "drivers": ("Driver", "load_driver"),
        "file": ("check_motion_output", "load_motion", "save_motion"),
        "options": ("MotionOptions",),
        "retarget": ("Retargeter",),
        "source": ("DriverKind", "DriverSource", "kind_of"),
        "timeline": ("Timeline", "check_timeline"),
    },
)
