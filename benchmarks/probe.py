"""Run the command once and write down where its time went: python probe.py STARTED REPORT PORTRAIT -d DRIVER ...

STARTED is the time.time() at which the process was asked for. Stages are CPU time of the thread that ran them, so that
other work on the machine matters little. It finds the stages by their names in the package on PYTHONPATH, which may be
of another revision: bench.py uses this to compare revisions. Imports and the tracker, which has threads of its own and
may be in a process of its own, are what is left of the whole: "start and tracking".
"""

import functools
import importlib.abc
import importlib.util
import json
import os
import resource
import sys
import threading
import time
from collections import defaultdict

STAGES = (  # stage, module, function or class.method
    ("retarget", "motion.retarget", "Retargeter.__init__"),
    ("retarget", "motion.retarget", "Retargeter.__getitem__"),
    ("warp", "geometry.warp", "Warper.warp"),
    ("condition", "geometry.warp", "condition"),
    ("network", "painting.painter", "ConditionedGenerator.paint"),
    ("paint", "painting.compose", "paint_box"),
    ("composite", "painting.compose", "compose_frame"),
    ("write", "media.writing", "VideoWriter.write"),
)


class Watch(importlib.abc.MetaPathFinder):
    """Times the stages of each module from the moment it is imported: importing them here would change the start."""

    def __init__(self, timed, decoding):
        self._timed, self._decoding = timed, decoding
        self._awaited = {"portrait_anim.animation.inputs"} | {f"portrait_anim.{module}" for _, module, _ in STAGES}

    def find_spec(self, name, path=None, target=None):
        if name not in self._awaited:
            return None
        self._awaited.remove(name)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module) -> None:
            execute(module)
            for stage, where, what in STAGES:
                if name == f"portrait_anim.{where}":
                    *path, function = what.split(".")
                    owner = functools.reduce(lambda owner, part: getattr(owner, part, None), path, module)
                    if hasattr(owner, function):  # other revisions may not have it, or its class
                        setattr(owner, function, self._timed(stage, getattr(owner, function)))
            if hasattr(module, "run_in_helper"):
                module.run_in_helper = self._decoding(module.run_in_helper)

        spec.loader.exec_module = exec_module
        return spec


def children() -> float:
    """CPU seconds of the processes it started that have ended: of ffmpeg, and of that which reads, if there is one."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def with_decoding(work, *given) -> tuple:
    """In the process that reads: what it read, and the CPU seconds of its ffmpeg."""
    return work(*given), children()


def main() -> None:
    started, report, *arguments = sys.argv[1:]
    spent, calls, marks, lock = defaultdict(float), defaultdict(int), {}, threading.Lock()

    def timed(stage: str, function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            if stage == "write" and "first" not in marks:
                marks.update(first=time.time() - float(started), children=children())
                marks.setdefault("decode", marks["children"])
                spent["warp"] = spent["condition"] = spent["network"] = spent["paint"] = spent["composite"] = 0.0
            begin = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                with lock:
                    spent[stage] += time.thread_time() - begin
                    calls[stage] += 1

        return wrapper

    def decoding(run_in_helper):
        def wrapper(*given, progress):
            import probe  # by this name the other process finds it

            result, marks["decode"] = run_in_helper(probe.with_decoding, *given, progress=progress)
            return result

        return wrapper

    def finish(code: int) -> None:
        frames = calls["write"]
        stages = {"decode": marks.get("decode", 0.0)}
        stages |= {stage: spent[stage] for stage, *_ in STAGES}
        stages["encode"] = stages.pop("write") + children() - marks.get("children", 0.0)
        seconds = time.time() - float(started)
        total = time.process_time() + children()
        stages["start and tracking"] = total - sum(stages.values())
        result = {
            "ms per frame": {name: 1000 * value / max(frames, 1) for name, value in stages.items()},
            "CPU ms per frame": 1000 * total / max(frames, 1),
            "frames": frames,
            "frames/s": frames / seconds,
            "frames/s once it renders": (frames - 1) / max(seconds - marks.get("first", seconds - 1), 1e-3),
            "first frame s": marks.get("first", 0.0),
            "peak RSS MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        with open(report, "w") as file:
            json.dump(result, file)
        exit_now(code)

    exit_now, os._exit = os._exit, finish  # as the command ends
    sys.meta_path.insert(0, Watch(timed, decoding))
    from portrait_anim.commands.animate import main as command

    sys.argv[1:] = arguments
    command()


if __name__ == "__main__":
    main()
