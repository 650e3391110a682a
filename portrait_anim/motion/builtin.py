"""The built-in motions, such as a nod or a smile, which need no driver clip.

A motion is a set of curves over time, one for each feature of the face and for each turn of the head. A curve has a few
keys, with smooth movement between them. All motions begin and end at rest, so that they can be looped.
"""

from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from ..geometry.expressions import FEATURES, expressions, rest_face
from ..geometry.mesh import NECK
from ..geometry.smoothing import smoothstep
from ..landmarks.following import MotionTrack

_LIDS = [3, 4]
_TURNS = ("pitch", "yaw", "roll")  # degrees: nose down, nose to the picture's right, head clockwise in the picture
_SIZE, _HEIGHT = 640, 260.0  # px: of the frames, and of the face in them
_SHUT = -0.034  # change of the lids' gap that closes them, face heights
_BLINK = (0.0, 0.09, 0.13, 0.3)  # s: the lids begin to fall, are shut, begin to rise, are open

# Curves are written as keys "seconds:value", beginning with 0:0. Features are in face heights ("lids" are both lids),
# turns in degrees. blinks: the seconds at which they begin. beats: small nods as of laughing, as (begin, end, nods per
# second, depth in degrees). says: what --list-motions shows.
_MOTIONS: dict[str, dict[str, Any]] = {
    "nod": dict(
        says="nods twice",
        seconds=2.6,
        blinks=[1.75],
        pitch="0.3:-3 0.7:11 1.1:-2 1.5:9 1.95:-1 2.4:0",
    ),
    "shake": dict(
        says="shakes the head: no",
        seconds=2.8,
        blinks=[0.25],
        yaw="0.45:13 0.95:-13 1.4:10 1.85:-8 2.4:0",
        brows="0.5:-0.006 2.5:0",
    ),
    "tilt": dict(
        says="tilts the head to one side, then to the other",
        seconds=4.0,
        blinks=[1.6],
        roll="0.8:10 1.5:10 2.4:-9 3:-9 3.8:0",
        yaw="0.8:3 1.5:3 2.4:-3 3:-3 3.8:0",
    ),
    "smile": dict(
        says="smiles and holds it for a moment",
        seconds=3.4,
        blinks=[2.6],
        corners="0.8:0.024 2.3:0.026 3.2:0",
        wide="0.8:0.045 2.3:0.048 3.2:0",
        open="0.9:0.012 2.3:0.012 3.1:0",
        brows="0.7:0.006 2.3:0.004 3.2:0",
        pitch="1:-2.5 2.4:-2 3.2:0",
        roll="1.1:3 2.4:2.5 3.2:0",
        lids="0.8:-0.006 2.3:-0.006 3.2:0",
    ),
    "laugh": dict(
        says="laughs",
        seconds=3.8,
        blinks=[3.2],
        beats=(0.7, 2.6, 4.2, 2.2),
        open="0.6:0.07 0.9:0.1 1.6:0.085 2.3:0.07 3:0.015 3.6:0",
        corners="0.5:0.025 2.6:0.027 3.6:0",
        wide="0.5:0.055 2.6:0.05 3.6:0",
        brows="0.6:0.01 2.4:0.006 3.5:0",
        pitch="0.8:-7 1.8:-4 2.8:2 3.6:0",
        roll="1:4 2.4:-2 3.6:0",
        lids="0.6:-0.016 2.5:-0.015 3.4:0",
    ),
    "talk": dict(
        says="talks, as if saying a sentence",
        seconds=4.4,
        blinks=[1.35, 3.6],
        open="0.14:0.055 0.28:0.015 0.42:0.075 0.58:0 0.7:0 0.86:0.06 1.02:0.02 1.16:0.045 1.32:0 1.62:0 "
        "1.76:0.085 1.94:0.025 2.08:0.06 2.24:0 2.32:0 2.46:0.05 2.6:0.03 2.76:0.09 2.96:0.02 3.1:0.05 "
        "3.26:0.012 3.42:0.06 3.7:0",
        wide="0.14:0.01 0.28:0.03 0.42:0 0.58:-0.01 0.86:-0.04 1.02:-0.045 1.16:0.02 1.32:0 1.62:0 1.76:0.02 "
        "1.94:0.035 2.08:-0.03 2.24:-0.01 2.46:0.03 2.6:0.035 2.76:0 2.96:-0.05 3.1:-0.035 3.26:0.02 "
        "3.42:0.015 3.7:0",
        brows="0.4:0.012 0.9:0.002 1.7:0.014 2.3:0.003 2.8:0.009 3.5:0",
        pitch="0.42:3 0.9:-1.5 1.76:4 2.3:0 2.76:3 3.3:-1 4.1:0",
        yaw="0.9:3.5 1.8:-2.5 2.8:3 4.1:0",
        roll="1:-2 2.2:2 3.2:-1 4.1:0",
    ),
    "blink": dict(
        says="blinks, and once more",
        seconds=2.4,
        blinks=[0.4, 1.5],
    ),
    "wink": dict(
        says="winks with one eye",
        seconds=1.8,
        lid_l="0.35:0 0.5:-0.034 0.85:-0.034 1.1:0",
        lid_r="0.35:0 0.5:-0.004 0.85:-0.004 1.1:0",
        corners="0.55:0.014 1:0.014 1.6:0",
        wide="0.55:0.025 1:0.025 1.6:0",
        roll="0.6:4 1:4 1.6:0",
        pitch="0.6:2 1:2 1.6:0",
    ),
    "look-around": dict(
        says="looks to one side, to the other, and up",
        seconds=5.6,
        blinks=[0.15, 1.75, 3.5, 4.75],
        gaze_x="0.2:0 0.35:0.024 1:0.012 1.75:0.012 1.95:-0.024 2.7:-0.012 3.4:-0.012 3.65:0 5.6:0",
        gaze_y="3.5:0 3.7:-0.01 4.7:-0.008 4.95:0",
        yaw="0.3:0 1:12 1.8:12 2.7:-12 3.5:-12 4.2:0 5.4:0",
        pitch="1.8:2 3.4:2 4.2:-8 4.7:-8 5.4:0",
        brows="3.5:0 3.9:0.014 4.7:0.01 5.2:0",
    ),
    "surprise": dict(
        says="is surprised",
        seconds=3.0,
        blinks=[1.9],
        brows="0.25:0 0.5:0.026 1.6:0.024 2.6:0",
        open="0.3:0 0.65:0.105 1.5:0.09 2.4:0",
        wide="0.3:0 0.65:-0.02 1.5:-0.02 2.4:0",
        pitch="0.25:0 0.6:-6 1.6:-4 2.7:0",
        lids="0.25:0 0.45:0.01 1.6:0.008 2.6:0",
    ),
    "kiss": dict(
        says="blows a kiss",
        seconds=2.4,
        wide="0.6:-0.075 1.2:-0.08 1.45:0.01 2.2:0",
        open="1.15:0 1.35:0.03 1.8:0",
        pitch="0.8:-4 1.35:4 2.2:0",
        lids="0.5:0 0.8:-0.02 1.2:-0.02 1.6:0",
    ),
    "yawn": dict(
        says="yawns",
        seconds=4.4,
        open="0.5:0.02 1.5:0.17 2.5:0.18 3.4:0",
        wide="1.5:-0.015 2.5:-0.01 3.4:0",
        brows="1.5:0.012 2.6:0.014 3.5:0",
        pitch="1.6:-9 2.5:-9 3.5:2 4.2:0",
        roll="1.8:4 2.8:3 4:0",
        lids="0.6:-0.004 1.5:-0.034 2.9:-0.034 3.6:-0.008 4.2:0",
    ),
    "idle": dict(
        says="breathes, looks at you, blinks",
        seconds=6.0,
        blinks=[0.9, 3.3, 4.9],
        pitch="1.5:1.6 3:-0.6 4.5:1.8 6:0",
        yaw="2:3.5 4.2:-3 6:0",
        roll="1.4:-1.2 3.4:1.5 6:0",
        corners="2.5:0.006 4.5:0.004 6:0",
        gaze_x="2.4:0 2.5:-0.006 3.3:-0.006 3.45:0.004 5:0",
    ),
}

# The names of the motions, with what each of them does.
NAMES: dict[str, str] = {name: motion["says"] for name, motion in _MOTIONS.items()}


def make_motion(name: str, fps: Fraction = Fraction(25)) -> MotionTrack:
    """Make the built-in motion with one of the NAMES, at any frame rate."""
    motion = _MOTIONS[name]
    times = np.arange(round(motion["seconds"] * fps)) / float(fps)
    curve = lambda key: _curve(times, motion.get(key, ""))
    amounts = np.stack([curve(key) for key in FEATURES], 1)
    amounts[:, _LIDS] += curve("lids")[:, None]
    for begin in motion.get("blinks", []):
        shut = smoothstep((times - begin) / (_BLINK[1] - _BLINK[0]))
        shut -= smoothstep((times - begin - _BLINK[2]) / (_BLINK[3] - _BLINK[2]))
        amounts[:, _LIDS] += shut[:, None] * (_SHUT - amounts[:, _LIDS])
    turns = np.radians(np.stack([curve(key) for key in _TURNS], 1)) * [1, -1, 1]
    if "beats" in motion:
        first, last, rate, depth = motion["beats"]
        fade = smoothstep((times - first) / 0.3) * (1 - smoothstep((times - last) / 0.6))
        turns[:, 0] += np.radians(depth) * fade * np.sin(2 * np.pi * rate * (times - first))
    rest = rest_face()
    shapes = rest + np.tensordot(amounts, expressions()[1], 1)
    place = lambda shape, turn: _HEIGHT * ((shape - NECK) @ cv2.Rodrigues(turn)[0].T + NECK) + [_SIZE / 2, _SIZE / 2, 0]
    landmarks = np.stack([place(shape, turn) for shape, turn in zip(shapes, turns)]).astype(np.float32)
    found = np.ones(len(times), bool)
    return MotionTrack(landmarks, (_SIZE, _SIZE), Fraction(fps), found, rest=place(rest, np.zeros(3)))


def _curve(times: np.ndarray, keys: str) -> np.ndarray:
    """Return the values (T,) of a curve at times (T,): it moves smoothly from key to key and holds the last one."""
    value = np.zeros(len(times))
    t0 = v0 = 0.0
    for key in keys.split():
        t1, v1 = map(float, key.split(":"))
        value += (v1 - v0) * smoothstep((times - t0) / (t1 - t0))
        t0, v0 = t1, v1
    return value
