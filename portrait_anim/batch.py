"""Thousands of jobs from a file, with a report that lets the next run go on where this one stopped."""

import csv
import json
import os
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from .animator import cores
from .errors import InputError, OutputError, UsageError
from .jobs import Job, Outcome, check_distinct, name_output, photos_or_stand_in
from .options import Options
from .weights import check_file
from .workers import LocalWorker, RayWorker, connect, distribute

LISTS = ";"  # between the values of a list in a CSV cell


# ---------------------------------------------------------------- the job file


def read_jobs(path: str | Path, output: str | None = None, force: bool = False) -> list[Job]:
    """The jobs of a CSV file (with a header) or JSON lines; columns are named as the parameters of `animate`.

    images (or person, or source_video) and driver are needed; an empty cell means the default. Lists (images, only)
    are JSON lists, in CSV separated by ";". output: folder or template for jobs without an output of their own. Paths
    are relative to the current folder. Raises InputError, with the line, before any work is done.
    """
    rows = list(_rows(Path(path)))
    if not rows:
        raise InputError(f"{path}: holds no jobs; give a header with images and driver, and a line per job.")
    kinds = {"images": list[str | Path], "driver": str | Path, "output": str | Path} | typing.get_type_hints(Options)
    jobs = []
    for number, (line, row) in enumerate(rows, 1):
        where = f"{path} line {line}"
        if unknown := [name for name in row if name not in kinds]:
            raise InputError(f"{where}: unknown column {unknown[0]!r}; columns are {', '.join(kinds)}.")
        filled = {name: value for name, value in row.items() if value not in ("", None)}
        photos = photos_or_stand_in(filled.get("images", ()), filled)
        if missing := [name for name, value in (("images", photos), ("driver", filled.get("driver"))) if not value]:
            raise InputError(f"{where}: {missing[0]} is missing; every job needs images and a driver.")
        values = {name: _convert(where, name, value, kinds[name]) for name, value in filled.items()}
        images, driver = tuple(values.pop("images", ())), values.pop("driver")
        own = values.pop("output", None)
        name = name_output(own or output, images or tuple(photos), driver, number, several=own is None)
        jobs.append(Job(images, driver, name, {"force": force} | values, make_folder=True))
    check_distinct(job.output for job in jobs)
    return jobs


def _rows(path: Path) -> Iterator[tuple[int, dict]]:
    """Line number and values of every job."""
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise InputError(f"{path}: jobs are read from .csv or .jsonl (JSON lines); name such a file.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file, strict=True, restkey="more cells than the header")
                for row in reader:
                    yield reader.line_num, row
                return
            for line, text in enumerate(file, 1):
                if text.strip():
                    row = json.loads(text)
                    if not isinstance(row, dict):
                        raise InputError(
                            f"{path} line {line}: is no JSON object; write {{...}} with animate's parameters."
                        )
                    yield line, row
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read as a list of jobs ({reason}); check the file.") from error


def _convert(where: str, name: str, value, hint):
    """A cell's value as the parameter's type."""
    if isinstance(hint, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    origin = typing.get_origin(hint)
    if origin in (list, tuple):
        items = value if isinstance(value, list) else str(value).split(LISTS)
        return origin(str(item).strip() for item in items)
    if isinstance(value, list | dict):
        raise InputError(f"{where}: {name} is a list; it must be one value, and every output a line of its own.")
    text = str(value).strip()
    try:
        if hint is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        return hint(text) if hint in (int, float) else text
    except (KeyError, ValueError) as error:
        meant = {bool: "true or false", int: "a whole number"}.get(hint, "a number")
        raise InputError(f"{where}: {name} is {text!r}; it must be {meant}.") from error


# ---------------------------------------------------------------- the report


def read_report(path: Path) -> dict[str, dict]:
    """The last entry for every output; an interrupted run may have left half a line."""
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
    """Whether the report says so and the output is as it was left. Spares opening thousands of videos."""
    entry = entries.get(str(Path(job.output).absolute()), {})
    try:
        return not entry.get("error") and entry.get("bytes") == os.path.getsize(job.output)
    except OSError:
        return False


def report_entry(outcome: Outcome) -> dict:
    """What `--json` prints, and the size of the output's file."""
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
    ray: str | None = None,
    weights: str | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Iterator[Outcome]:
    """Run jobs and yield outcomes as they come; each is added to the report, a file of JSON lines.

    Outputs that are there and whole are skipped, unless the job says force. The options are those of
    `portrait-anim batch`. Raises PortraitAnimError for what concerns all jobs.
    """
    if any(n is not None and n < 1 for n in (workers, threads)) or retries < 0:
        raise UsageError("--workers and --threads must be 1 or more, --retries 0 or more.")
    report = Path(report)
    entries = read_report(report)
    done = [not job.options.get("force") and is_done(job, entries) for job in jobs]
    yield from (Outcome(job) for job, is_there in zip(jobs, done) if is_there)
    jobs = [job for job, is_there in zip(jobs, done) if not is_there]
    if not jobs:
        return
    if weights is not None:
        check_file(weights)
    if ray is not None:
        threads = threads or 2
        fitting = connect(ray, threads)
        workers = workers or fitting
    else:
        workers = workers or max(1, cores() // 2)
        threads = threads or max(1, cores() // workers)
    settings = dict(weights=weights, device=device, precision=precision, threads=threads)
    worker = RayWorker if ray is not None else LocalWorker
    _append(report, "\n" if _is_cut(report) else "")
    for outcome in distribute(jobs, lambda: worker(settings), workers, retries):
        _append(report, json.dumps(report_entry(outcome), ensure_ascii=False) + "\n")
        yield outcome


def _append(report: Path, text: str) -> None:
    try:
        with report.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(f"{report}: the report cannot be written ({error.strerror}); use --report.") from error


def _is_cut(report: Path) -> bool:
    """Whether an interrupted run left half a line at the end."""
    return report.is_file() and report.read_bytes()[-1:] not in (b"", b"\n")
