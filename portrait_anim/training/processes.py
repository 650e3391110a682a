"""The processes that train one model together: those of torchrun, or others that this one starts itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ..errors import PortraitAnimError, UsageError
from ..painting.painter import choose_device
from ..system.files import temporary_folder

_PATIENCE = 60.0  # s, for the others to end after this process has
_SILENCE = timedelta(minutes=20)  # after which a process that others wait for counts as lost: it may be decoding


def choose_training_device(device: str) -> torch.device:
    """Return the device to train on, as the option says it. Raises UsageError."""
    if device == "mps":
        raise UsageError("--device mps: training there has not been tried; choose auto, cpu or cuda.")
    chosen = choose_device(device)
    return torch.device("cpu") if chosen.type == "mps" else chosen


@contextmanager
def joined(device: torch.device, processes: int, others: Callable[..., Any], *args) -> Iterator[torch.device]:
    """Within it this process belongs to a group of processes. Yields the device of this one.

    Under torchrun they are there already. Else `processes` - 1 of them are started here, each of which calls
    `others(*args)` with one `joined` of its own; these must be picklable. At the end all wait for each other: a process
    that left while others still talk to it would make theirs fail. Raises UsageError, PortraitAnimError.
    """
    if "RANK" in os.environ:
        if processes > 1:
            raise UsageError("--processes is for one machine without torchrun; leave it out here.")
        with _member(device, "env://", int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) as place:
            yield place
        return
    if processes == 1:
        yield device
        return
    if device.type == "cuda":
        raise UsageError("--processes is for processors; start several GPUs by torchrun.")
    context = multiprocessing.get_context("spawn")  # threads of PyTorch do not survive a fork
    with temporary_folder() as folder:
        meeting = f"file://{Path(folder, 'meeting').resolve()}"
        started = [
            context.Process(target=_other, args=(device, meeting, rank, processes, others, args), daemon=True)
            for rank in range(1, processes)
        ]
        for process in started:
            process.start()
        try:
            with _member(device, meeting, 0, processes) as place:
                yield place
            for process in started:
                process.join(_PATIENCE)
        except RuntimeError as error:  # of gloo, when another process is gone
            lost = [process for process in started if not process.is_alive()]
            if lost or isinstance(error, dist.DistBackendError):
                raise PortraitAnimError(
                    "Another process of the training was lost; check the memory, and run it again: it goes on from the "
                    "last checkpoint."
                ) from error
            raise
        finally:
            for process in started:
                process.kill()


def _other(
    device: torch.device, meeting: str, rank: int, processes: int, work: Callable[..., Any], args: tuple
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal; the first process stops the others
    torch.set_num_threads(1)
    try:
        with _member(device, meeting, rank, processes):
            work(*args)
    except (RuntimeError, PortraitAnimError, KeyboardInterrupt):
        os._exit(1)  # the first process is gone, or says itself what is wrong
    os._exit(0)


@contextmanager
def _member(device: torch.device, meeting: str, rank: int, world: int) -> Iterator[torch.device]:
    nccl = device.type == "cuda"
    if nccl:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if nccl else "gloo", meeting, _SILENCE, world, rank)
    yield device
    # Not when something has failed: the others may never come.
    dist.barrier()
    dist.destroy_process_group()
