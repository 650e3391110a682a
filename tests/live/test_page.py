"""The page in a real Chromium, whose camera is fed from the bundled clip."""

import contextlib
import signal
from pathlib import Path

import numpy as np
import pytest
from clips import ffmpeg
from serving import CHROMIUM, in_chromium, start_server
from support import ASTRONAUT, CLIP, PATIENCE, c2pa_reads, read_frames, until

from portrait_anim.media.reading import probe
from portrait_anim.provenance.verify import verify_file

PICTURES = 5  # so many new ones, and the portrait moves


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The command, and its address."""
    folder = tmp_path_factory.mktemp("server")
    process, address = start_server(ASTRONAUT, "--max-size", 400, "--no-browser", cwd=str(folder), tool="live")
    yield address
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0 and "stopped" in said and "Traceback" not in said, said
    assert not list(folder.iterdir())  # recordings, too, are gone


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """What Chromium takes for a camera."""
    path = tmp_path_factory.mktemp("camera") / "clip.mjpeg"
    ffmpeg("-i", CLIP, "-t", "3", "-vf", "scale=320:240", "-an", "-q:v", "4", path)
    return path


@pytest.fixture(scope="module")
def playwright():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        yield running


class Live:
    """A page as its user sees it. problems: errors of its script. asked: the addresses that it asked for."""

    def __init__(self, page, address: str):
        self.page, self.address = page, address
        self.problems, self.asked = [], []
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url.replace("ws://", "http://")))
        # Counts the pictures that are drawn: one per message, as the page itself does.
        page.add_init_script(
            "window.drawn = 0; const draw = CanvasRenderingContext2D.prototype.drawImage;"
            "CanvasRenderingContext2D.prototype.drawImage = function (image, ...at) {"
            "  if (this.canvas.id === 'portrait') window.drawn++; return draw.call(this, image, ...at); };"
        )
        page.goto(address)

    def start(self) -> None:
        self.page.get_by_role("button", name="Start the camera").click()

    def start_at_last(self) -> None:
        """Start as soon as the server has noticed that another page is gone."""

        def starts() -> bool:
            self.start()
            self.page.locator("body[data-state=live], #error:not([hidden])").first.wait_for()
            return self.page.locator("body[data-state=live]").count() == 1

        until(starts)

    def lives(self) -> None:
        """The portrait gets new pictures."""
        self.page.locator("body[data-state=live]").wait_for()
        begin = self.drawn()
        until(lambda: self.drawn() >= begin + PICTURES)

    def drawn(self) -> int:
        """How often the portrait was drawn."""
        return self.page.evaluate("window.drawn")

    def is_told(self, words: str) -> None:
        """The page says these words, and nothing is left of the camera."""
        self.page.get_by_role("alert").get_by_text(words).wait_for()
        assert self.page.get_by_role("button", name="Start the camera").is_enabled()
        assert self.page.evaluate("document.getElementById('camera').srcObject === null && socket === null")


@pytest.fixture(scope="module")
def browser(playwright, clip):
    flags = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={clip}"]
    running = playwright.chromium.launch(
        executable_path=CHROMIUM, args=["--no-sandbox", "--use-fake-ui-for-media-stream", *flags]
    )
    yield running
    running.close()


@pytest.fixture
def live(browser, server):
    context = browser.new_context(viewport={"width": 390, "height": 844})  # a phone
    opened = Live(context.new_page(), server)
    yield opened
    context.close()
    assert not opened.problems
    assert all(url.startswith((server, "blob:", "data:")) for url in opened.asked), opened.asked


@in_chromium
def test_the_camera_moves_the_portrait_and_is_recorded(live, tmp_path):
    page = live.page
    until(lambda: live.drawn() == 1)  # the portrait as it is, before anything moves
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing sticks out
    assert page.get_by_role("button", name="Calibrate").is_disabled()
    live.start()
    live.lives()
    page.get_by_text("400 × 400 px").or_(page.get_by_text("384 × 384 px")).wait_for()  # it says its size

    page.get_by_role("button", name="Calibrate").click()
    page.get_by_role("status").get_by_text("Look straight at the camera").wait_for()
    mirrored = lambda: "mirrored" in (page.get_attribute("body", "class") or "")
    assert mirrored()
    page.get_by_role("switch", name="Move like my mirror image").uncheck()
    assert not mirrored()
    page.get_by_label("Strength").fill("1.5")
    for part in ("Head", "Lips", "Eyes"):
        page.locator("label", has_text=part).click()
    assert page.get_by_label("Eyes").is_checked()  # the last one stays
    live.lives()

    page.get_by_role("button", name="Record").click()
    page.locator("#rec-time", has_text="0:02").wait_for()
    page.get_by_role("button", name="Finish the recording").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="astronaut--live-").click()
    saved = tmp_path / "saved.mp4"
    download.value.save_as(saved)
    info = probe(saved)
    assert info.has_audio and info.width in (400, 384)
    frames = read_frames(saved)
    assert 25 <= len(frames) and np.abs(np.diff(frames[:: len(frames) // 4].astype(int), axis=0)).max() > 20
    samples = np.frombuffer(ffmpeg("-i", saved, "-f", "s16le", "-ac", "1", "-ar", "8000", "-"), np.int16)
    assert len(samples) / 8000 == pytest.approx(len(frames) / 25, abs=0.3)
    assert np.abs(samples.astype(int)).max() > 500  # Chromium's microphone beeps
    assert verify_file(saved, None).verdict == "intact" and c2pa_reads(saved)

    page.get_by_role("switch", name="with my voice").uncheck()
    page.get_by_role("button", name="Record").click()
    live.lives()
    page.get_by_role("button", name="Stop").click()  # amid a recording, which is finished first
    page.get_by_role("button", name="Start the camera").wait_for()
    assert page.get_by_role("link", name="astronaut--live-").count() == 2
    assert page.get_by_role("alert").is_hidden()


@in_chromium
def test_a_camera_that_is_unplugged(live):
    live.start()
    live.lives()
    live.page.evaluate(
        "const track = document.getElementById('camera').srcObject.getVideoTracks()[0];"
        "track.stop(); track.dispatchEvent(new Event('ended'))"
    )
    live.is_told("The camera was unplugged or taken away")
    live.start_at_last()
    live.lives()


@in_chromium
def test_a_page_that_is_reloaded_amid_a_recording(live):
    live.start()
    live.lives()
    live.page.get_by_role("button", name="Record").click()
    live.page.locator("#rec-time").wait_for()
    live.lives()
    live.page.reload()
    live.start_at_last()
    live.lives()
    live.page.get_by_role("link", name="astronaut--live-").last.wait_for()  # what was recorded is there


@in_chromium
def test_two_tabs(live, server):
    live.start()
    live.lives()
    second = Live(live.page.context.new_page(), server)
    second.start()
    second.is_told("in another tab or window already")
    live.lives()  # the first goes on
    live.page.get_by_role("button", name="Stop").click()
    second.start_at_last()
    second.lives()
    assert not second.problems


@in_chromium
def test_a_slow_machine_leaves_pictures_out_and_queues_none(live):
    session = live.page.context.new_cdp_session(live.page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": 8})
    live.start()
    live.lives()
    live.page.evaluate(
        "window.most = 0; const asked = setInterval(() => { most = Math.max(most, socket?.bufferedAmount ?? 0); }, 20)"
    )
    live.lives()
    assert live.page.evaluate("window.most") <= live.page.evaluate("MOST_WAITING") + 100_000  # one picture above it
    session.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    live.lives()


@in_chromium
def test_permission_denied_no_camera_and_a_server_that_has_gone(playwright, tmp_path):
    process, address = start_server(ASTRONAUT, "--max-size", 400, "--no-browser", cwd=str(tmp_path), tool="live")
    with contextlib.ExitStack() as stack:
        stack.callback(process.communicate)
        stack.callback(process.kill)
        for flags, words in (
            (["--use-fake-device-for-media-stream"], "The browser may not use the camera"),
            (["--use-fake-ui-for-media-stream"], "No camera was found"),
        ):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
            denied = Live(browser.new_page(), address)
            denied.start()
            denied.is_told(words)
            assert not denied.problems
            browser.close()
        flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
        lost = Live(browser.new_page(), address)
        lost.start()  # Chromium's own test picture, in which nobody is
        lost.page.get_by_text("No face is seen").wait_for()
        process.kill()
        lost.is_told("The server does not answer any more")
        browser.close()
