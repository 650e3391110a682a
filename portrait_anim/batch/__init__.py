"""Make many videos in one run: the list of jobs, and the processes or machines that do them."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "jobs": ("Job",),
        "run": ("read_jobs", "run_batch"),
    },
)
