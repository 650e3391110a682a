"""The camera moves the portrait, live: the engine, the page in the browser, the window and the virtual camera."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "screens": ("VirtualCamera", "Window", "show_live"),
        "server": ("make_app", "serve"),
        "session": ("LiveSession", "Picture", "Status"),
        "sizes": ("Pace", "RenderersBySize"),
    },
)
