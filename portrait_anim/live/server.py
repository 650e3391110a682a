"""Serve the page on which a camera moves the portrait: the command `portrait-anim live`.

The page sends pictures of the camera through a WebSocket and gets pictures of the portrait back. All of it lies under
a path that only who has the printed address knows.
"""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from .. import __version__
from ..motion.options import MotionOptions
from ..provenance.marks import Marking
from ..system.files import temporary_folder
from ..system.network import foreign_request
from .connection import MAX_MESSAGE, Connection, Recordings
from .session import RATE, jpeg
from .sizes import Pace, RenderersBySize

FILES = {"live.css": "text/css", "live.js": "text/javascript"}
GRACE_SECONDS = 2.0  # that a page waits for another one that is just going, as when it is reloaded
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_app(
    renderers: RenderersBySize,
    token: str,
    make_marking: Callable[[], Marking],
    folder: Path,
    host: str = "127.0.0.1",
    name: str = "portrait",
    options: MotionOptions = MotionOptions(),
    rate: float = RATE,
    threads: int | None = None,
    label: bool = True,
) -> FastAPI:
    """Return the application that serves the page, its WebSocket and the recordings.

    token: the first part of every path, without which nothing is answered. make_marking: gives the marks of one
    recording. folder: for the recordings. host: the address that the server listens on. name: of the portrait, for the
    names of recordings. options, rate, threads, label: as of `LiveSession`.
    """
    app = FastAPI(title="portrait-anim live", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    recordings = Recordings(folder, name, make_marking)
    pace: list[Pace] = []  # of the first session, whose choice of the size the next one begins with
    busy = asyncio.Lock()  # held while a camera moves the portrait

    def text_of(file: str) -> str:
        return files(__package__).joinpath(file).read_text("utf-8")

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = foreign_request(request.method, request.headers, host)
        if refused is None and not _has_token(request.url.path, token):
            refused = 404, "There is nothing here; use the whole address that the command printed."
        response = JSONResponse({"error": refused[1]}, refused[0]) if refused else await call_next(request)
        response.headers.update(
            {
                "Cache-Control": "no-store",
                "Content-Security-Policy": POLICY,
                "Permissions-Policy": "camera=(self), microphone=(self)",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
            }
        )
        return response

    @app.get(f"/{token}/")
    def page() -> HTMLResponse:
        return HTMLResponse(text_of("live.html"))

    @app.get(f"/{token}/portrait.jpg")
    def portrait() -> Response:
        return Response(jpeg(renderers.make(renderers.sizes[0]).portrait.photo), media_type="image/jpeg")

    @app.get(f"/{token}/recordings/{{number}}")
    def recording(number: int) -> Response:
        recorded = recordings.get(number)
        if recorded is None:
            return JSONResponse({"error": "This recording is not there (any more)."}, 404)
        return FileResponse(recorded.path, media_type="video/mp4", filename=recorded.path.name)

    @app.get(f"/{token}/{{file}}")
    def file(file: str) -> Response:
        if file not in FILES:
            return JSONResponse({"error": "There is nothing here."}, 404)
        return Response(text_of(file), media_type=FILES[file])

    @app.websocket("/{given}/socket")
    async def camera(socket: WebSocket, given: str) -> None:
        refused = foreign_request("WEBSOCKET", socket.headers, host)
        if refused or socket.headers.get("origin") is None or not secrets.compare_digest(given, token):
            await socket.close(1008)  # which answers 403 and opens nothing
            return
        await socket.accept()
        connection = Connection(socket, recordings)
        try:
            await asyncio.wait_for(busy.acquire(), GRACE_SECONDS)
        except asyncio.TimeoutError:  # before Python 3.11 another one than TimeoutError
            await connection.end("The camera moves the portrait in another tab or window already; stop it there first.")
            return
        try:
            session = connection.session(renderers, options, rate, threads, pace[0] if pace else None, label)
            pace[:] = [session.pace]
            await connection.run(session)
        finally:
            busy.release()

    return app


def _has_token(path: str, token: str) -> bool:
    return secrets.compare_digest(path.split("/")[1].encode(), token.encode())


def serve(listener: socket.socket, token: str, renderers: RenderersBySize, **settings) -> None:
    """Serve the page on a socket made by `listen` until a signal arrives, then delete all recordings.

    settings: the further parameters of `make_app`. Raises what the signal's handler raises, for SIGINT usually
    KeyboardInterrupt.
    """
    with temporary_folder() as folder:
        app = make_app(renderers, token, folder=Path(folder), **settings)
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            ws_max_size=MAX_MESSAGE,
            ws_max_queue=4,
            ws_ping_interval=5,  # a browser that has gone without a word is noticed after at most 10 s
            ws_ping_timeout=5,
            ws_per_message_deflate=False,  # pictures are compressed already
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])  # shuts down in good order, then raises the signal again
        finally:
            listener.close()
            renderers.close()
