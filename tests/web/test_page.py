"""The page itself: it loads nothing from elsewhere, and works in a real Chromium."""

import re

from serving import CHROMIUM, in_chromium
from support import CLIP, MONA_LISA, PATIENCE

from portrait_anim.media.reading import probe


def test_page_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert page.text.count(f'nonce="{nonce}"') == 2 and "{{nonce}}" not in page.text
    addresses = re.findall(r"https?://[^'\"]+|(?:src|href)=\"(?!data:)[^\"]+|url\([^)]+", page.text)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}


@in_chromium
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
