"""portrait-anim: bring one portrait to life with the motion of a driver clip."""

from .errors import InputError, OutputError, PortraitAnimError, UsageError

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
    """What takes time to load is loaded when it is asked for: `import portrait_anim` stays quick."""
    if name in ("Animator", "Progress", "Result"):
        from .animation import animator

        return getattr(animator, name)
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("portrait-anim")
        except PackageNotFoundError:  # run from a checkout that is not installed
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
