"""Who is animated: read from photos, from a video that stands for photos, or from a person file; fine-tuned or not."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .checks import portrait_warnings
from .errors import UsageError
from .person import Person, check_person, check_save

AUTO_PHOTOS = 3  # finetune="auto" tunes from so many on: it helps then, and one can be kept back to judge it by
TUNE_SECONDS = (5.0, 3600.0)  # what may be asked for
MAX_SHOTS = 32  # frames of a source video


@dataclass
class Portraits:
    """The photos of one person, the first of them the canvas."""

    photos: list  # of Portrait
    warnings: list[str]


def check_finetune(finetune: str | float) -> str | float:
    """ "auto", "off", or seconds as a number, from what the option says. Raises UsageError."""
    if finetune in ("auto", "off"):
        return finetune
    low, high = TUNE_SECONDS
    try:
        seconds = float(finetune)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not low <= seconds <= high:
        raise UsageError(f"--finetune {finetune} is not possible; choose auto, off, or {low:g} to {high:g} seconds.")
    return seconds


def check_people(
    images: list, source_video, shots: int, person, save_person, finetune: str | float, seed: int, force: bool
) -> Path | None:
    """Where to save the person, if anywhere. Raises UsageError, InputError or OutputError before any work is done."""
    if seed < 0:
        raise UsageError(f"--seed {seed} is impossible; choose 0 or more.")
    if not 1 <= shots <= MAX_SHOTS:
        raise UsageError(f"--shots {shots} is out of range; choose 1 to {MAX_SHOTS} frames.")
    if person is not None:
        if images or source_video is not None:
            raise UsageError("--person stands for the photos it was made of; give either it or photos.")
        if save_person is not None or finetune not in ("auto", "off"):
            raise UsageError("--person is ready: to fine-tune or to save one, give the photos.")
        check_person(person)
    return None if save_person is None else check_save(save_person, force)


def read_portraits(
    images: list[Path],
    source_video: Path | None,
    shots: int,
    face: int,
    max_size: int,
    background: str,
    tracker: str,
    progress: Callable[[str, int, int | None], None],
) -> Portraits:
    """The portraits of all photos and of the video's frames, checked against each other. progress gets the stage."""
    from .portrait import Portrait, check_photos
    from .source_video import portraits_of_video

    loaded, names = Portraits([], []), list(images)
    if images:
        progress("portrait", 0, len(images))
    for number, image in enumerate(images):
        portrait = Portrait.load(image, face if number == 0 else 1, max_size, background, tracker)
        if portrait.n_faces > 1 and (face == 1 or number):
            loaded.warnings.append(
                f"{image}: shows {portrait.n_faces} faces, used the largest; --face 2 takes the next."
            )
        loaded.photos.append(portrait)
        progress("portrait", number + 1, len(images))
    if source_video is not None:
        show = lambda done, total: progress("source", done, total)
        found = portraits_of_video(source_video, shots, max_size, background, tracker, show)
        if len(found) < shots:
            loaded.warnings.append(f"{source_video}: only {len(found)} of its frames could be used as photos.")
        loaded.photos += found
        names += [source_video] * len(found)
    canvas = loaded.photos[0]  # further photos may well look aside or shut their eyes
    loaded.warnings += portrait_warnings(str(names[0]), canvas.photo, canvas.landmarks)
    if len(images) > 1:
        kept, said = check_photos(loaded.photos[: len(images)], images)
        loaded.photos[: len(images)] = kept
        loaded.warnings += said
    for other in loaded.photos[1:]:
        canvas.add(other)
    return loaded


def make_person(
    portraits: list, painter, weights, finetune: str | float, seed: int, progress: Callable[[str, int, int], None]
) -> Person:
    """The person of these portraits, fine-tuned when asked for; Ctrl-C then ends the tuning only."""
    if finetune == "off" or painter is None or (finetune == "auto" and len(portraits) < AUTO_PHOTOS):
        return Person.of(portraits, painter)
    from .finetune import ended_by_interrupt, tune_person

    with ended_by_interrupt() as should_stop:
        show = lambda done, total: progress("tuning", done, total)
        return tune_person(portraits, painter, weights, finetune, seed, show, should_stop)
