"""Run thousands of jobs from a file, with a report that lets the next run continue where this one stopped."""

import csv
import json
import os
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from ..animation.options import Options
from ..animation.request import check_inputs
from ..errors import InputError, InputErrors, OutputError, PortraitAnimError, UsageError, unknown
from ..networks.devices import check_device, check_precision
from ..networks.weights import check_file
from ..system.files import check_output_name
from ..system.threads import cores
from .jobs import Job, Outcome, check_new, is_whole, name_output
from .workers import Cluster, LocalWorker, RayWorker, distribute

LISTS = ";"  # between the values of a list in a CSV cell
MOST_SAID = 10  # sentences in the error about a job file, and names in that about missing files
_COLUMNS = {"images": list[str | Path], "driver": str | Path, "output": str | Path} | typing.get_type_hints(Options)


# ---------------------------------------------------------------- the job file


def read_jobs(path: str | Path, output: str | None = None, force: bool = False) -> list[Job]:
    """Read the jobs of a CSV file with a header, or of JSON lines; columns are named as the parameters of `animate`.

    Every job needs a driver, and images, person or source_video. An empty cell means the default. Lists (images, only)
    are JSON lists, in CSV values separated by ";". Paths are relative to the current folder. output: a folder or
    template for jobs without an output of their own.

    Raises InputError before any work is done; it tells of every line that cannot be used, at most MOST_SAID of them.
    Raises UsageError when `output` is impossible.
    """
    name_output(output, ("portrait.jpg",), "driver.mp4", 1)
    jobs, taken = [], set()
    wrong: dict[str, list[int]] = {}  # the sentence about a fault: the lines that have it
    for number, (line, row) in enumerate(_rows(Path(path)), 1):
        try:
            job = _job(_object(row) if isinstance(row, str) else row, line, number, output, force)
            check_new(job.target, taken)
            jobs.append(job)
        except PortraitAnimError as error:
            wrong.setdefault(str(error), []).append(line)
    if wrong:
        said = [f"{path} {_lines(lines)}: {text}" for text, lines in wrong.items()]
        if len(said) > MOST_SAID:
            said[MOST_SAID - 1 :] = [f"{path}: {len(said) - MOST_SAID + 1} more faults in other lines."]
        raise InputErrors(said)
    if not jobs:
        raise InputError(f"{path}: holds no jobs; give a header with images and driver, and a line per job.")
    return jobs


def _job(row: dict, line: int, number: int, output: str | None, force: bool) -> Job:
    """Return the job of one line."""
    if None in row:
        raise InputError("has more cells than there are columns; put cells with a comma in quotes, and ; in lists.")
    if others := [name for name in row if name not in _COLUMNS]:
        raise unknown("column", others[0], _COLUMNS)
    filled = {name: value for name, value in row.items() if value not in ("", None)}
    values = {"force": force} | {name: _convert(name, value, _COLUMNS[name]) for name, value in filled.items()}
    images, driver, own = tuple(values.pop("images", ())), values.pop("driver", ""), values.pop("output", None)
    options = Options(**values)
    photos = images or options.stand_ins()
    if missing := [name for name, value in (("images", photos), ("driver", driver)) if not value]:
        raise InputError(f"{missing[0]} is missing; every job needs images and a driver.")
    source, _ = check_inputs([Path(image) for image in images], driver, options)
    name = name_output(own or output, tuple(map(str, photos)), driver, number, several=own is None)
    check_output_name(name, picture=options.preview or source.kind == "image")
    return Job(images, driver, name, values, make_folder=True, line=line)


def _lines(lines: list[int]) -> str:
    if len(lines) == 1:
        return f"line {lines[0]}"
    some = ", ".join(map(str, lines[:8]))
    return f"lines {some}{f' and {len(lines) - 8} more' if len(lines) > 8 else ''}"


def _rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    """Yield the line number of every job, with its cells or the text of its line of JSON."""
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise InputError(f"{path}: jobs are read from .csv or .jsonl (JSON lines); name such a file.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file, strict=True)
                for row in reader:
                    yield reader.line_num, row
                return
            for line, text in enumerate(file, 1):
                if text.strip():
                    yield line, text
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read as a list of jobs ({reason}); check the file.") from error


def _object(text: str) -> dict:
    try:
        row = json.loads(text.rstrip())
    except (ValueError, RecursionError) as error:
        known = isinstance(error, json.JSONDecodeError)
        reason = f"{error.msg.removesuffix(' at')} at column {error.colno}" if known else error
        raise InputError(f"is no JSON ({reason}); write {{...}} with animate's parameters.") from error
    if not isinstance(row, dict):
        raise InputError("is no JSON object; write {...} with animate's parameters.")
    return row


def _convert(name: str, value, hint):
    """Return the value of a cell, converted to the type of its parameter."""
    if isinstance(hint, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    origin = typing.get_origin(hint)
    if origin in (list, tuple):
        items = value if isinstance(value, list) else str(value).split(LISTS)
        return origin(str(item).strip() for item in items)
    if isinstance(value, list | dict):
        raise InputError(f"{name} is a list; it must be one value, and every output a line of its own.")
    text = str(value).strip()
    try:
        if hint is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        return hint(text) if hint in (int, float) else text
    except (KeyError, ValueError) as error:
        meant = {bool: "true or false", int: "a whole number"}.get(hint, "a number")
        raise InputError(f"{name} is {text[:60]!r}; it must be {meant}.") from error


# ---------------------------------------------------------------- the report


def read_report(path: Path) -> dict[str, dict]:
    """Read the last entry of every output from a report. Half a line, left by an interrupted run, is skipped."""
    entries = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                entries[entry["output"]] = entry
            except (ValueError, TypeError, KeyError):
                continue
    return entries


def is_done(job: Job, entries: dict[str, dict]) -> bool:
    """Return whether the report lists a job as done and its output still has the recorded size.

    Comparing sizes spares opening thousands of videos.
    """
    entry = entries.get(str(Path(job.target).absolute()), {})
    try:
        return not entry.get("error") and entry.get("bytes") == os.path.getsize(job.target)
    except OSError:
        return False


def report_entry(outcome: Outcome) -> dict:
    """Return the entry of a report: what `--json` prints, and the size of the output's file in bytes."""
    entry = outcome.to_json()
    output = Path(entry["output"])
    entry["bytes"] = output.stat().st_size if not outcome.error and output.is_file() else None
    return entry


# ---------------------------------------------------------------- the run


def run_batch(
    jobs: list[Job],
    report: str | Path,
    *,
    workers: int | None = None,
    threads: int | None = None,
    retries: int = 2,
    keep_going: bool = False,
    ray: str | None = None,
    weights: str | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Iterator[Outcome]:
    """Run jobs and yield their outcomes as they come. Each is added to the report, a file of JSON lines.

    Outputs that are there and whole are skipped, unless the job has the option `force`. The parameters are the options
    of `portrait-anim batch`. Raises InputError before the first job starts if files of any job are missing; with
    `keep_going` such a job fails alone, unless its files are there when its turn comes. Raises PortraitAnimError for
    other faults that concern all jobs.
    """
    check_device(device)
    check_precision(precision)
    if any(n is not None and n < 1 for n in (workers, threads)) or retries < 0:
        raise UsageError("--workers and --threads must be 1 or more, --retries 0 or more.")
    report = Path(report)
    entries = read_report(report)
    done = [not job.options.get("force") and is_done(job, entries) for job in jobs]
    todo = [job for job, is_there in zip(jobs, done) if not is_there]
    if todo and weights is not None:
        check_file(weights)
    if not keep_going:
        check_files(todo)
    yield from (Outcome(job) for job, is_there in zip(jobs, done) if is_there)
    if not todo:
        return
    cluster = None
    if ray is not None:
        threads = threads or 2
        cluster = Cluster(ray)
        workers = workers or cluster.places(threads)
    else:
        workers = workers or max(1, cores() // 2)
        threads = threads or max(1, cores() // workers)
    settings = dict(weights=weights, device=device, precision=precision, threads=threads)
    start = (lambda: RayWorker(settings, cluster)) if cluster else (lambda: LocalWorker(settings))
    check = cluster.check if cluster else lambda: None
    _append(report, "\n" if _is_cut(report) else "")
    for outcome in distribute(todo, start, workers, retries, check):
        _append(report, json.dumps(report_entry(outcome), ensure_ascii=False) + "\n")
        yield outcome


def check_files(jobs: list[Job]) -> None:
    """Raise InputError, with their names and the lines of their jobs, if any files that the jobs read are missing.

    Jobs that stand in no list have no lines. A job whose output is there already needs none.
    """
    lines: dict[str, list[int]] = {}
    for job in jobs:
        missing = job.missing_files()
        if missing and (job.options.get("force") or not is_whole(job.target)):
            for name in dict.fromkeys(missing):
                lines.setdefault(name, []).append(job.line)
    if lines:
        said = [f"{name} ({_lines(of_name)})" if any(of_name) else name for name, of_name in lines.items()]
        if len(said) > MOST_SAID:
            said[MOST_SAID - 1 :] = [f"{len(said) - MOST_SAID + 1} more"]
        count = "1 file is" if len(lines) == 1 else f"{len(lines)} files are"
        raise InputError(f"{count} missing: {', '.join(said)}; put them there, or run the other jobs by --keep-going.")


def _append(report: Path, text: str) -> None:
    try:
        with report.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(f"{report}: the report cannot be written ({error.strerror}); use --report.") from error


def _is_cut(report: Path) -> bool:
    """Return whether an interrupted run left half a line at the end of the report."""
    return report.is_file() and report.read_bytes()[-1:] not in (b"", b"\n")
