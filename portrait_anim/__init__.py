"""portrait-anim: bring one portrait to life with the motion of a driver clip."""

from importlib.metadata import PackageNotFoundError, version

from .errors import InputError, OutputError, PortraitAnimError, UsageError

try:
    __version__ = version("portrait-anim")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

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


def __getattr__(name: str):
    """The library's classes are loaded when they are asked for: `import portrait_anim` stays quick."""
    if name in ("Animator", "Progress", "Result"):
        from . import animator

        return getattr(animator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
