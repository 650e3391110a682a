"""What is to be made: photos, driver, output and options, all checked at the door before any work begins.

Everything after this module takes a `Request` and trusts it. Nobody looks at the driver's name again to find out what
it is, or tests again whether a file may be written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..errors import InputError, InputErrors, UsageError
from ..motion.file import check_motion_output
from ..motion.source import DriverSource
from ..networks import weights as weights_file
from ..painting.person import check_person, check_save
from ..system.files import PathLike, check_apart, check_input, check_output, check_preview, is_picture
from .options import Options

OutputKind = Literal["video", "frames", "picture", "sheet"]


@dataclass(frozen=True)
class Request:
    """One output to be made. Make it with `Request.checked`.

    images: the photos, the first of which moves; empty when a source video or a person file stands for them.
    driver: what leads the motion. output: the absolute path to write to; for a folder of frames the pattern of their
    names. kind: what is written there. options: in their final form.
    """

    images: tuple[Path, ...]
    driver: DriverSource
    output: Path
    kind: OutputKind
    options: Options

    @classmethod
    def checked(
        cls,
        images: Sequence[PathLike],
        driver: PathLike,
        output: PathLike | None,
        options: Options,
        weights: PathLike | None = None,
    ) -> "Request":
        """Check everything that can be known before a file is read, and return the request.

        output: None for `default_output`. weights: the weights file in use, which the output must not replace. Raises
        UsageError for impossible options, InputError for an unknown driver and for files that are missing, OutputError
        for an output that cannot be written.
        """
        photos = [Path(image) for image in images]
        source, options = check_inputs(photos, driver, options)
        given, force = [*photos, *options.stand_ins()], options.force
        output = output if output is not None else default_output(given[0], driver)
        if options.preview:
            target = check_preview(output, force)
        else:
            target = check_output(output, force, picture=source.kind == "image")
        if options.save_person is not None:
            options = replace(options, save_person=check_save(options.save_person, force))
        if options.save_motion is not None:
            options = replace(options, save_motion=check_motion_output(options.save_motion, force))
        read = [path for path in (weights, options.sign_cert, options.sign_key) if path is not None]
        for written in (target, options.save_person, options.save_motion):
            if written is not None:
                check_apart(Path(written), [*given, source.name, *read])
        if options.person is not None:
            check_person(options.person)
        _check_there(files_read(photos, source, options))
        if weights is not None:
            weights_file.check_file(weights)
        elif options.needs_networks and weights_file.find_default() is None:
            raise UsageError("Persons are tuned, saved and loaded with weights, and there are none; see --weights.")
        return cls(tuple(photos), source, target, _kind_of(target, options), options)

    @property
    def sources(self) -> list[Path]:
        """The files that show the person: the photos, then what stands for them."""
        return [*self.images, *(Path(path) for path in self.options.stand_ins())]

    @property
    def driver_range(self) -> tuple[float | None, float | None, float | None]:
        """Start and end in seconds and frame rate of the driver, as far as they were asked for."""
        return self.options.start, self.options.end, self.options.fps


def check_inputs(images: list[Path], driver: PathLike, options: Options) -> tuple[DriverSource, Options]:
    """Return the driver as a value and the options in their final form, without a look at the outputs.

    Raises UsageError, and InputError when the driver is neither a file's name nor a built-in motion.
    """
    if any(str(path) == "" for path in (*images, *options.stand_ins(), driver)) or not (images or options.stand_ins()):
        raise UsageError("A portrait and a driver are needed, and neither name may be empty.")
    options = options.checked(images)
    source = DriverSource.of(driver)
    source.check_times(options.start, options.end, options.fps)
    if options.compare and (options.retimed or source.kind != "video"):
        raise UsageError(
            "--compare needs a video as driver, at its own pace; leave it out, or --speed, --pingpong and --loop."
        )
    if source.kind == "image":  # the turn of the head in a single picture is to be reached, not added to the portrait's
        options = replace(options, motion="absolute")
    return source, options


def files_read(images: Sequence[PathLike], driver: DriverSource, options: Options) -> list[PathLike]:
    """Return the names of all files that are read to make an output; that of the weights is not among them."""
    signing = [path for path in (options.sign_cert, options.sign_key) if path is not None]
    return [*images, *options.stand_ins(), *([driver.name] if driver.is_file else []), *signing]


def _check_there(files: Sequence[PathLike]) -> None:
    """Raise InputError, or InputErrors, about all files that are missing."""
    wrong: list[str] = []
    for file in files:
        try:
            check_input(file)
        except InputError as error:
            wrong.append(str(error))
    if wrong:
        raise InputErrors(list(dict.fromkeys(wrong)))


def default_output(image: PathLike, driver: PathLike) -> Path:
    """Return <portrait>--<driver>.mp4 in the current folder."""
    driver = str(driver).replace("camera:", "camera")
    return Path(f"{Path(image).stem[:100]}--{Path(driver).stem[:100]}.mp4")  # a file's name has 255 bytes at most


def _kind_of(output: Path, options: Options) -> OutputKind:
    if options.preview:
        return "sheet"
    if output.suffix.lower() == ".png":
        return "picture" if is_picture(output) else "frames"
    return "video"
