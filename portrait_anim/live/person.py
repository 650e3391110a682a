"""Read the portrait that the camera is to move, and make the person of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..animation.inputs import Progress
from ..animation.options import Options
from ..animation.people import make_person, no_weights_warnings, read_portraits
from ..animation.warm_up import LazyPainter
from ..errors import UsageError
from ..networks import weights as weights_file
from ..painting.person import Person, check_person
from .session import FAST_RATE, RATE

if TYPE_CHECKING:
    from ..painting.painter import Painter

MAX_RATE = 60.0


@dataclass(frozen=True)
class LivePerson:
    """The person who is moved. rate: pictures/s to hold on this machine. warnings: sentences for the user."""

    person: Person
    rate: float
    warnings: list[str]


def load_person(
    images: list[Path],
    options: Options,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    rate: float | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> LivePerson:
    """Read photos, or the person file of the options, and load the networks meanwhile.

    images, options: as of `Animator.animate`. weights, device, precision: as of `Animator`. rate: pictures/s that the
    user wants, None for FAST_RATE on machines with bf16 or a GPU and RATE on others. Raises PortraitAnimError.
    """
    if not images and options.person is None:
        raise UsageError("A portrait is needed: the name of a photo, or --person.")
    if rate is not None and not 1 <= rate <= MAX_RATE:
        raise UsageError(f"--rate {rate:g} is out of range; choose 1 to {MAX_RATE:g} pictures a second.")
    options = options.checked(images)
    if weights is not None:
        weights_file.check_file(Path(weights))
    if options.person is not None:
        check_person(options.person)
    networks = LazyPainter(weights, device, precision)
    loading = networks.load_in_background()
    show = lambda *step: progress(Progress(*step))
    portraits = read_portraits(images, options, show) if options.person is None else None
    painter: Painter | None = loading.result()
    if portraits is not None:
        person = make_person(portraits.photos, painter, weights, options, show)
    elif painter is None:
        raise UsageError("Persons are tuned, saved and loaded with weights, and there are none; see --weights.")
    else:
        assert options.person is not None  # it stands for the photos
        person = Person.load(options.person, painter)
    warnings = [*(portraits.warnings if portraits else []), *person.notes, *no_weights_warnings(person)]
    return LivePerson(person, rate or _usual_rate(painter), warnings)


def _usual_rate(painter: "Painter | None") -> float:
    import torch

    is_fast = painter is None or painter.device.type != "cpu" or painter.dtype == torch.bfloat16
    return FAST_RATE if is_fast else RATE
