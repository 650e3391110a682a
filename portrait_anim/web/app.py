"""Serve a local web page on which portraits are animated: the command `portrait-anim serve`.

The user drops a portrait, chooses a motion, watches the progress and sees the result.
"""

import re
import secrets
import shutil
import socket
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Form, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from .. import __version__
from ..animation.animator import Animator, default_output
from ..errors import PortraitAnimError, UsageError
from ..media.photo import load_photo
from ..media.reading import probe
from ..motion.builtin import NAMES
from ..system.network import foreign_request
from .queue import Job, Jobs, QueueFull

MB = 1_000_000


def make_app(jobs: Jobs, host: str = "127.0.0.1", max_upload: int = 200) -> FastAPI:
    """Return the application that serves the page and its API.

    host: the address that the server listens on. max_upload: the most MB that portrait and clip may have together.

    POST /jobs (multipart form: portrait, clip or driver, options) answers 201 with {id}. GET /jobs/ID gives state and
    progress, GET /jobs/ID/video the video. DELETE /jobs/ID cancels the job and deletes its files. Errors are objects
    {"error": one sentence}.
    """
    app = FastAPI(title="portrait-anim", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    page = files(__package__).joinpath("page.html").read_text("utf-8")

    @app.middleware("http")
    async def guard(request: Request, call_next) -> Response:
        refused = _refusal(request, host, max_upload)
        response = JSONResponse({"error": refused[1]}, refused[0]) if refused else await call_next(request)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.update({"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"})
        return response

    @app.exception_handler(PortraitAnimError)
    async def known(request: Request, error: PortraitAnimError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 503 if isinstance(error, QueueFull) else 400)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}."}, 400)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    def find(id: str) -> Job:
        job = jobs.get(id)
        if job is None:
            raise HTTPException(404, "This job is not known (any more); start it again.")
        return job

    @app.get("/")
    def index() -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)  # only our own script and style run, whatever names files have
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        return HTMLResponse(page.replace("{{nonce}}", nonce), headers={"Content-Security-Policy": policy})

    @app.get("/info")
    def info() -> dict:
        return {"version": __version__, "motions": NAMES, "max_upload": max_upload}

    @app.post("/jobs", status_code=201)
    def create(
        portrait: UploadFile,
        clip: UploadFile | None = None,
        driver: Annotated[str, Form()] = "",
        face: Annotated[int, Form()] = 1,
        strength: Annotated[float, Form()] = 1.0,
        only: Annotated[list[str], Form()] = [],  # noqa: B006 (FastAPI's way to say "none")
        max_size: Annotated[int, Form()] = 1280,
        teeth: Annotated[bool, Form()] = True,
        audio: Annotated[bool, Form()] = True,
    ) -> dict:
        if clip is None and driver not in NAMES:
            raise UsageError(f"Motion '{driver}' is not known; choose {', '.join(NAMES)} or upload a clip.")
        folder = jobs.new_folder()
        try:
            photo = _save(portrait, folder, "portrait")
            load_photo(photo)  # so that a wrong file is refused at once, not when its turn comes
            moved_by = driver if clip is None else _save(clip, folder, "clip")
            if clip is not None:
                probe(moved_by)
            options = {"face": face, "strength": strength, "only": tuple(only), "max_size": max_size}
            options |= {"teeth": teeth, "audio": audio}
            return {"id": jobs.add(folder, photo, moved_by, options).id}
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, PortraitAnimError) and not isinstance(error, QueueFull):
                raise type(error)(Jobs.sentence(error, folder)) from error
            raise

    @app.get("/jobs/{id}")
    def status(id: str) -> dict:
        job = find(id)
        said = {"state": job.state, "position": jobs.position(job), "message": job.message}
        said |= {"stage": job.step.stage, "done": job.step.done, "total": job.step.total}
        said |= {"seconds_left": job.seconds_left(), "portrait": job.portrait.name}
        if job.result and job.state == "done":
            said["warnings"] = [Jobs.sentence(warning, job.folder) for warning in job.result.warnings]
            said |= {"frames": job.result.frames, "size": job.result.size, "fps": float(job.result.fps)}
            said |= {"seconds": job.result.timings["total"], "name": default_output(job.portrait, job.driver).name}
        return said

    @app.get("/jobs/{id}/video")
    def video(id: str, download: bool = False) -> FileResponse:
        job = find(id)
        if job.state != "done":
            raise HTTPException(404, "This job has no video (yet).")
        name = default_output(job.portrait, job.driver).name
        kind = "attachment" if download else "inline"
        return FileResponse(job.result.output, media_type="video/mp4", filename=name, content_disposition_type=kind)

    @app.delete("/jobs/{id}", status_code=204)
    def delete(id: str) -> None:
        jobs.remove(find(id))

    return app


def _refusal(request: Request, host: str, max_upload: int) -> tuple[int, str] | None:
    """Return status and sentence for a request that must be refused, None for one that may pass."""
    if refused := foreign_request(request.method, request.headers, host):
        return refused
    if request.method == "POST":
        length = request.headers.get("content-length", "")
        if not length.isdecimal():
            return 411, "The upload must say its length."
        if int(length) > max_upload * MB:
            return 413, f"The upload has {int(length) / MB:.0f} MB; at most {max_upload} MB are taken (--max-upload)."
    return None


def _save(upload: UploadFile, folder: Path, kind: str) -> Path:
    """Save an upload in a folder of its own and return its path.

    It keeps its own name as far as that is harmless, because the name appears in messages and in the name of the
    result.
    """
    name = re.sub(r"[^\w .()+-]", "_", Path((upload.filename or "").replace("\\", "/")).name).lstrip(". -")[-80:]
    path = folder / kind / (name or kind)
    path.parent.mkdir()
    with open(path, "wb") as file:
        shutil.copyfileobj(upload.file, file, 1 << 20)
    return path


def serve(
    listener: socket.socket, host: str = "127.0.0.1", max_upload: int = 200, animator: Animator | None = None
) -> None:
    """Serve the page on a socket made by `listen` until a signal arrives.

    Then the running job is stopped and all files are deleted. Raises what the signal's handler raises, for SIGINT
    usually KeyboardInterrupt.
    """
    jobs = Jobs(animator or Animator())
    try:
        config = uvicorn.Config(
            make_app(jobs, host, max_upload),
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        uvicorn.Server(config).run(sockets=[listener])  # shuts down in good order, then raises the signal again
    finally:
        jobs.close()
        listener.close()
