"""`portrait-anim doctor` finds everything in order, or says what is not."""

import json

import torch
from support import assert_refused, run_tool

from portrait_anim.networks.weights import find_default


def test_doctor_finds_everything_in_order_and_says_how_fast(tmp_path):
    done = run_tool("doctor", "--json", cwd=tmp_path)
    checks = {check["name"]: check for check in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stdout
    names = {"packages", "computer", "networks", "face tracker", "other tracker", "ffmpeg", "cluster", "speed"}
    assert set(checks) == names
    assert "is whole" in checks["networks"]["text"] and "frames/s" in checks["speed"]["text"]
    assert all(check["ok"] is not False for check in checks.values())


def test_doctor_finds_damaged_weights(tmp_path):
    data = bytearray(find_default().read_bytes())
    data[-100] ^= 1
    (tmp_path / find_default().name).write_bytes(data)
    done = run_tool("doctor", "--weights", find_default().name, cwd=tmp_path)
    assert done.returncode == 1
    said = {line[8:23].strip(): (line[:8].strip(), line[23:]) for line in done.stdout.splitlines()}
    assert [name for name, (mark, _) in said.items() if mark == "PROBLEM"] == ["networks"]  # and nothing else
    assert "SHA-256" in said["networks"][1] and "get it again" in said["networks"][1]
    assert said["computer"][0] == "ok" and said["speed"] == ("note", "not checked, because of the problem above")
    assert done.stdout.splitlines()[-1].startswith("There is a problem: do what is said there")


def test_doctor_says_a_problem_once(tmp_path):
    device = "cuda" if torch.backends.mps.is_available() else "mps"  # no machine has both
    done = run_tool("doctor", "--device", device, "--json", cwd=tmp_path)
    checks = {check["name"]: check for check in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1 and f"--device {device} is not available" in checks["computer"]["text"]
    assert [name for name, check in checks.items() if check["ok"] is False] == ["computer"]
    assert checks["networks"]["text"] == checks["speed"]["text"] == "not checked, because of the problem above"
    assert_refused(run_tool("doctor", "--device", "tpu", cwd=tmp_path), 2, "--device tpu is not known")
