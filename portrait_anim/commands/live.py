"""The command `portrait-anim live`: a thin layer over `portrait_anim.live`."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from .console import Display, say


def live(
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="The portrait; more photos of the same person may follow."),
    ] = None,
    window: Annotated[
        bool, typer.Option("--window", help="Show it in a window of the desktop, not in the browser.")
    ] = False,
    virtual_camera: Annotated[
        bool, typer.Option("--virtual-camera", help="Show it to other programs as a camera; needs the extra `live`.")
    ] = False,
    camera: Annotated[
        int | None, typer.Option(help="Number of the camera for --window and --virtual-camera. Default: 0.")
    ] = None,
    mirror: Annotated[bool, typer.Option(help="Move like your mirror image.")] = True,
    strength: Annotated[float, typer.Option(help="How strongly the portrait moves, 0 to 3; 1 is like you.")] = 1.0,
    only: Annotated[
        list[str] | None, typer.Option(help="Move only this part: head, face, eyes or lips. May be repeated.")
    ] = None,
    max_turn: Annotated[float, typer.Option(help="Degrees; larger turns are bent softly towards it.")] = 40.0,
    rate: Annotated[
        float | None,
        typer.Option(help="Pictures a second to hold, by a smaller size if need be. Default: 24 with bf16, else 15."),
    ] = None,
    max_size: Annotated[int, typer.Option(help="Longer side at most, px.")] = 1280,
    face: Annotated[int, typer.Option(help="Which face of the portrait, 1 is the largest.")] = 1,
    tracker: Annotated[
        str, typer.Option(help="What finds the face in the photo: auto, mediapipe or face-alignment, as for animate.")
    ] = "auto",
    background: Annotated[str, typer.Option(help="still, or warp: it moves with the head.")] = "still",
    teeth: Annotated[
        bool, typer.Option(help="Invent teeth when a mouth opens that is closed in all photos; --no-teeth for babies.")
    ] = True,
    person: Annotated[str | None, typer.Option(help="A file of animate --save-person, instead of photos.")] = None,
    label: Annotated[bool, typer.Option(help="Write a small 'AI' into a corner of every picture.")] = True,
    private: Annotated[
        bool, typer.Option("--private", help="Leave the portrait's name out of the manifest of recordings.")
    ] = False,
    sign_cert: Annotated[str | None, typer.Option(help="Your certificate (PEM) to sign recordings.")] = None,
    sign_key: Annotated[str | None, typer.Option(help="Its private key (PEM).")] = None,
    host: Annotated[
        str, typer.Option(help="Address the page listens on; the default is reached from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the page, 0 for any free one.")] = 8421,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    weights: Annotated[Path | None, typer.Option(help="Weights file. Default: the one that ships.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Pictures made at the same time. Default: one per core.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors and the address.")] = False,
) -> None:
    """Your camera moves the portrait, at once: on a page in the browser, in a window, or as a camera for calls.

    Ctrl-C stops it. Nothing is stored unless you record. In calls say that what is seen is synthetic.
    """
    if camera is not None and not (window or virtual_camera):
        raise UsageError(
            "--camera goes with --window or --virtual-camera; in the browser the page asks for the camera."
        )
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads} is impossible; choose 1 or more.")
    if camera is not None and camera < 0:
        raise UsageError(f"--camera {camera} is impossible; cameras are counted from 0.")
    on_page = not (window or virtual_camera)
    if on_page:
        try:
            import websockets  # noqa: F401 (uvicorn needs it, and would only refuse the page's socket)

            from ..live import server
        except ModuleNotFoundError as error:
            raise UsageError(f"The web page needs {error.name}; install it by: pip install '.[live]'.") from error
    from ..animation.options import Options
    from ..live.person import load_person
    from ..live.sizes import RenderersBySize
    from ..motion.options import MotionOptions
    from ..provenance.marks import Marking

    motion = dict(strength=strength, only=tuple(only or ()), mirror=mirror, max_turn=max_turn)
    of_photo = dict(face=face, tracker=tracker, max_size=max_size, background=background, person=person)
    options = Options(**of_photo, teeth=teeth, finetune="off", **motion)
    shown = [*(images or []), *options.stand_ins()]
    make_marking = lambda: Marking(shown, "camera", private, sign_cert, sign_key)
    make_marking()  # what is wrong with a certificate is said now
    listener = _listener(host, port, quiet) if on_page else None
    screens = _Screens(window, virtual_camera, f"{Path(shown[0]).name if shown else ''} - portrait-anim live")
    with Display(quiet) as display:
        job = object()
        loaded = load_person(
            images or [], options, weights, device, precision, rate, lambda step: display.progress(job, step)
        )
    for warning in () if quiet else loaded.warnings:
        say(f"warning: {warning}")
    renderers, transfer = RenderersBySize(loaded.person, options.teeth), MotionOptions(**motion)
    settings = dict(options=transfer, rate=loaded.rate, threads=threads, label=label)
    try:
        if listener is not None:
            token = secrets.token_urlsafe(16)
            name = Path(shown[0]).stem
            _announce(listener, host, token, browser)
            server.serve(listener, token, renderers, make_marking=make_marking, host=host, name=name, **settings)
        else:
            screens.run(renderers, camera or 0, settings, quiet)
    except KeyboardInterrupt:  # the usual way to stop
        pass
    say("stopped" + ("; all recordings were deleted" if on_page else ""))


def _listener(host: str, port: int, quiet: bool):
    from ..system.network import is_loopback, listen

    listener = listen(host, port)
    if not is_loopback(host) and not quiet:
        say(
            "warning: whoever has the address can use the page, and browsers give the camera only to localhost and to "
            "https; from elsewhere a tunnel is needed, such as ssh -L 8421:127.0.0.1:8421 HOST."
        )
    return listener


def _announce(listener, host: str, token: str, browser: bool) -> None:
    """Print the page's address, and open it in the browser where there is a desktop."""
    import os
    import sys
    import webbrowser

    from ..system.network import shown_name

    address = f"http://{shown_name(host)}:{listener.getsockname()[1]}/{token}/"
    print(f"{address}  (Ctrl-C stops)", flush=True)
    has_desktop = not sys.platform.startswith("linux") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if browser and has_desktop:
        webbrowser.open(address)


class _Screens:
    """The window and the virtual camera, as far as they are asked for. What is missing for them is said at once."""

    def __init__(self, window: bool, virtual_camera: bool, title: str):
        self._virtual_camera, self._shown = virtual_camera, []
        if not (window or virtual_camera):
            return
        from ..live.screens import VirtualCamera, Window

        if virtual_camera:
            VirtualCamera((640, 480), 15).close()  # only to see whether it can be had
        if window:
            self._shown.append(Window(title))

    def run(self, renderers, camera: int, settings: dict, quiet: bool) -> None:
        from ..live.screens import KEYS, VirtualCamera, show_live
        from ..live.session import LiveSession

        tell = (lambda text: None) if quiet else say
        try:
            tell(f"{KEYS}; so does Ctrl-C" if self._shown else "Ctrl-C ends it")
            if self._virtual_camera:
                height, width = renderers.make(renderers.sizes[0]).portrait.photo.shape[:2]
                device = VirtualCamera((width, height), settings["rate"])
                tell(f"the virtual camera is {device.name}")
                self._shown.append(device)
            with LiveSession(renderers, **settings) as session:
                show_live(session, f"camera:{camera}", self._shown, tell)
        finally:
            renderers.close()
            for screen in self._shown:
                screen.close()
