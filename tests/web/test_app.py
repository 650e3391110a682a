"""The web page's API as a browser uses it, what it refuses, and the command that serves it."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from serving import send, start_server, wait_for
from support import MONA_LISA, PATIENCE

from portrait_anim.media.reading import probe
from portrait_anim.web import app as web


def test_from_upload_to_download(client, jobs, short_clip, tmp_path):
    made = send(client, clip=short_clip, max_size=320, strength=0.8, only=["eyes", "lips"], audio=False, teeth=False)
    assert made.status_code == 201, made.text
    id = made.json()["id"]
    assert jobs.get(id).options["teeth"] is False
    said = wait_for(client, id, "done", "failed")
    assert said["state"] == "done", said
    assert said["frames"] == 12 and said["size"] == [204, 320] and said["name"] == "mona_lisa--short.mp4"
    assert (said["stage"], said["done"], said["total"]) == ("frames", 12, 12)
    video = client.get(f"/jobs/{id}/video", params={"download": True})
    assert 'attachment; filename="mona_lisa--short.mp4"' in video.headers["content-disposition"]
    saved = tmp_path / "saved.mp4"
    saved.write_bytes(video.content)
    info = probe(saved)
    assert (info.width, info.height, info.has_audio) == (204, 320, False)
    part = client.get(f"/jobs/{id}/video", headers={"Range": "bytes=0-99"})  # a player seeks
    assert part.status_code == 206 and len(part.content) == 100

    folder = jobs.get(id).folder
    assert [file.name for file in folder.rglob("*") if file.is_file()] == ["result.mp4"]  # the uploads are gone
    assert client.delete(f"/jobs/{id}").status_code == 204
    assert not folder.exists()
    assert client.get(f"/jobs/{id}").status_code == 404 and client.get(f"/jobs/{id}/video").status_code == 404


@pytest.mark.parametrize(
    ("portrait", "clip", "options", "words"),
    [
        ("notes.jpg", None, {"driver": "talk"}, "notes.jpg: not an image"),
        ("mona_lisa.jpg", "notes.mp4", {}, "notes.mp4: not a video"),
        ("mona_lisa.jpg", None, {"driver": "nothing"}, "Motion 'nothing' is not known; choose nod, "),
        ("mona_lisa.jpg", None, {"driver": "talk", "strength": "much"}, "strength: Input should be a valid number"),
        ("mona_lisa.jpg", None, {"driver": "../../etc/passwd"}, "is not known"),
        ("../../x/.notes.jpg", None, {"driver": "talk"}, "notes.jpg: not an image"),
    ],
)
def test_unusable_files_and_options_are_refused_at_once(client, jobs, portrait, clip, options, words):
    content = MONA_LISA.read_bytes() if portrait == MONA_LISA.name else b"these are notes, no picture"
    files = {"portrait": (portrait, content)}
    if clip:
        files["clip"] = (clip, b"these are notes, no video")
    before = set(Path(jobs._folder.name).iterdir())
    done = client.post("/jobs", files=files, data=options)
    assert done.status_code == 400
    error = done.json()["error"]
    assert words in error and "/tmp" not in error and jobs._folder.name not in error
    assert set(Path(jobs._folder.name).iterdir()) == before


def test_errors_while_animating_are_one_sentence(client, jobs, short_clip):
    id = send(client, clip=short_clip, face=5).json()["id"]
    said = wait_for(client, id, "failed", "done")
    assert said["state"] == "failed" and said["message"].startswith("mona_lisa.jpg: ") and "face" in said["message"]
    id = send(client, clip=short_clip, only="feet").json()["id"]
    assert "feet" in wait_for(client, id, "failed", "done")["message"]
    assert not list(jobs.get(id).folder.rglob("*.*"))


def test_foreign_pages_and_names_are_refused(client, monkeypatch):
    assert client.get("/info", headers={"Host": "localhost:9000"}).status_code == 200  # a forwarded port
    assert client.get("/info", headers={"Host": "[::1]:8420"}).status_code == 200
    for name in ("evil.example", "evil.example:8420", "127.0.0.1.evil.example", "", "[", "user@evil.example"):
        refused = client.get("/info", headers={"Host": name})
        assert refused.status_code == 421 and "error" in refused.json(), name
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert send(client, driver="talk", headers=headers).status_code == 403, headers
    assert client.delete("/jobs/x", headers={"Origin": "http://127.0.0.1:1"}).status_code == 403
    own = {"Origin": "http://127.0.0.1:8420", "Sec-Fetch-Site": "same-origin"}
    assert client.delete("/jobs/x", headers=own).status_code == 404


def test_machine_name_is_known_only_to_an_open_server(jobs, client):
    name = socket.gethostname()
    assert client.get("/info", headers={"Host": name}).status_code == 421
    opened = TestClient(web.make_app(jobs, "0.0.0.0"), base_url=f"http://{name}:1")
    assert opened.get("/info").status_code == 200
    assert opened.get("/info", headers={"Host": f"{name}.local:1"}).status_code == 200
    assert opened.get("/info", headers={"Host": f"{name}.evil.example"}).status_code == 421


def test_too_large_uploads_are_refused_unread(client, tmp_path):
    big = tmp_path / "big.jpg"
    big.write_bytes(bytes(4_000_000))
    done = send(client, big, driver="talk")
    assert done.status_code == 413 and "at most 3 MB" in done.json()["error"]
    assert client.post("/jobs", content=iter([b"x"])).status_code == 411


def test_command_stops_cleanly_amid_a_job(server, tmp_path):
    import httpx

    address, process = server
    assert address.startswith("http://127.0.0.1:")
    with httpx.Client(base_url=address, timeout=PATIENCE) as client:
        id = send(client, driver="talk").json()["id"]
        wait_for(client, id, "running")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "stopped" in err and "Traceback" not in err, err
    assert not [file for file in tmp_path.iterdir() if file.name.startswith("portrait-anim-")]


def test_command_refuses_what_cannot_be(server, tmp_path):
    address, _ = server
    port = address.rstrip("/").rsplit(":", 1)[1]
    for arguments, words in [
        (["--port", port], "in use"),
        (["--port", "70000"], "--port 70000"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--max-upload", "0"], "--max-upload 0"),
        (["--weights", "nosuch"], "nosuch: there is no such weights file"),
        (["--weights", __file__], "not a safetensors file"),
    ]:
        command = [sys.executable, "-m", "portrait_anim.commands.tools", "serve", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path)
        code = 3 if "--weights" in arguments else 2
        assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_open_host_is_warned_of(tmp_path):
    process, address = start_server("--host", "0.0.0.0", cwd=str(tmp_path))
    assert address.startswith(f"http://{socket.gethostname()}:")
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0 and "warning: everybody who can reach 0.0.0.0" in err and "password" in err, err
