"""The page's server in this process: what it shows, whom it refuses, what goes through its WebSocket."""

import contextlib
import json
import struct
from concurrent.futures import CancelledError

import cv2
import numpy as np
import pytest
from clips import noise
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from support import ASTRONAUT, c2pa_reads, until

from portrait_anim.live import connection
from portrait_anim.live.server import make_app
from portrait_anim.live.session import jpeg
from portrait_anim.provenance.marks import Marking

TOKEN = "a-token-of-these-tests"
ADDRESS = "http://127.0.0.1:8421"
OWN = {"Origin": ADDRESS, "Host": "127.0.0.1:8421"}


@pytest.fixture
def client(renderers, tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    app = make_app(renderers, TOKEN, lambda: Marking([ASTRONAUT], "camera"), folder, name="../astro naut", rate=0.1)
    with TestClient(app, base_url=ADDRESS) as made:  # one event loop for all connections
        yield made


class Page:
    """What the page's script does with its socket."""

    def __init__(self, socket):
        self.socket = socket
        self.news: list[dict] = []

    def send_frame(self, image: np.ndarray, milliseconds: float) -> None:
        self.socket.send_bytes(b"\x01" + struct.pack("<d", milliseconds) + jpeg(image))

    def order(self, do: str, **details) -> None:
        self.socket.send_text(json.dumps({"do": do, **details}))

    def hear(self, say: str) -> dict:
        """The next news of this kind."""
        while True:
            message = self.socket.receive()
            if message["type"] == "websocket.close":
                raise WebSocketDisconnect(message["code"])
            if message.get("text"):
                self.news.append(json.loads(message["text"]))
                if self.news[-1]["say"] == say:
                    return self.news[-1]

    def picture(self, milliseconds: float) -> np.ndarray:
        """The portrait that follows the camera's picture of this time."""
        while True:
            data = self.socket.receive().get("bytes")
            if data and struct.unpack_from("<d", data)[0] == pytest.approx(milliseconds):
                return cv2.imdecode(np.frombuffer(data[8:], np.uint8), cv2.IMREAD_COLOR)


@contextlib.contextmanager
def connected(client):
    """A page whose socket is open. At the end the test client cancels what the server still does."""
    with contextlib.suppress(CancelledError), client.websocket_connect(f"/{TOKEN}/socket", headers=OWN) as socket:
        yield Page(socket)


def connected_at_last(client) -> dict:
    """What the server says to a page that comes when another has gone, which it notices after a moment."""
    said = {}

    def is_ready() -> bool:
        with connected(client) as page:
            said.update(json.loads(page.socket.receive_text()))
        return said["say"] == "ready"

    until(is_ready)
    return said


@pytest.fixture
def page(client):
    with connected(client) as page:
        page.ready = page.hear("ready")
        yield page


def test_the_page_and_its_files(client):
    page = client.get(f"/{TOKEN}/")
    assert page.status_code == 200 and "live.js" in page.text and "<script>" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"  # the address is a secret
    texts = [client.get(f"/{TOKEN}/{name}").text for name in ("live.js", "live.css")]
    assert all("http" not in text.replace('.replace("http", "ws")', "") for text in texts)  # nothing from elsewhere
    portrait = client.get(f"/{TOKEN}/portrait.jpg").content
    assert cv2.imdecode(np.frombuffer(portrait, np.uint8), 1).shape == (500, 500, 3)


def test_nothing_without_the_token_and_nothing_else(client):
    for path in ("/", "/x/", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/live.js", "/live.js", "//", f"/x/{TOKEN}/"):
        assert client.get(path).status_code == 404, path
    for name in ("session.py", "..%2f..%2fpyproject.toml", "recordings/1", "recordings/x"):
        assert client.get(f"/{TOKEN}/{name}").status_code in (404, 422), name


def test_foreign_pages_and_names_are_refused(client):
    assert client.get(f"/{TOKEN}/", headers={"Host": "evil.example"}).status_code == 421
    strange = [
        (TOKEN, {}),  # a browser always says its origin
        (TOKEN, {"Origin": "http://evil.example"}),
        (TOKEN, {"Origin": "http://127.0.0.1:1"}),
        (TOKEN, {"Origin": "null"}),
        (TOKEN, {"Origin": "http://evil.example", "Host": "evil.example"}),
        ("guess", OWN),
    ]
    for token, headers in strange:
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect(f"/{token}/socket", headers=headers),
        ):
            pass
        assert refused.value.code == 1008, headers


def test_the_camera_moves_the_portrait(page, faces):
    assert page.ready["options"] == {"strength": 1.0, "mirror": False, "only": []} and page.ready["recordings"] == []
    for t in range(0, 6):
        page.send_frame(faces[t], 40.0 * t)
    shown = page.picture(200.0)
    assert shown.shape == (500, 500, 3)
    page.order("calibrate")
    page.order("change", strength=0.5, mirror=True, only=["eyes", "lips"])
    page.send_frame(faces[6], 280.0)
    assert page.picture(280.0).shape == shown.shape
    status = page.hear("status")
    assert status["given"] == 7 and status["has_face"] and status["size"] == [500, 500]


def test_one_camera_at_a_time_and_the_next_when_it_has_gone(client, page, faces):
    with connected(client) as second:
        assert "another tab or window" in second.hear("error")["text"]
    page.send_frame(faces[0], 40.0)
    page.picture(40.0)  # the first goes on
    page.socket.close()
    connected_at_last(client)


@pytest.mark.parametrize(
    ("send", "words"),
    [
        (b"\x01" + bytes(8) + b"no picture at all", "not a JPEG file"),
        (b"\x01" + bytes(8) + jpeg(np.zeros((2000, 16, 3), np.uint8)), "has 16x2000 px"),
        (b"\x01" + bytes(8) + jpeg(np.zeros((8, 8, 3), np.uint8)), "has 8x8 px"),
        (b"\x01" + bytes(8) + jpeg(noise(1)[0])[:3000], "damaged"),
        ("no order", "not known"),
        ("[1]", "not known"),
        ('{"do": "change", "strength": "much"}', "options that cannot be"),
        ('{"do": "change", "strength": 7}', "--strength 7 is out of range"),
        ('{"do": "change", "only": ["ears"]}', "--only ears"),
        ('{"do": "record"}', "without its time"),
    ],
)
def test_what_no_page_sends_ends_with_one_sentence(page, send, words):
    (page.socket.send_text if isinstance(send, str) else page.socket.send_bytes)(send)
    assert words in page.hear("error")["text"]
    with pytest.raises(WebSocketDisconnect):
        page.hear("error")


def test_a_flood_is_ended(page):
    for _ in range(round(connection.MAX_RATE * connection.MAX_RATE_SECONDS) + 1):
        page.socket.send_bytes(b"\x09")
    assert "messages a second" in page.hear("error")["text"]


def test_strange_but_harmless_messages_are_ignored(page, faces):
    nan = struct.pack("<d", float("nan"))
    for data in (b"", b"\x01", b"\x01" + bytes(4), b"\x02sound without a recording", b"\x01" + nan + jpeg(faces[0])):
        page.socket.send_bytes(data)
    page.order("finish", time=1.0)
    page.order("dance")
    page.send_frame(faces[0], 40.0)
    page.send_frame(faces[1], 10.0)  # earlier than the last
    page.picture(40.0)
    assert page.hear("status")["given"] == 1


def test_a_recording_is_kept_marked_and_offered_again(client, page, faces):
    page.send_frame(faces[0], 0.0)
    page.picture(0.0)
    page.order("record", time=10.0)
    for t in range(1, 6):
        page.send_frame(faces[t], 100.0 * t)
        page.picture(100.0 * t)
    page.order("finish", time=610.0)
    (made,) = page.hear("recorded")["recordings"]
    assert made["seconds"] == pytest.approx(0.6) and made["name"].endswith("--live-1.mp4") and "/" not in made["name"]
    video = client.get(f"/{TOKEN}/recordings/{made['number']}")
    assert video.headers["content-type"] == "video/mp4"
    page.order("record", time=700.0)  # the page goes while it records
    page.send_frame(faces[6], 800.0)
    page.picture(800.0)
    page.socket.close()
    said = connected_at_last(client)
    assert [recording["number"] for recording in said["recordings"]] == [1, 2]


def test_recordings_are_deleted_when_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "MAX_KEPT", 2)
    recordings = connection.Recordings(tmp_path, "x", lambda: Marking([ASTRONAUT], "camera"))
    for _ in range(3):
        made = recordings.begin((64, 48), 0.0)
        made.add(np.zeros((48, 64, 3), np.uint8), 0.0)
        recordings.keep(made.finish(0.2))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x--live-2.mp4", "x--live-3.mp4"]
    assert recordings.get(1) is None and c2pa_reads(recordings.get(3).path)
