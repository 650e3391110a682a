"""Serve a local web page that animates portraits."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "app": ("make_app", "serve"),
    },
)
