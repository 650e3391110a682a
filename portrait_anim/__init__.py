"""portrait-anim: bring one portrait to life with the motion of a driver clip.

What takes time to load is loaded when it is first used: `import portrait_anim` stays quick.
"""

from typing import TYPE_CHECKING, Any

from .errors import InputError, OutputError, PortraitAnimError, UsageError
from .system.lazy import lazy_exports

if TYPE_CHECKING:
    from .animation.animator import Animator, Result
    from .animation.inputs import Progress

__all__ = [
    "Animator",
    "InputError",
    "OutputError",
    "PortraitAnimError",
    "Progress",
    "Result",
    "UsageError",
    "__version__",
]

_from_animation = lazy_exports(__name__, {"animation": ("Animator", "Progress", "Result")})[0]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("portrait-anim")
        except PackageNotFoundError:  # run from a checkout that is not installed
            return "0+unknown"
    return _from_animation(name)
