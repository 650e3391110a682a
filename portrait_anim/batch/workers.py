"""Distribute jobs over workers: processes of this machine, or Ray actors on many machines.

Each worker has an `Animator` of its own and takes jobs one by one, preferably of a driver that it has already tracked.
When a worker is lost (killed, out of memory, its machine gone), another takes its place and the job is tried again.
"""

import multiprocessing
import os
import re
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from ..animation.animator import Animator
from ..errors import InputError, PortraitAnimError, UsageError
from ..system.signals import raise_on
from .jobs import Job, Outcome, by_driver, run_job

WATCH = 5.0  # s
HEAD_SECONDS = 20.0  # for which the head of a Ray cluster may be away; Ray itself gives up after 60


class WorkerLost(Exception):
    """Raised when a worker or its machine ended before it gave the result of its job."""


class Runner:
    """Runs jobs inside a worker.

    settings: the parameters of its `Animator`. folder: the folder to which the paths of jobs are relative.
    """

    def __init__(self, settings: dict, folder: str):
        os.chdir(folder)
        self._animator = Animator(**settings)

    def run(self, job: Job) -> Outcome:
        """Run a job and return its outcome. An unexpected exception becomes an error of the job."""
        try:
            return run_job(job, self._animator, skip_existing=not job.options.get("force"))
        except Exception as error:  # a bug that one job meets must not end thousands of jobs
            text = f"{job.output}: unexpected {type(error).__name__} ({error}); please report this with the job."
            return Outcome(job, error=PortraitAnimError(text))


class LocalWorker:
    """A worker that is a process of its own on this machine."""

    def __init__(self, settings: dict):
        context = multiprocessing.get_context("spawn")  # forks of a process with threads may hang
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, settings, os.getcwd()), daemon=True)
        self._process.start()
        there.close()  # else the end of the process would not be noticed
        self._thread = ThreadPoolExecutor(1)

    def submit(self, job: Job) -> Future:
        """Start a job. The future holds its outcome, or WorkerLost when the process ended before."""
        return self._thread.submit(self._ask, job)

    def _ask(self, job: Job) -> Outcome:
        try:
            self._connection.send(job)
            return self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(5)  # so that its exit code is known
            raise WorkerLost(f"exit code {self._process.exitcode}") from error

    def close(self) -> None:
        """End the process, which first removes unfinished outputs."""
        self._process.terminate()
        self._process.join(20)
        self._process.kill()
        self._thread.shutdown()


def _serve(connection, settings: dict, folder: str) -> None:
    """Run jobs that come over a connection and send back their outcomes, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    raise_on([signal.SIGTERM], SystemExit)
    try:
        runner = Runner(settings, folder)
        while True:
            connection.send(runner.run(connection.recv()))
    except (SystemExit, EOFError, OSError):
        os._exit(0)  # without waiting for threads of native libraries


class Cluster:
    """A Ray cluster that this process has joined.

    address: "auto", "local", host:port or ray://host:port. Raises UsageError when Ray is not installed, InputError when
    no cluster answers.
    """

    def __init__(self, address: str):
        try:
            import ray
        except ImportError as error:
            raise UsageError(
                "--ray needs Ray, which is not installed: pip install 'portrait-anim[cluster]'."
            ) from error
        self._address, self._lost = address, False
        try:
            place = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
            if place:  # Ray itself would try for minutes
                socket.create_connection((place[1], int(place[2])), timeout=10).close()
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace="portrait-anim")
            host, port = place.groups() if place else ray.get_runtime_context().gcs_address.rsplit(":", 1)
            self._head = host, int(port)
        except Exception as error:  # it may be ConnectionError, ValueError, RuntimeError or one of gRPC
            reason = str(error).splitlines()[0].rstrip(".")
            raise InputError(
                f"--ray {address}: no Ray cluster answers there ({reason}); start one, or leave --ray out."
            ) from error

    def places(self, threads: int) -> int:
        """Return how many workers of so many threads fit into the cluster."""
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)

    def check(self) -> None:
        """Wait until the head of the cluster answers. Raises InputError if it does not for HEAD_SECONDS.

        Without its head Ray would wait for a minute in whatever is asked of it next, and then end this process.
        """
        end = time.monotonic() + HEAD_SECONDS
        while True:
            try:
                socket.create_connection(self._head, timeout=5).close()
                return
            except OSError as error:
                if time.monotonic() > end:
                    self._lost = True
                    raise InputError(
                        f"--ray {self._address}: the head of the cluster no longer answers; start it again, and the "
                        "same command goes on."
                    ) from error
                time.sleep(1)

    @property
    def lost(self) -> bool:
        """Whether `check` has found the cluster to be gone."""
        return self._lost


class RayWorker:
    """A worker that is a Ray actor on any machine of the cluster.

    The machine must see the same folders under the same names.
    """

    def __init__(self, settings: dict, cluster: Cluster):
        import ray

        needs = {"num_cpus": settings["threads"] or 1, "num_gpus": int(settings["device"] == "cuda")}
        self._cluster = cluster
        self._actor = ray.remote(**needs)(Runner).remote(settings, os.getcwd())

    def submit(self, job: Job) -> Future:
        """Start a job. The future holds its outcome, or WorkerLost when the actor ended before."""
        from ray.exceptions import RayActorError

        future: Future = Future()

        def pass_on(reply: Future) -> None:
            error = reply.exception()
            if error is None:
                future.set_result(reply.result())
            else:
                future.set_exception(
                    WorkerLost(str(error).splitlines()[0]) if isinstance(error, RayActorError) else error
                )

        self._actor.run.remote(job).future().add_done_callback(pass_on)
        return future

    def close(self) -> None:
        """End the actor."""
        import ray

        if not self._cluster.lost:
            ray.kill(self._actor)


class _Queue:
    """The jobs that wait, grouped by driver.

    A worker stays with a driver while that has jobs. Then it takes a driver that no other worker is at, or helps with
    one.
    """

    def __init__(self, jobs: list[Job]):
        self._groups = [deque(group) for group in by_driver(jobs)]
        self._own: dict = {}

    def take(self, worker) -> Job | None:
        """Return the next job for a worker, None when there is none."""
        if not self._own.get(worker):
            self._groups = [group for group in self._groups if group]
            if not self._groups:
                return None
            taken = {id(group) for group in self._own.values()}
            self._own[worker] = max(self._groups, key=lambda group: (id(group) not in taken, len(group)))
        return self._own[worker].popleft()

    def put_back(self, worker, job: Job) -> None:
        """Keep the job of a lost worker for another one."""
        del self._own[worker]
        self._groups.append(deque([job]))


def distribute(
    jobs: list[Job], start: Callable, workers: int, retries: int, check: Callable[[], None] = lambda: None
) -> Iterator[Outcome]:
    """Run jobs on workers made by `start` and yield their outcomes in the order in which they end.

    A job whose worker is lost is tried up to `retries` times more. check: called every WATCH seconds, and before
    anything is asked of workers; raises when there is no use in going on.
    """
    queue = _Queue(jobs)
    losses: Counter[str] = Counter()
    running: dict[Future, tuple[LocalWorker | RayWorker, Job]] = {}
    pool = [start() for _ in range(min(workers, len(jobs)))]

    def give(worker) -> None:
        if job := queue.take(worker):
            running[worker.submit(job)] = worker, job
        else:  # frees the place for a Ray worker that still waits for one
            pool.remove(worker)
            worker.close()

    try:
        for worker in list(pool):
            give(worker)
        while running:
            ended = wait(running, timeout=WATCH, return_when=FIRST_COMPLETED).done
            check()
            for future in ended:
                worker, job = running.pop(future)
                try:
                    outcome = future.result()
                except WorkerLost as error:
                    losses[job.output] += 1
                    outcome = None
                    if losses[job.output] > retries:
                        lost = f"its worker was lost {losses[job.output]} times ({error})"
                        text = f"{job.output}: {lost}; check the memory, or use fewer --workers."
                        outcome = Outcome(job, error=PortraitAnimError(text))
                    else:
                        queue.put_back(worker, job)
                    pool.remove(worker)
                    worker.close()
                    worker = start()
                    pool.append(worker)
                give(worker)
                if outcome:
                    yield outcome
    finally:
        with ThreadPoolExecutor(max(1, len(pool))) as closing:  # at once: each may have an output to remove
            list(closing.map(lambda worker: worker.close(), pool))
