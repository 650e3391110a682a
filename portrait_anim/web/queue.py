"""The queue behind the web page: one job runs at a time, a few wait, and their files are deleted afterwards."""

import logging
import re
import secrets
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..animation.animator import Animator, Result
from ..animation.inputs import Progress
from ..errors import PortraitAnimError
from ..system.files import temporary_folder

MAX_WAITING = 4  # jobs that may wait beside the one that runs
MAX_KEPT = 8  # finished jobs whose videos are kept
KEEP_SECONDS = 1800.0  # how long the video of a finished job is kept, unless deleted before
ABANDONED_SECONDS = 180.0  # without a request: the page was closed (a hidden page asks once a minute)


class QueueFull(PortraitAnimError):
    """Raised when so many jobs are waiting that no further one is taken."""


class _Cancelled(Exception):
    """Raised in the progress callback, to leave `Animator.animate`."""


@dataclass
class Job:
    """A portrait to be animated.

    folder: the job's own folder, with the uploads and later the video. state: "waiting", "running", "done", "failed" or
    "cancelled". message: one sentence that says why the job failed.
    """

    id: str
    folder: Path
    portrait: Path
    driver: Path | str
    options: dict
    state: str = "waiting"
    step: Progress = Progress("portrait", 0, None)
    message: str = ""
    result: Result | None = None
    seen: float = field(default_factory=time.monotonic)
    changed: float = field(default_factory=time.monotonic)  # when stage or state last changed
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def ended(self) -> bool:
        """Whether the job is done, has failed or was cancelled."""
        return self.state in ("done", "failed", "cancelled")

    def seconds_left(self) -> float | None:
        """Return the estimated seconds until the current stage ends, None while too little of it is done to tell."""
        if self.state != "running" or self.step.done < 5 or not self.step.total:
            return None
        return (time.monotonic() - self.changed) / self.step.done * max(0, self.step.total - self.step.done)


class Jobs:
    """A queue with a thread that runs the jobs one after the other, and a folder for their files.

    `close` must be called at the end.
    """

    def __init__(self, animator: Animator):
        self._animator = animator
        self._jobs: dict[str, Job] = {}  # in the order in which they came
        self._changed = threading.Condition()
        self._closed = False
        self._folder = temporary_folder()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def new_folder(self) -> Path:
        """Create a folder for the uploads of one job and return it. Raises QueueFull."""
        with self._changed:
            self._check_room()
        return Path(tempfile.mkdtemp(dir=self._folder.name))

    def add(self, folder: Path, portrait: Path, driver: Path | str, options: dict) -> Job:
        """Queue a job whose files are in `folder`, made by `new_folder`, and return it. Raises QueueFull."""
        job = Job(secrets.token_urlsafe(16), folder, portrait, driver, options)
        with self._changed:
            self._check_room()
            self._jobs[job.id] = job
            self._changed.notify()
        return job

    def get(self, id: str) -> Job | None:
        """Return the job with an id, None when there is none (any more)."""
        with self._changed:
            job = self._jobs.get(id)
            if job:
                job.seen = time.monotonic()
            return job

    def position(self, job: Job) -> int:
        """Return how many jobs are to be done before this one."""
        with self._changed:
            ids = [j.id for j in self._jobs.values() if not j.ended]
            return ids.index(job.id) if job.id in ids else 0

    def remove(self, job: Job) -> None:
        """Cancel a job if it is not done yet, and delete its files."""
        with self._changed:
            job.cancel.set()
            if job.state != "running":  # else the worker deletes it when it has stopped
                self._forget(job)

    def close(self) -> None:
        """Stop the running job and delete all files."""
        with self._changed:
            self._closed = True
            for job in self._jobs.values():
                job.cancel.set()
            self._changed.notify()
        self._thread.join(timeout=10)
        self._folder.cleanup()

    def _check_room(self) -> None:
        waiting = sum(job.state == "waiting" for job in self._jobs.values())
        if waiting >= MAX_WAITING:
            raise QueueFull(f"{waiting} jobs are waiting already; try again when one of them is done.")

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._clean_up()
                job = next((job for job in self._jobs.values() if job.state == "waiting"), None)
                if self._closed:
                    return
                if job is None:
                    self._changed.wait(timeout=30)  # cleans up at least every 30 s
                    continue
                job.state, job.changed = "running", time.monotonic()
            state, message = self._run(job)
            with self._changed:
                job.state, job.message, job.changed = state, message, time.monotonic()
                for upload in {job.portrait, job.driver}:
                    if isinstance(upload, Path) and upload.is_relative_to(job.folder):
                        upload.unlink(missing_ok=True)
                if job.cancel.is_set():
                    self._forget(job)

    def _clean_up(self) -> None:
        now = time.monotonic()
        for job in list(self._jobs.values()):
            if job.state == "waiting" and now - job.seen > ABANDONED_SECONDS:
                self._forget(job)
            if job.ended and now - job.changed > KEEP_SECONDS:
                self._forget(job)
        for job in [job for job in self._jobs.values() if job.ended][:-MAX_KEPT]:
            self._forget(job)

    def _run(self, job: Job) -> tuple[str, str]:
        """Run a job. Return the state in which it ends, and a sentence that says why if it failed."""

        def progress(step: Progress) -> None:
            if job.cancel.is_set() or time.monotonic() - job.seen > ABANDONED_SECONDS:
                raise _Cancelled
            if step.stage != job.step.stage:
                job.changed = time.monotonic()
            job.step = step

        try:
            output = job.folder / "result.mp4"
            job.result = self._animator.animate([job.portrait], job.driver, output, progress=progress, **job.options)
            return "done", ""
        except _Cancelled:
            return "cancelled", ""
        except PortraitAnimError as error:
            return "failed", self.sentence(error, job.folder)
        except Exception as error:
            logging.getLogger(__name__).exception("job failed")
            kind = type(error).__name__
            return "failed", f"This should not happen ({kind}: {error}); the terminal of the server says more."

    @staticmethod
    def sentence(text: object, folder: Path) -> str:
        """Return an error or warning without the server's folder, so that files have the names that the user knows."""
        return re.sub(re.escape(str(folder)) + r"/(portrait/|clip/)?", "", str(text))
