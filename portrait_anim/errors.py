"""The errors that a user can act on.

The message of each is one sentence that says what is wrong, with which file or frame, and what to do about it.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class PortraitAnimError(Exception):
    """The base class of every error that this package raises on purpose.

    exit_code: what the command returns when it ends with this error.
    """

    exit_code = 1


class UsageError(PortraitAnimError):
    """Options contradict each other or have impossible values."""

    exit_code = 2


class InputError(PortraitAnimError):
    """A photo, driver or weights file cannot be used: it is missing, unreadable, shows no face..."""

    exit_code = 3


class InputErrors(InputError):
    """Several faults, which were found together. errors: one sentence for each."""

    def __init__(self, errors: list[str]):
        super().__init__(errors)  # as they are, because pickle makes the error anew of them
        self.errors = errors

    def __str__(self) -> str:
        return " ".join(self.errors)


class OutputError(PortraitAnimError):
    """The result cannot be written: it exists already, its folder is missing, the disk is full..."""

    exit_code = 4


def unknown(option: str, value: str, choices: Iterable[str]) -> UsageError:
    """Return the error for a value that is none of an option's `choices`. It suggests the most similar choice."""
    choices = list(choices)
    near = get_close_matches(str(value).lower(), choices, 1)
    meant = f"did you mean {near[0]}? Choose" if near else "choose"
    return UsageError(f"{option} {str(value)[:60]} is not known; {meant} {', '.join(choices)}.")
