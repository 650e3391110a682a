"""`portrait-anim batch`: job files, reports, and going on where it stopped."""

import json
import os
import signal
from pathlib import Path

import pytest
from support import ASTRONAUT, MONA_LISA, PATIENCE, assert_refused, run_tool, start_python, until, write_csv

from portrait_anim.batch.jobs import Job, expand
from portrait_anim.batch.run import read_jobs, run_batch
from portrait_anim.errors import InputError, UsageError


def write_lines(path: Path, *rows) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_csv_and_json_lines_mean_the_same(tmp_path):
    first = dict(images="a.jpg;b.jpg", driver="c.mp4", only="eyes; lips", strength="0.5", face="2", audio="no")
    first["output"] = "o.mp4"
    table = write_csv(tmp_path / "jobs.csv", first, dict(images="x.jpg", driver="c.mp4"))
    second = dict(images=["a.jpg", "b.jpg"], driver="c.mp4", output="o.mp4", only=["eyes", "lips"], strength=0.5)
    lines = write_lines(
        tmp_path / "jobs.jsonl", second | {"face": 2, "audio": False}, dict(images="x.jpg", driver="c.mp4")
    )
    made = read_jobs(table, "out/{number}.gif")
    assert made == read_jobs(lines, "out/{number}.gif")
    options = dict(force=False, only=("eyes", "lips"), strength=0.5, face=2, audio=False)
    assert made[0] == Job(("a.jpg", "b.jpg"), "c.mp4", "o.mp4", options, True)
    assert made[1] == Job(("x.jpg",), "c.mp4", "out/2.gif", {"force": False}, True)


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("a.csv", "images,drivr\na.jpg,b.mp4\n", ["line 2", "drivr", "did you mean driver?"]),
        ("a.csv", "images,driver\na.jpg,\n", ["line 2", "driver is missing"]),
        ("a.csv", "images,driver,strength\na.jpg,b.mp4,1\nc.jpg,b.mp4,much\n", ["line 3", "strength", "a number"]),
        ("a.csv", "images,driver,face\na.jpg,b.mp4,1.5\n", ["face", "whole number"]),
        ("a.csv", "images,driver,audio\na.jpg,b.mp4,maybe\n", ["audio", "true or false"]),
        ("a.csv", "images,driver\na.jpg,b.mp4,c,d\n", ["line 2", "more cells than there are columns"]),
        ("a.csv", "images,driver,output\na.jpg,b.mp4,{}.mp4\n", ["line 2", "unknown field"]),
        ("a.csv", "images,driver,max_size\na.jpg,b.mp4,3\n", ["line 2", "--max-size 3"]),
        ("a.csv", "images,driver,start,end\na.jpg,b.mp4,3,2\n", ["line 2", "end (2.0 s)"]),
        ("a.csv", "images,driver,sign_cert\na.jpg,b.mp4,c.pem\n", ["line 2", "--sign-cert and --sign-key"]),
        ("a.csv", "images,driver\na.jpg,noddd\n", ["line 2", "no built-in motion", "did you mean nod?"]),
        ("a.csv", "images,driver,output\na.jpg,b.mp4,x.avi\n", ["line 2", "unknown kind of output .avi"]),
        ("a.csv", "images,driver,output\na.jpg,b.mp4,x\n", ["line 2", "x.mp4 for a video"]),
        ("a.csv", "images,driver\n", ["no jobs"]),
        ("a.csv", "", ["no jobs"]),
        ("a.jsonl", '{"images": "a.jpg", "driver": "b.mp4"}\n{"images": "a.jpg"\n', ["line 2", "no JSON", "column 19"]),
        ("a.jsonl", "[1]\n", ["line 1", "JSON object"]),
        ("a.txt", "x", [".csv or .jsonl"]),
        ("missing.csv", None, ["No such file"]),
    ],
)
def test_job_files_that_cannot_be_used(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as refused:
        read_jobs(tmp_path / name)
    assert all(word in str(refused.value) for word in [name, *words]), refused.value


def test_two_jobs_for_one_output_are_refused(tmp_path):
    table = write_csv(tmp_path / "a.csv", *[dict(images="a.jpg", driver="b.mp4")] * 2)
    with pytest.raises(InputError, match=r"line 3: a--b.mp4: would be written twice"):
        read_jobs(table)
    write_csv(table, *[dict(images="a.jpg", driver="b.mp4", output=f"x.{kind}", preview=1) for kind in ("gif", "mp4")])
    with pytest.raises(InputError, match=r"line 3: x.preview.png: would be written twice"):
        read_jobs(table)


def test_all_lines_that_cannot_be_used_are_told_before_anything_is_done(tmp_path):
    rows = [dict(images="a.jpg", driver="b.mp4", output=f"{n}.mp4") for n in range(40)]
    rows[3]["strength"], rows[5]["driver"], rows[7]["fps"] = "9", "", "fast"
    for row in rows[20:30]:
        row["images"] = ""
    write_csv(tmp_path / "jobs.csv", *rows)
    done = run_tool("batch", "jobs.csv", cwd=tmp_path)
    assert done.returncode == 3 and os.listdir(tmp_path) == ["jobs.csv"]
    assert done.stderr.splitlines() == [
        "error: jobs.csv line 5: --strength 9 is out of range; choose 0 (no motion) to 3, 1 is the driver's own.",
        "error: jobs.csv line 7: driver is missing; every job needs images and a driver.",
        "error: jobs.csv line 9: fps is 'fast'; it must be a number.",
        "error: jobs.csv lines 22, 23, 24, 25, 26, 27, 28, 29 and 2 more: images is missing; "
        "every job needs images and a driver.",
    ]
    write_csv(tmp_path / "jobs.csv", *[row | dict(fps=f"fast{n}") for n, row in enumerate(rows)])
    done = run_tool("batch", "jobs.csv", cwd=tmp_path)
    said = done.stderr.splitlines()
    assert done.returncode == 3 and len(said) == 10
    assert said[-1] == "error: jobs.csv: 31 more faults in other lines."
    done = run_tool("batch", "jobs.csv", "-o", "{name}.mp4", cwd=tmp_path)
    assert_refused(done, 2, "-o {name}.mp4", "unknown field")


def test_all_missing_files_are_told_before_the_first_job_starts(tmp_path, clip):
    rows = [
        dict(images=ASTRONAUT, driver=clip, output="good.mp4"),
        dict(images=f"{ASTRONAUT};bad.jpg", driver="nod", output="a.mp4"),
        dict(images="bad.jpg", driver="gone/clip.mp4", output="b.mp4"),
        dict(person="anna.safetensors", driver="nod", output="c.mp4"),
    ]
    write_csv(tmp_path / "jobs.csv", *rows)
    done = run_tool("batch", "jobs.csv", cwd=tmp_path)
    said = "3 files are missing: bad.jpg (lines 3, 4), gone/clip.mp4 (line 4), anna.safetensors (line 5); put them"
    assert_refused(done, 3, said, "--keep-going")
    assert os.listdir(tmp_path) == ["jobs.csv"] and not done.stdout

    many = [dict(images=f"{n}.jpg", driver="nod", output=f"{n}.mp4") for n in range(20)]
    write_csv(tmp_path / "jobs.csv", *many)
    done = run_tool("batch", "jobs.csv", cwd=tmp_path)
    assert_refused(done, 3, "20 files are missing: 0.jpg (line 2), 1.jpg", "8.jpg (line 10), 11 more; put")


def test_missing_files_of_jobs_that_stand_in_no_list_are_told_without_lines(tmp_path):
    with pytest.raises(InputError, match="^1 file is missing: bad.jpg; put"):
        list(run_batch([Job(("bad.jpg",), "nod", "x.mp4")], tmp_path / "report.jsonl"))


def test_a_preview_may_be_named_after_one_picture_as_for_animate(tmp_path):
    row = dict(images="a.jpg", driver="b.mp4", output="x.png", preview="yes")
    assert read_jobs(write_csv(tmp_path / "jobs.csv", row))[0].target == "x.preview.png"
    with pytest.raises(InputError, match="one PNG cannot hold a video"):
        read_jobs(write_csv(tmp_path / "jobs.csv", row | {"preview": "no"}))


def test_a_finished_job_needs_its_files_no_longer(tmp_path, clip):
    (tmp_path / "me.jpg").write_bytes(ASTRONAUT.read_bytes())
    write_csv(tmp_path / "jobs.csv", dict(images="me.jpg", driver=clip, output="x.mp4", max_size=128))
    done = run_tool("batch", "jobs.csv", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "me.jpg").unlink()
    for _ in range(2):  # with the report, and without it
        done = run_tool("batch", "jobs.csv", "--workers", "1", cwd=tmp_path)
        assert done.returncode == 0 and "1 were there already" in done.stdout, done.stderr
        (tmp_path / "jobs.csv.report.jsonl").unlink()
    assert_refused(run_tool("batch", "jobs.csv", "--force", cwd=tmp_path), 3, "1 file is missing: me.jpg (line 2)")
    (tmp_path / "x.mp4").write_bytes(b"broken")
    assert_refused(run_tool("batch", "jobs.csv", cwd=tmp_path), 3, "1 file is missing: me.jpg (line 2)")


def test_a_batch_reports_failures_and_goes_on_where_it_stopped(tmp_path, clip):
    rows = [dict(images=image, driver=clip, max_size=128) for image in (ASTRONAUT, "bad.jpg", MONA_LISA)]
    write_csv(tmp_path / "jobs.csv", *rows)
    done = run_tool("batch", "jobs.csv", "-o", "out/", "--workers", "2", "--keep-going", cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    assert "2 made, 0 were there already, 1 failed" in done.stdout
    assert "out/bad--short.mp4: bad.jpg: no such file" in done.stderr
    names = ["astronaut--short.mp4", "mona_lisa--short.mp4"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    report = [json.loads(line) for line in (tmp_path / "jobs.csv.report.jsonl").read_text().splitlines()]
    assert sorted(entry["exit_code"] for entry in report) == [0, 0, 3]
    assert all(entry["bytes"] == os.path.getsize(entry["output"]) for entry in report if not entry["error"])

    before = [(tmp_path / "out" / name).stat().st_mtime_ns for name in names]
    (tmp_path / "bad.jpg").write_bytes(ASTRONAUT.read_bytes())
    with (tmp_path / "jobs.csv.report.jsonl").open("a") as file:
        file.write('{"images": ["half a li')  # as a run leaves it that is killed while it writes
    done = run_tool("batch", "jobs.csv", "-o", "out/", "--json", "-q", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr
    said = {Path(one["output"]).name: one for one in map(json.loads, done.stdout.splitlines())}
    assert [said[name]["skipped"] for name in names] == [True, True]
    assert said["bad--short.mp4"]["frames"] == 6 and not said["bad--short.mp4"]["skipped"]
    assert before == [(tmp_path / "out" / name).stat().st_mtime_ns for name in names]


def test_ctrl_c_ends_the_workers_and_leaves_nothing_unfinished(tmp_path, clip):
    write_csv(tmp_path / "jobs.csv", dict(images=MONA_LISA, driver=clip, loop=40, output="out/x.mp4"))
    process = start_python("-m", "portrait_anim.commands.tools", "batch", "jobs.csv", "--workers", "1", cwd=tmp_path)
    until(lambda: list(tmp_path.glob("out/.x.partial-*")), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "interrupted" in said
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_impossible_numbers_of_workers(tmp_path, clip):
    write_csv(tmp_path / "jobs.csv", dict(images=ASTRONAUT, driver=clip))
    assert_refused(run_tool("batch", "jobs.csv", "--workers", "0", cwd=tmp_path), 2, "--workers")
    done = run_tool("batch", "jobs.csv", "--weights", "none.safetensors", cwd=tmp_path)
    assert_refused(done, 3, "none.safetensors")
    done = run_tool("batch", "jobs.csv", "--device", "cuba", cwd=tmp_path)
    assert_refused(done, 2, "--device cuba", "did you mean cuda?")
    assert os.listdir(tmp_path) == ["jobs.csv"]


def test_jobs_may_name_a_person_instead_of_photos(tmp_path):
    (tmp_path / "jobs.csv").write_text("images,person,driver\n,anna.safetensors,a.mp4\nbob.jpg,,a.mp4\n")
    jobs = read_jobs(tmp_path / "jobs.csv", str(tmp_path))
    assert [job.images for job in jobs] == [(), ("bob.jpg",)]
    assert [job.output for job in jobs] == [str(tmp_path / name) for name in ("anna--a.mp4", "bob--a.mp4")]
    assert jobs[0].options["person"] == "anna.safetensors"
    (tmp_path / "jobs.csv").write_text("images,person,driver\n,,a.mp4\n")
    with pytest.raises(InputError, match="images is missing"):
        read_jobs(tmp_path / "jobs.csv")
    with pytest.raises(UsageError, match="one output"):
        expand(["anna.jpg"], ["a.mp4", "b.mp4"], options={"save_person": "anna.safetensors"})
