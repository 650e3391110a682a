"""What the program needs from the operating system: files, threads, signals, helper processes and the network.

Output files appear only when they are whole.
"""

from .lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "files": ("atomic_write", "check_file", "check_output", "temporary_file", "temporary_folder", "write_whole"),
        "helper_process": ("can_run_helper", "run_in_helper"),
        "lazy": ("lazy_exports",),
        "network": ("foreign_request", "is_loopback", "listen", "shown_name"),
        "quiet": ("quiet_python", "quiet_stderr"),
        "sequences": ("ArrayFile", "block_ranges", "blocks", "by_blocks"),
        "signals": ("raise_on", "signals_deferred"),
        "threads": ("cores", "gc_paused", "single_threaded_libraries"),
    },
)
