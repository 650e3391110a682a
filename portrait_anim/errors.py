"""Errors that a user can act on. Each is one sentence: what, which file or frame, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class PortraitAnimError(Exception):
    """Base of every error this package raises on purpose; `exit_code` is what the command returns."""

    exit_code = 1


class UsageError(PortraitAnimError):
    """Options that contradict each other or have impossible values."""

    exit_code = 2


class InputError(PortraitAnimError):
    """A photo, driver or weights file that cannot be used: missing, unreadable, without a face..."""

    exit_code = 3


class InputErrors(InputError):
    """Several faults of one input, found in one go. errors: a sentence each."""

    def __init__(self, errors: list[str]):
        super().__init__("\n".join(errors))
        self.errors = errors


class OutputError(PortraitAnimError):
    """The result cannot be written: exists already, no such folder, disk full, encoder failed..."""

    exit_code = 4


def unknown(option: str, value: str, choices: Iterable[str]) -> UsageError:
    """The error for a value that an option does not have; it names the one that may have been meant."""
    choices = list(choices)
    near = get_close_matches(str(value).lower(), choices, 1)
    meant = f"did you mean {near[0]}? Choose" if near else "choose"
    return UsageError(f"{option} {str(value)[:60]} is not known; {meant} {', '.join(choices)}.")
