"""Where both commands begin, before anything that takes time is imported."""

import signal


def animate() -> None:
    """The `animate` command, and `python -m portrait_anim`."""
    _end_quietly_on_interrupt()
    from .commands.animate import main

    main()


def tools() -> None:
    """The `portrait-anim` command."""
    _end_quietly_on_interrupt()
    from .commands.tools import main

    main()


def _end_quietly_on_interrupt() -> None:
    """Until `console.run` takes over there is nothing to clean up, and a traceback of an import helps nobody."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored: nohup, background jobs
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    animate()
