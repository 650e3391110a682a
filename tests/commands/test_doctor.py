"""`portrait-anim doctor` finds everything in order, or says what is not."""

import json

from support import run_tool

from portrait_anim.networks.weights import find_default


def test_doctor_finds_everything_in_order_and_says_how_fast(tmp_path):
    done = run_tool("doctor", "--json", cwd=tmp_path)
    checks = {check["name"]: check for check in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stdout
    assert {"versions", "device", "weights", "mediapipe", "face-alignment", "ffmpeg", "ray", "speed"} == set(checks)
    assert "verified" in checks["weights"]["text"] and "frames/s" in checks["speed"]["text"]
    assert all(check["ok"] is not False for check in checks.values())


def test_doctor_finds_damaged_weights(tmp_path):
    data = bytearray(find_default().read_bytes())
    data[-100] ^= 1
    (tmp_path / find_default().name).write_bytes(data)
    done = run_tool("doctor", "--weights", find_default().name, cwd=tmp_path)
    assert done.returncode == 1
    assert any(line.startswith("PROBLEM weights") and "SHA-256" in line for line in done.stdout.splitlines())
