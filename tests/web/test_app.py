"""The web page: its API as a browser uses it, what it refuses, and the page itself in a real Chromium."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CLIP, MONA_LISA, PATIENCE, start_python, until
from fastapi.testclient import TestClient

from portrait_anim.animation.animator import Animator
from portrait_anim.media.reading import probe
from portrait_anim.web import app as web
from portrait_anim.web import queue

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def jobs():
    made = queue.Jobs(Animator())
    yield made
    made.close()
    assert not Path(made._folder.name).exists()


@pytest.fixture
def client(jobs):
    return TestClient(web.make_app(jobs, max_upload=3), base_url="http://127.0.0.1:8420")


@pytest.fixture
def held(monkeypatch):
    """Jobs whose animator runs until it is cancelled, as a very long clip would."""

    class Endless(Animator):
        def animate(self, images, driver, output, *, progress, **options):
            for done in range(100_000):
                time.sleep(0.01)
                progress(queue.Progress("frames", done, None))

    made = queue.Jobs(Endless())
    yield made
    made.close()
    assert not Path(made._folder.name).exists()


def send(client, portrait: Path = MONA_LISA, clip: Path | None = None, headers=None, **options):
    files = {"portrait": (portrait.name, portrait.read_bytes())}
    if clip:
        files["clip"] = (clip.name, clip.read_bytes())
    return client.post("/jobs", files=files, data=options, headers=headers)


def wait_for(client, id: str, *states: str) -> dict:
    """What the server says of a job when it is in one of these states."""
    said = {}

    def arrived() -> bool:
        said.update(client.get(f"/jobs/{id}").json())
        return said["state"] in states

    until(arrived)
    return said


def test_from_upload_to_download(client, jobs, short_clip, tmp_path):
    made = send(client, clip=short_clip, max_size=320, strength=0.8, only=["eyes", "lips"], audio=False)
    assert made.status_code == 201, made.text
    id = made.json()["id"]
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


def test_queue_is_bounded_and_jobs_can_be_cancelled(held):
    client = TestClient(web.make_app(held), base_url="http://localhost")
    ids = [send(client, driver="talk").json()["id"]]
    wait_for(client, ids[0], "running")
    ids += [send(client, driver="talk").json()["id"] for _ in range(queue.MAX_WAITING)]
    assert len(set(ids)) == len(ids) and min(map(len, ids)) >= 20
    full = send(client, driver="talk")
    assert full.status_code == 503 and "4 jobs are waiting" in full.json()["error"]
    assert len(list(Path(held._folder.name).iterdir())) == len(ids)
    assert client.get(f"/jobs/{ids[3]}").json()["position"] == 3
    assert client.delete(f"/jobs/{ids[2]}").status_code == 204  # one that waits
    assert client.get(f"/jobs/{ids[3]}").json()["position"] == 2
    assert client.delete(f"/jobs/{ids[0]}").status_code == 204  # the one that runs
    wait_for(client, ids[1], "running")
    assert client.get(f"/jobs/{ids[0]}").status_code == 404
    assert len(list(Path(held._folder.name).iterdir())) == 3


def test_abandoned_jobs_end_and_old_videos_go(held, monkeypatch):
    client = TestClient(web.make_app(held), base_url="http://localhost")
    running, waiting = (held.get(send(client, driver="talk").json()["id"]) for _ in range(2))
    wait_for(client, running.id, "running")
    waiting.seen -= queue.ABANDONED_SECONDS
    running.seen -= queue.ABANDONED_SECONDS
    until(lambda: running.state == "cancelled" and not waiting.folder.exists())
    running.changed -= queue.KEEP_SECONDS
    with held._changed:
        held._changed.notify()
    until(lambda: not running.folder.exists())


def test_page_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert page.text.count(f'nonce="{nonce}"') == 2 and "{{nonce}}" not in page.text
    addresses = re.findall(r"https?://[^'\"]+|(?:src|href)=\"(?!data:)[^\"]+|url\([^)]+", page.text)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}


# ---------------------------------------------------------------- the command


def start_server(*arguments, cwd) -> tuple[subprocess.Popen, str]:
    command = ["-m", "portrait_anim.commands.tools", "serve", "--port", "0", *arguments]
    process = start_python(*command, cwd=cwd, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": cwd})
    return process, process.stdout.readline().split()[0]


@pytest.fixture
def server(tmp_path):
    process, address = start_server(cwd=str(tmp_path))
    yield address, process
    process.kill()
    process.communicate()


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
    ]:
        command = [sys.executable, "-m", "portrait_anim.commands.tools", "serve", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_open_host_is_warned_of(tmp_path):
    process, address = start_server("--host", "0.0.0.0", cwd=str(tmp_path))
    assert address.startswith(f"http://{socket.gethostname()}:")
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0 and "warning: everybody who can reach 0.0.0.0" in err and "password" in err, err


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="the package playwright is not installed")
def test_page_in_chromium(server, short_clip, tmp_path):
    from playwright.sync_api import sync_playwright

    address, _ = server
    notes = tmp_path / "notes.jpg"
    notes.write_text("no picture")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})  # a phone
        page.set_default_timeout(PATIENCE * 1000)
        problems, asked = [], []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.get_by_text("your own clip").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing sticks out
        animate = page.get_by_role("button", name="Animate")
        assert animate.is_disabled() and page.get_by_text("Choose a portrait first.").is_visible()

        page.get_by_label("Drop a photo or painting").set_input_files(notes)  # found by its label, as a reader does
        animate.click()
        page.get_by_role("alert").get_by_text("notes.jpg: not an image").wait_for()
        page.get_by_role("button", name="Back").click()

        page.locator("#portrait").set_input_files(MONA_LISA)
        page.get_by_text("your own clip").click()
        page.locator("#clip").set_input_files(short_clip)
        page.get_by_text("Options").click()
        page.get_by_label("Longer side").select_option("640")
        page.locator("#start").focus()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Cancel").wait_for()
        page.get_by_role("link", name="Download").wait_for()
        page.get_by_text("12 frames").wait_for()
        video = page.locator("video#video")
        plays = "v.readyState >= 2 ? done(true) : (v.onloadeddata = () => done(true), setTimeout(done, 300_000, false))"
        assert video.evaluate(f"v => new Promise(done => {plays})")
        assert video.evaluate("v => [v.videoWidth, v.videoHeight, v.error]") == [410, 640, None]
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        assert download.value.suggested_filename == "mona_lisa--short.mp4"
        download.value.save_as(tmp_path / "down.mp4")
        assert probe(tmp_path / "down.mp4").width == 410

        page.reload()  # the job is found again
        page.get_by_role("link", name="Download").wait_for()
        page.get_by_role("button", name="Delete it").click()
        page.get_by_text("The living portrait appears here.").wait_for()

        page.locator("#portrait").set_input_files(MONA_LISA)  # a long one, cancelled
        page.get_by_text("your own clip").click()
        page.locator("#clip").set_input_files(CLIP)
        animate.click()
        page.locator("#stage-text", has_text="Animating").wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("The living portrait appears here.").wait_for()
        browser.close()
    assert not problems
    assert all(url.startswith((address, "blob:", "data:")) for url in asked), asked
