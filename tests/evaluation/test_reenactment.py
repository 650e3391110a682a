"""`portrait-anim evaluate`: the table, the pictures, and fine-tuned persons."""

import json

import numpy as np
import pytest
from support import run_tool


def test_evaluate_gives_the_table_and_the_pictures(shards, tmp_path):
    done = run_tool("evaluate", shards, "--shots", 1, "--shots", 4, "--out", "result", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "result" / "evaluation.json").read_text())
    assert set(report["shots"]) == {"1", "4"}
    rows = report["shots"]["1"]["rows"]
    assert set(rows) == {"still photo", "mesh warp", "model"}
    assert rows["mesh warp"]["l1"] < rows["still photo"]["l1"]
    assert all(np.isfinite(rows["model"][k]) for k in ("l1", "ssim", "csim", "akd", "mouth_perceptual"))
    assert "| mesh warp |" in done.stdout and (tmp_path / "result" / "contact-sheet.png").exists()


@pytest.mark.slow
def test_evaluate_measures_fine_tuned_persons(shards, tmp_path):
    arguments = ("--shots", 2, "--finetune", 5, "--people", 1, "--out", "result")
    done = run_tool("evaluate", shards, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "result" / "evaluation.json").read_text())
    table = report["shots"]["2"]
    assert report["people"] == 1 and table["pairs"] == 4 and table["people helped by fine-tuning"] in (0, 1)
    assert set(table["rows"]) == {"still photo", "mesh warp", "model", "fine-tuned"}
    assert np.isfinite(table["rows"]["fine-tuned"]["mouth_perceptual"])
    done = run_tool("evaluate", shards, "--people", 3, cwd=tmp_path)
    assert done.returncode == 2 and "--people" in done.stderr
