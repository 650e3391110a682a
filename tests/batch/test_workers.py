"""Workers: which job goes to whom, workers that are lost, and a Ray cluster on this machine."""

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
from support import ASTRONAUT, CLIP, MONA_LISA, PATIENCE, assert_refused, read_frames, run_tool_alone, until, write_csv

from portrait_anim.batch import workers
from portrait_anim.batch.jobs import Job
from portrait_anim.batch.run import run_batch
from portrait_anim.batch.workers import Cluster, WorkerLost, _Queue, distribute
from portrait_anim.errors import InputError


@pytest.fixture(scope="module")
def ray_address():
    """A cluster of two nodes with one core each, all on this machine."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    for attempt in range(3):  # Ray gives its own processes 30 s to start, which a busy machine may exceed
        cluster = Cluster()
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1)
            cluster.wait_for_nodes()
            break
        except Exception:
            cluster.shutdown()
            if attempt == 2:
                raise
    yield cluster.address
    cluster.shutdown()
    ray.shutdown()


def test_workers_keep_to_their_driver_then_help():
    jobs = [Job((f"{n}",), driver, f"{driver}{n}") for driver, count in (("a", 4), ("b", 2)) for n in range(count)]
    queue = _Queue(jobs)
    assert [queue.take("x").output, queue.take("y").output, queue.take("x").output] == ["a0", "b0", "a1"]
    assert [queue.take("y").output, queue.take("y").output] == ["b1", "a2"]
    queue.put_back("y", jobs[4])
    assert [queue.take("x").output, queue.take("x").output, queue.take("x")] == ["a3", "b0", None]


def test_a_job_whose_worker_is_killed_is_tried_again(tmp_path):
    jobs = [Job((str(ASTRONAUT),), str(CLIP), f"{tmp_path}/x.mp4", {"max_size": 128, "end": 3})]
    killed = []

    def kill_when_busy() -> None:
        until(lambda: list(tmp_path.glob(".x.partial-*")))
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
            killed.append(child.pid)

    murderer = threading.Thread(target=kill_when_busy)
    murderer.start()
    outcomes = list(run_batch(jobs, tmp_path / "report.jsonl", workers=1, threads=1))
    murderer.join()
    assert len(killed) == 1
    assert [outcome.error for outcome in outcomes] == [None] and outcomes[0].result.frames == 75
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.jsonl", "x.mp4"]  # the dead worker's rest is gone


def test_a_job_that_always_loses_its_worker_fails_alone():
    class Doomed:
        def submit(self, job):
            future = Future()
            if job.output == "bad":
                future.set_exception(WorkerLost("exit code -9"))
            else:
                future.set_result(job.output)
            return future

        def close(self):
            pass

    started = []
    jobs = [Job(("a",), "d", name) for name in ("bad", "good", "fine")]
    outcomes = list(distribute(jobs, lambda: started.append(1) or Doomed(), workers=2, retries=2))
    failed = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert sorted(outcome for outcome in outcomes if isinstance(outcome, str)) == ["fine", "good"]
    assert len(failed) == 1 and "lost 3 times (exit code -9)" in str(failed[0].error)
    assert len(started) == 2 + 3


@pytest.mark.slow
def test_the_same_jobs_on_a_ray_cluster_of_two_machines(tmp_path, clip, ray_address):
    rows = [dict(images=image, driver=clip, max_size=128) for image in (ASTRONAUT, "bad.jpg", MONA_LISA)]
    write_csv(tmp_path / "jobs.csv", *rows)
    options = ["-o", "out/", "--ray", ray_address, "--threads", "1", "--workers", "3", "--keep-going"]
    done = run_tool_alone("batch", "jobs.csv", *options, cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    assert "2 made, 0 were there already, 1 failed" in done.stdout, done.stderr
    assert len(read_frames(tmp_path / "out/mona_lisa--short.mp4")) == 6
    done = run_tool_alone("batch", "jobs.csv", *options, cwd=tmp_path)
    assert "0 made, 2 were there already, 1 failed" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_job_whose_ray_worker_is_killed_is_tried_again(tmp_path, ray_address):
    write_csv(tmp_path / "jobs.csv", dict(images=ASTRONAUT, driver=CLIP, output="x.mp4", max_size=128))
    killed = []

    def kill_when_busy() -> None:
        until(lambda: list(tmp_path.glob(".x.partial-*")))
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # ours alone works in this folder
                ours = os.readlink(process / "cwd") == str(tmp_path)
                if ours and (process / "cmdline").read_bytes().startswith(b"ray::Runner"):
                    os.kill(int(process.name), signal.SIGKILL)
                    killed.append(process.name)

    murderer = threading.Thread(target=kill_when_busy)
    murderer.start()
    done = run_tool_alone("batch", "jobs.csv", "--ray", ray_address, "--threads", "1", cwd=tmp_path)
    murderer.join()
    assert len(killed) == 1
    assert done.returncode == 0 and "1 made" in done.stdout, done.stderr
    assert len(read_frames(tmp_path / "x.mp4")) == 215


def test_a_cluster_whose_head_is_gone_ends_the_batch_and_leaves_its_workers_alone(monkeypatch):
    """`benchmarks/batch_chaos.py --ray 40` kills a real one; Ray would end this process without a word."""
    closed = []

    class Waiting:
        def submit(self, job):
            return Future()

        def close(self):
            closed.append(cluster.lost)

    cluster = Cluster.__new__(Cluster)
    with socket.create_server(("127.0.0.1", 0)) as head:
        cluster._address, cluster._head, cluster._lost = "auto", head.getsockname(), False
        cluster.check()
    for name in ("HEAD_SECONDS", "WATCH"):
        monkeypatch.setattr(workers, name, 0)
    with pytest.raises(InputError, match="--ray auto: the head of the cluster no longer answers"):
        list(distribute([Job(("a",), "d", "b")], Waiting, 1, 2, cluster.check))
    assert closed == [True]


def test_no_cluster_at_the_address(tmp_path, clip):
    pytest.importorskip("ray")
    write_csv(tmp_path / "jobs.csv", dict(images=ASTRONAUT, driver=clip))
    done = run_tool_alone("batch", "jobs.csv", "--ray", "127.0.0.1:1", cwd=tmp_path, timeout=PATIENCE)
    assert_refused(done, 3, "--ray 127.0.0.1:1")
