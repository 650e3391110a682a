"""What `prepare` and `meta-train` show on the terminal."""

import time
from pathlib import Path

from rich.console import Console

from .console import duration, say


class PrepareDisplay:
    """Shows on stderr what became of each video; in a terminal below that a bar, elsewhere the time left in each line.

    The time left is estimated by bytes of videos.
    """

    def __init__(self) -> None:
        self._begin, self._before = time.monotonic(), None
        self._console, self._bars, self._task = Console(stderr=True), None, None

    def __enter__(self) -> "PrepareDisplay":
        if self._console.is_terminal:
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            columns = (TextColumn("Preparing"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self._bars = Progress(*columns, console=self._console, refresh_per_second=5, redirect_stdout=False)
            self._bars.start()
        return self

    def __exit__(self, *exc) -> None:
        if self._bars:
            self._bars.stop()

    def __call__(self, report: dict, done: int, total: int) -> None:
        """Show a report of `training.prepare`, of which `done` of `total` bytes are done."""
        lost = ", ".join(f"{count} {reason}" for reason, count in report["rejected"].items())
        kept = f"kept {report['kept']} frames in {len(report['shards'])} shards" if report["kept"] else "nothing kept"
        if not report["kept"] and set(report["rejected"]) == {"no face"}:
            lost = "all of it, no face was found"
        said = report["error"] or kept + (f"; left out: {lost}" if lost else "")
        line = f"{Path(report['video']).name}: {said}"
        if self._bars:
            self._task = self._bars.add_task("", total=total) if self._task is None else self._task
            self._bars.update(self._task, completed=done)
            self._console.print(line, highlight=False, markup=False)
            return
        elapsed, self._before = time.monotonic() - self._begin, done if self._before is None else self._before
        fresh = done - self._before
        left = f" (about {duration((total - done) * elapsed / fresh)} left)" if fresh and done < total else ""
        say(f"[{100 * done // total} %] {line}{left}")
