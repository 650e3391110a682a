"""The web page's server, in this process and as the command starts it."""

import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from serving import start_server

from portrait_anim.animation.animator import Animator
from portrait_anim.web import app as web
from portrait_anim.web import queue


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


@pytest.fixture
def server(tmp_path):
    process, address = start_server(cwd=str(tmp_path))
    yield address, process
    process.kill()
    process.communicate()
