"""Expand portraits and drivers to a list of jobs, and run the jobs one after the other.

A job is one call of `Animator.animate`. `animate` expands its arguments to jobs, `portrait-anim batch` reads them from
a file. Both run them in an order in which outputs share the reading of portraits and the tracking of drivers.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter

from ..animation.animator import Animator, Result, default_output
from ..animation.inputs import KEPT, Progress
from ..animation.options import Options
from ..animation.request import files_read
from ..errors import InputError, PortraitAnimError, UsageError
from ..media.reading import probe
from ..motion.source import DriverSource
from ..system.files import is_missing, is_picture, missing_folders, mode_of, pictures, pictures_pattern, preview_of

FIELDS = ("portrait", "driver", "number")  # that an output's template may have


@dataclass(frozen=True)
class Job:
    """One output to be made.

    options: further parameters of `Animator.animate`. make_folder: whether to create the output's folder. line: where
    the job stands in a list of jobs, from 1; 0 for a job that stands in none.
    """

    images: tuple[str, ...]
    driver: str
    output: str
    options: dict = field(default_factory=dict)
    make_folder: bool = False
    line: int = field(default=0, compare=False)

    @property
    def target(self) -> str:
        """The name of the file that the job writes: the output, or the preview of it."""
        return str(preview_of(self.output)) if self.options.get("preview") else self.output

    def missing_files(self) -> list[str]:
        """Return the names of the files that the job reads and that are not there."""
        files = files_read(self.images, DriverSource.of(self.driver), Options(**self.options))
        return [str(file) for file in files if is_missing(file)]


@dataclass
class Outcome:
    """What became of a job: its result, an error, or neither when it was skipped because the output exists.

    started: whether reading of a portrait began. Errors before that are about options and names.
    """

    job: Job
    result: Result | None = None
    error: PortraitAnimError | None = None
    started: bool = False

    def to_json(self) -> dict:
        """Return the object that `--json` prints and reports hold: always the same fields, named as the parameters."""
        result = self.result
        return {
            "images": list(self.job.images),
            "driver": self.job.driver,
            "output": str(result.output if result else Path(self.job.target).absolute()),
            "frames": result.frames if result else None,
            "fps": float(result.fps) if result else None,
            "size": list(result.size) if result else None,
            "timings": {stage: round(seconds, 3) for stage, seconds in result.timings.items()} if result else None,
            "warnings": result.warnings if result else [],
            "skipped": not result and not self.error,
            "error": str(self.error) if self.error else None,
            "exit_code": self.error.exit_code if self.error else 0,
        }


def expand(
    images: list[str],
    drivers: list[str],
    output: str | None = None,
    each: bool = False,
    options: dict | None = None,
) -> list[Job]:
    """Return the jobs of one command: every portrait with every driver.

    each: whether every image is a portrait of its own; otherwise all images show one person. output: a name, or with
    several outputs a folder or a template such as out/{portrait}-{driver}.mp4, where {number} counts from 1.

    Raises UsageError when a name is missing or two outputs would have the same name.
    """
    options = options or {}
    named = images or Options(**options).stand_ins()
    if not named or not drivers or any(str(name) == "" for name in (*named, *drivers)):
        raise UsageError("A portrait and a driver are needed, and neither name may be empty.")
    if options.get("save_person") and (each or len(drivers) > 1):
        raise UsageError("--save-person goes with one output; the others can then use --person.")
    if options.get("save_motion") and (each or len(drivers) > 1):
        raise UsageError("--save-motion goes with one output; the others can then use the file as --driver.")
    portraits = [(str(name),) for name in named] if each else [tuple(map(str, named))]
    pairs = [(portrait, str(driver)) for portrait in portraits for driver in drivers]
    several = each or len(drivers) > 1
    names = [name_output(output, *pair, n, several) for n, pair in enumerate(pairs, 1)]
    make = several or (output is not None and names[0] != str(output))
    jobs = [Job(pair[0] if images else (), pair[1], name, options, make) for pair, name in zip(pairs, names)]
    taken: set[str] = set()
    for job in jobs:
        check_new(job.target, taken)
    return jobs


def name_output(output: str | None, images: tuple[str, ...], driver: str, number: int, several: bool = True) -> str:
    """Return the name of one output: the template filled in, or a default name in the given folder.

    output: a name, a folder or a template; None for the default name. several: whether the command has several outputs,
    so that `output` cannot be the name of a single file. Raises UsageError when `output` cannot be used.
    """
    plain = default_output(images[0], driver)
    if output is None:
        return str(plain)
    values = {"portrait": Path(images[0]).stem[:100], "driver": Path(driver).stem[:100], "number": str(number)}
    try:
        parts = list(Formatter().parse(str(output)))
    except ValueError as error:
        raise UsageError(f"-o {output}: its braces do not match; write {{{{ and }}}} for braces themselves.") from error
    used = {name for _, name, _, _ in parts if name is not None}
    if unknown := sorted(used - set(FIELDS)):
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise UsageError(f"-o {output}: unknown field {{{unknown[0]}}}; use {known}.")
    if used:
        return str(output).format(**values)
    if not several:
        return str(output)
    if not str(output).endswith("/") and Path(output).suffix and not stat.S_ISDIR(mode_of(Path(output))):
        raise UsageError(
            f"-o {output}: one name for several outputs; give a folder, or a template such as "
            f"{{portrait}}-{{driver}}{Path(output).suffix}."
        )
    return str(Path(output) / plain)


def check_new(name: str, taken: set[str]) -> None:
    """Add the name of an output to the names that are taken. Raises UsageError when it is one of them already."""
    key = os.path.normcase(os.path.abspath(name))
    if key in taken:
        raise UsageError(f"{name}: would be written twice; give -o a template, {{number}} makes every name differ.")
    taken.add(key)


def by_driver(jobs: list[Job], block: int = 1) -> list[list[Job]]:
    """Return the jobs in groups of `block` drivers each, sorted by portrait within a group.

    In this order the portraits and drivers that were read last are used again.
    """
    drivers = {driver: n for n, driver in enumerate(dict.fromkeys(job.driver for job in jobs))}
    portraits = {images: n for n, images in enumerate(dict.fromkeys(job.images for job in jobs))}
    groups: dict[int, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: (portraits[job.images], drivers[job.driver])):
        groups.setdefault(drivers[job.driver] // block, []).append(job)
    return [groups[n] for n in sorted(groups)]


def run_jobs(
    jobs: list[Job],
    animator: Animator,
    skip_existing: bool = False,
    progress: Callable[[Job, Progress], None] = lambda job, progress: None,
) -> Iterator[Outcome]:
    """Run jobs one by one and yield what became of each. An error ends only its own job.

    Each driver is tracked once. Each portrait is read once if there are no more than KEPT drivers.
    """
    for group in by_driver(jobs, KEPT):
        for job in group:
            yield run_job(job, animator, skip_existing, lambda step, job=job: progress(job, step))


def run_job(
    job: Job,
    animator: Animator,
    skip_existing: bool = False,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Run one job and return its outcome.

    skip_existing: whether to skip the job if its output is there and whole. A broken output is replaced only with the
    option `force`.
    """
    outcome = Outcome(job)

    def note(step: Progress) -> None:
        outcome.started = True
        progress(step)

    made: list[Path] = []
    try:
        if skip_existing and is_whole(job.target):
            return outcome
        if job.make_folder:
            made = _make_folders(Path(job.output))
        outcome.result = animator.animate(list(job.images), job.driver, job.output, **job.options, progress=note)
    except PortraitAnimError as error:
        outcome.error = error
    finally:
        if outcome.result is None:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()
    return outcome


def is_whole(output: str) -> bool:
    """Return whether an output is there and can be read.

    An output gets its name only when it is complete, but it may have been damaged since: disks fill and copies break
    off.
    """
    try:
        pattern = pictures_pattern(output)
        if pattern is not None and not is_picture(pattern):
            return bool(pictures(pattern))
        if not stat.S_ISREG(mode_of(Path(output))):
            return False
        probe(output)
    except (InputError, OSError, ValueError):
        return False
    return True


def _make_folders(output: Path) -> list[Path]:
    """Create the folders of an output if possible, and return those that were missing, innermost first."""
    folder = output.absolute().parent
    missing = missing_folders(folder)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return missing
