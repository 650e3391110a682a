"""Let a package export names of its modules without importing those modules before they are needed (PEP 562)."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, exports: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the `__getattr__`, `__dir__` and `__all__` of a package whose exports are imported at their first use.

    package: the package's `__name__`. exports: for each module of the package the names in it that others may use.
    A name must not be that of a module of the package, because Python would find the module instead.

        __getattr__, __dir__, __all__ = lazy_exports(__name__, {"mesh": ("HeadMesh", "rasterise")})
    """
    module_of = {name: module for module, names in exports.items() for name in names}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{module_of[name]}"), name)

    names = sorted(module_of)
    return get, lambda: names, names
