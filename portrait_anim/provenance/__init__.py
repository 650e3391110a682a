"""Say in every output that it is synthetic, sign it, and read from a file what it says about its making."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "marks": ("Marking", "labelled"),
        "signing": ("Identity", "load_identity", "own_identity"),
        "verify": ("Report", "verify_file"),
    },
)
