"""The pages: they open from a file, load nothing from elsewhere, and work in a real Chromium."""

import errno
import importlib.util
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from support import PATIENCE, clip_frames, run_tool, write_video

from portrait_anim.errors import InputError, OutputError
from portrait_anim.evaluation.blind import blind
from portrait_anim.evaluation.pages import page_folder
from portrait_anim.evaluation.report import Report
from portrait_anim.evaluation.tables import Column, Table

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_chromium = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None, reason="no Chromium or no playwright here"
)
HOSTILE = '</script><b id="bad">'  # as a folder of clips may be named


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """opened(path): the page of a file; at the end nothing may have failed or come from elsewhere."""
    problems, asked = [], []
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(PATIENCE * 1000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: problems.append(f"{request.url} {request.failure}"))

    def open_page(path):
        page.goto(path.as_uri())
        return page

    yield open_page
    page.close()
    assert not [p for p in problems if "ERR_ABORTED" not in p], problems  # a video that is left is aborted
    assert all(url.startswith(("file:", "blob:", "data:")) for url in asked), asked


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page of three pairs with two methods and a clip, as an evaluation writes it."""
    folder = tmp_path_factory.mktemp("report")
    with Report(folder, rivals=("model", "other weights")) as page:
        write_report(page)
    return folder / "report.html"


def write_report(page: Report) -> None:
    frames = [cv2.resize(frame, (512, 512)) for frame in clip_frames()[20:26]]
    columns = [Column("l1", "L1", 2), Column("ssim", "SSIM", 3, "high"), Column("sharp", "face", 2, "one")]
    values = [(3.0, 0.9, 0.5), (9.0, 0.5, 1.0), (5.0, float("nan"), 2.5)]
    for name, (l1, ssim, sharp) in zip(("first", "worst", HOSTILE), values):
        pictures = {kind: frame for kind, frame in zip(("true frame", "model", "other weights"), frames)}
        model, other = dict(l1=l1, ssim=ssim, sharp=sharp), dict(l1=l1 / 2, ssim=ssim, sharp=1.0)
        page.add_item("T = 1", name, pictures, {"model": model, "other weights": other})
    page.add_clip("T = 1", "first", {"true frame": frames, "model": frames, "other weights": frames[::-1]})
    rows = {"model": dict(l1=5.67, ssim=0.7, sharp=1.1), "other weights": dict(l1=2.83, ssim=None, sharp=1.0)}
    table = Table(
        "T = 1. Whole picture", "a note", tuple(columns), rows, {"model": dict(l1=1.2, ssim=None, sharp=None)}
    )
    page.write("Held-out people", [HOSTILE], [table], columns, "true frame", "model", "model", "l1")


def test_a_page_that_is_interrupted_leaves_only_what_was_there_before(tmp_path):
    frames = clip_frames()[:2, :64, :64]
    (tmp_path / "page" / "pictures").mkdir(parents=True)
    (tmp_path / "page" / "pictures" / "own.jpg").touch()
    with pytest.raises(KeyboardInterrupt), Report(tmp_path / "page") as page:
        page.add_item("all", "one", {"photo": frames[0]}, {})
        page.add_clip("all", "one", {"photo": frames})
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "page").rglob("*")] == ["pictures", "own.jpg"]
    with pytest.raises(KeyboardInterrupt), Report(tmp_path / "new"):
        raise KeyboardInterrupt
    assert not (tmp_path / "new").exists()


def files_in(folder) -> dict:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_page_takes_the_place_of_the_old_one_when_it_is_whole(tmp_path):
    frames, folder = clip_frames()[:4, :64, :64], tmp_path / "page"
    table = Table("Table", "a note", (Column("l1", "L1", 2),), {"model": {"l1": 1.0}})

    def write(names: str, values: float) -> None:
        with Report(folder, rivals=("model", "other")) as page:
            for name in names:
                page.add_item("all", name, {"photo": frames[0], "model": frames[1]}, {"model": {"l1": values}})
            page.add_clip("all", "one", {"model": frames, "other": frames[::-1]})
            if values < 0:
                raise KeyboardInterrupt
            page.write("Title", [], [table], table.columns, "photo", "model", "model", "l1")

    write("ab", 1.0)
    (folder / "pictures" / "own.jpg").write_bytes(b"mine")
    (folder / "videos" / "own.mp4").write_bytes(b"mine")
    before = files_in(folder)
    with pytest.raises(KeyboardInterrupt):
        write("bc", -1.0)
    assert files_in(folder) == before
    write("bc", 2.0)
    after = files_in(folder)
    pictures = {name.removeprefix("pictures/") for name in after if name.startswith("pictures/")}
    assert pictures == {f"all-{n}-{k}.jpg" for n in "bc" for k in ("0-photo", "1-model")} | {"own.jpg"}
    assert after["pictures/own.jpg"] == after["videos/own.mp4"] == b"mine" and b'"l1": 2.0' in after["report.html"]
    assert len([name for name in after if name.startswith("blind/videos/")]) == 2  # and not those of before
    assert after["blind/blind.html"] != before["blind/blind.html"] and not [n for n in after if ".partial-" in n]


def test_the_page_is_one_file_beside_its_pictures(report):
    text = report.read_text()
    addresses = re.findall(r"https?://[^'\"]+|(?:src|href)=\"[^\"]+|url\([^)]+", text)
    assert set(addresses) == {"http://www.w3.org/2000/svg", 'href="blind/blind.html'}
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    files = [p["file"] for item in data["items"] for p in item["pictures"]] + [c["file"] for c in data["clips"]]
    assert len(files) == 10 and all((report.parent / file).is_file() for file in files)
    assert all(re.fullmatch(r"[\w/.-]+", file) for file in files)


@in_chromium
def test_the_report_in_chromium(report, opened):
    page = opened(report)
    assert page.locator("#tables td.best").all_inner_texts() == ["2.83", "1.00"]
    assert page.get_by_text("5.67 ±1.20").is_visible() and page.locator("#bad").count() == 0
    names = page.locator("#list button span:first-child").all_inner_texts()
    assert names == ["worst", HOSTILE, "first"]  # by L1 of the model
    above = page.locator("#above")
    assert above.evaluate("i => i.decode().then(() => [i.naturalWidth, i.naturalHeight])") == [512, 512]
    assert "worst" in above.get_attribute("src")
    page.keyboard.press("ArrowDown")
    assert page.locator("#list button[aria-current=true] span").first.inner_text() == HOSTILE
    page.locator("#metric").select_option("SSIM")  # what could not be measured comes last
    assert page.locator("#list button span:first-child").all_inner_texts() == ["worst", "first", HOSTILE]
    assert page.locator("#plot circle").count() == 4
    before = page.locator("#handle").bounding_box()["x"]
    page.locator("#stage").click(position={"x": 100, "y": 100})
    assert page.locator("#handle").bounding_box()["x"] < before - 50
    page.locator("#right").select_option("other weights")
    assert "other-weights" in above.get_attribute("src")
    video = page.locator(".clip video")
    video.scroll_into_view_if_needed()
    playing = "v => new Promise(done => { v.ontimeupdate = () => v.currentTime && done(v.videoWidth); })"
    assert video.evaluate(playing) == 3 * 512
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing sticks out on a phone
    page.get_by_role("link", name="Judge the two").click()
    page.get_by_text("Which of the two videos").wait_for()


@pytest.fixture(scope="module")
def two_methods(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods")
    for method in ("ours", "theirs"):
        (folder / method).mkdir()
        for n in range(5):
            shade = np.full((4, 64, 64, 3), 40 + 120 * (method == "ours"), np.uint8)
            write_video(folder / method / f"clip{n}.mp4", shade)
    write_video(folder / "theirs" / "alone.mp4", np.zeros((4, 64, 64, 3), np.uint8))
    return folder


@in_chromium
def test_the_blind_page_in_chromium(two_methods, tmp_path, opened):
    """Whoever always takes the videos of one method prefers it, on whichever side they were."""
    done = run_tool("blind", "ours", "theirs", "--out", tmp_path / "page", cwd=two_methods)
    assert done.returncode == 0 and "alone: not in the other folder" in done.stderr, done.stderr
    page = opened(tmp_path / "page" / "blind.html")
    shown = """async id => {
        const video = document.getElementById(id);
        while (video.readyState < 2) await new Promise(done => setTimeout(done, 20));
        return video.currentSrc;
    }"""
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.content(), re.DOTALL)[1])
    ours = {pair["files"][0] for pair in data["pairs"]}
    for number in range(5):
        assert "ours" not in page.locator("#asking").inner_text()
        left = page.evaluate(shown, "left").split("/page/")[1]
        right = page.evaluate(shown, "right").split("/page/")[1]
        assert (left in ours) != (right in ours)
        if number == 3:
            page.keyboard.press("ArrowRight" if left in ours else "ArrowLeft")  # a slip, taken back
            page.keyboard.press("Backspace")
        if number == 4:
            page.reload()  # the answers so far are kept
            assert page.locator("#progress").evaluate("p => p.value") == 4
            page.keyboard.press("ArrowDown")
        else:
            page.keyboard.press("ArrowLeft" if left in ours else "ArrowRight")
    verdict = page.locator("#verdict").inner_text()
    assert "ours was better in 100 % of the decided pairs" in verdict and "51 % to 100 %" in verdict  # Wilson, 4 of 4
    assert "0.125" in verdict  # the sign test: 2 / 2^4
    assert page.locator("#counts").inner_text() == "ours: 4, theirs: 0, no difference: 1."
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as JSON").click()
    download.value.save_as(tmp_path / "judgement.json")
    saved = json.loads((tmp_path / "judgement.json").read_text())
    assert saved["wins"] == [4, 0] and saved["ties"] == 1 and len(saved["pairs"]) == 5


def test_the_names_of_the_blind_videos_tell_nothing(two_methods, tmp_path):
    page = blind(two_methods / "ours", two_methods / "theirs", tmp_path)
    names = sorted(path.name for path in (tmp_path / "videos").iterdir())
    assert len(names) == 10 and all(re.fullmatch(r"[0-9a-f]{12}\.mp4", name) for name in names)
    assert "https://" not in page.read_text() and "http://" not in page.read_text()


def test_a_new_blind_page_takes_the_place_of_the_old_one_when_it_is_whole(two_methods, tmp_path):
    shutil.copytree(two_methods, tmp_path, dirs_exist_ok=True)
    folder, given = tmp_path / "page", (tmp_path / "ours", tmp_path / "theirs", tmp_path / "page")
    blind(*given)
    before = files_in(folder)
    whole = (tmp_path / "theirs" / "clip4.mp4").read_bytes()
    (tmp_path / "theirs" / "clip4.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="clip4.mp4: not a video"):
        blind(*given)
    assert files_in(folder) == before
    (tmp_path / "theirs" / "clip4.mp4").write_bytes(whole)
    blind(*given)
    after = files_in(folder)
    assert len(after) == 11 and set(after) & set(before) == {"blind.html"}


@pytest.mark.parametrize(
    "a, b, sentence",
    [
        ("ours", "nowhere", "nowhere: is no folder"),
        ("ours", "empty", "have no videos of the same names"),
        ("ours", "broken", "clip0.mp4: not a video"),
    ],
)
def test_folders_that_cannot_be_judged(two_methods, tmp_path, a, b, sentence):
    shutil.copytree(two_methods, tmp_path, dirs_exist_ok=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "clip0.mp4").write_bytes(b"no video")
    done = run_tool("blind", a, b, "--out", "page", cwd=tmp_path)
    assert done.returncode == 3 and sentence in done.stderr, done.stderr
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize("option", ["--report", "--out"])
def test_a_folder_that_cannot_be_made(option, tmp_path, shards, tiny):
    (tmp_path / "taken").write_text("")
    done = run_tool("evaluate", shards, "--weights", tiny, option, "taken", cwd=tmp_path)
    assert done.returncode == 4 and "cannot be made" in done.stderr and "taken" in done.stderr, done.stderr


def test_a_disk_that_fills_up_is_said_of_the_folder_and_other_faults_are_not(tmp_path):
    folder = tmp_path / "page"
    for given, expected in (
        (OSError(errno.ENOSPC, "No space left on device"), OutputError),  # of a write: it names no file
        (OSError(errno.ENOSPC, "No space left on device", "in.mp4", None, f"{folder}/x"), OutputError),  # of a copy
        (FileNotFoundError(errno.ENOENT, "No such file", "clip.mp4"), FileNotFoundError),
    ):
        with pytest.raises(expected), page_folder(folder):
            raise given
        assert not folder.exists()
