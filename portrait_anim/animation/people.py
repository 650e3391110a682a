"""Make the person who is animated, from photos or from a video that stands for photos, fine-tuned when asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..painting.person import Person
from ..portrait.checks import portrait_warnings
from ..system.threads import single_threaded_libraries

if TYPE_CHECKING:
    from .options import Options

AUTO_PHOTOS = 8  # finetune="auto" tunes from so many on, where it was measured to help (see the model card)


@dataclass
class Portraits:
    """The portraits of one person, of which the first is the canvas.

    warnings: sentences for the user. left_out: the indices of files that were left out because they show the same photo
    as another.
    """

    photos: list  # of Portrait
    warnings: list[str] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)


def read_portraits(
    images: list[Path], options: "Options", progress: Callable[[str, int, int | None], None]
) -> Portraits:
    """Read the portraits from all photos and from frames of the source video, and check them against each other.

    `progress` gets the stage ("portrait" or "source"), how many photos are done, and how many there are.
    """
    from ..portrait.portrait import Portrait, check_photos
    from ..portrait.source_video import portraits_of_video

    loaded, names = Portraits([]), list(images)
    face, read = options.face, (options.max_size, options.background, options.tracker)
    if images:
        progress("portrait", 0, len(images))
    for number, image in enumerate(images):
        portrait = Portrait.load(image, face if number == 0 else 1, *read)
        if portrait.n_faces > 1 and (face == 1 or number):
            loaded.warnings.append(
                f"{image}: shows {portrait.n_faces} faces, used the largest; --face 2 takes the next."
            )
        loaded.photos.append(portrait)
        progress("portrait", number + 1, len(images))
    if options.source_video is not None:
        source_video, shots = options.source_video, options.shots
        show = lambda done, total: progress("source", done, total)
        found = portraits_of_video(source_video, shots, *read, show)
        if len(found) < shots:
            loaded.warnings.append(f"{source_video}: only {len(found)} of its frames could be used as photos.")
        loaded.photos += found
        names += [source_video] * len(found)
    canvas = loaded.photos[0]  # only this one is checked: in further photos the person may look aside
    loaded.warnings += portrait_warnings(str(names[0]), canvas.photo, canvas.landmarks)
    if len(images) > 1:
        kept, said = check_photos(loaded.photos[: len(images)], images)
        loaded.left_out = [n for n, photo in enumerate(loaded.photos[: len(images)]) if photo not in kept]
        loaded.photos[: len(images)] = kept
        loaded.warnings += said
    for other in loaded.photos[1:]:
        canvas.add(other)
    return loaded


def make_person(
    portraits: list, painter, weights, options: "Options", progress: Callable[[str, int, int], None]
) -> Person:
    """Return the person of these portraits, fine-tuned if the options ask for it.

    Ctrl-C during fine-tuning ends only that, and what was learned is kept. painter: None when there are no weights.
    """
    finetune = options.finetune
    if finetune == "off" or painter is None or (finetune == "auto" and len(portraits) < AUTO_PHOTOS):
        with single_threaded_libraries():
            return Person.of(portraits, painter)
    from ..training.finetune import ended_by_interrupt, tune_person

    with ended_by_interrupt() as should_stop:
        show = lambda done, total: progress("tuning", done, total)
        return tune_person(portraits, painter, weights, finetune, options.seed, show, should_stop)


def no_weights_warnings(person: Person) -> list[str]:
    """Return what the user must know about a person without networks, as a list of at most one sentence."""
    warnings = []
    if person.painter is None:
        warnings.append("No weights found: the photo is only warped; mouth interior and eyelids are not painted.")
    return warnings
