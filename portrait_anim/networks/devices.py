"""The names of devices and precisions, which can be checked before torch is imported."""

from ..errors import unknown

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def check_device(device: str) -> None:
    """Raise UsageError if this is not the name of a device. Whether it is there, only torch knows."""
    if device not in DEVICES:
        raise unknown("--device", device, DEVICES)


def check_precision(precision: str) -> None:
    """Raise UsageError if this is not the name of a precision."""
    if precision not in PRECISIONS:
        raise unknown("--precision", precision, PRECISIONS)
