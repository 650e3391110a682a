"""The queue of the web page: bounded, and nothing stays in it for ever."""

from pathlib import Path

from fastapi.testclient import TestClient
from serving import send, wait_for
from support import until

from portrait_anim.web import app as web
from portrait_anim.web import queue


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
