"""Estimate the pose of heads: where a face is in the picture, how large it is and how it is turned."""

from dataclasses import dataclass

import numpy as np

from .mesh import RIGID, similarity


@dataclass
class Pose:
    """The rigid poses of T heads, each of which places a canonical shape (478, 3) in the picture.

    landmarks = scale * shape @ rotation.T + shift. scale: (T,) px per face height. rotation: (T, 3, 3).
    shift: (T, 3) px.
    """

    scale: np.ndarray
    rotation: np.ndarray
    shift: np.ndarray


def estimate_poses(landmarks: np.ndarray, shape: np.ndarray) -> Pose:
    """Estimate the pose of each face in landmarks (T, 478, 3) relative to one canonical shape (478, 3).

    Only the points that expression hardly moves are used.
    """
    poses = [similarity(shape[RIGID], face[RIGID].astype(np.float64)) for face in landmarks]
    return Pose(*(np.array(values) for values in zip(*poses)))


def euler_angles(rotation: np.ndarray) -> np.ndarray:
    """Return yaw, pitch and roll, (T, 3) radians, of rotations (T, 3, 3).

    Yaw turns about the vertical, pitch about the head's own lateral axis, and roll about its nose. In these angles the
    same movement of two heads is the same numbers, even if the heads look in different directions.
    """
    r = rotation
    yaw, roll = np.arctan2(r[:, 0, 2], r[:, 2, 2]), np.arctan2(r[:, 1, 0], r[:, 1, 1])
    return np.stack([yaw, np.arcsin(np.clip(-r[:, 1, 2], -1, 1)), roll], 1)


def from_euler(angles: np.ndarray) -> np.ndarray:
    """Return the rotations (T, 3, 3) that have the given `euler_angles` (T, 3), radians."""
    (sy, sp, sr), (cy, cp, cr) = np.sin(angles).T, np.cos(angles).T
    rows = [
        [cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, sy * cp],
        [cp * sr, cp * cr, -sp],
        [cy * sp * sr - sy * cr, cy * sp * cr + sy * sr, cy * cp],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def canonical(landmarks: np.ndarray, pose: Pose) -> np.ndarray:
    """Remove the pose from landmarks (T, 478, 3), and return the canonical shapes, float32 (T, 478, 3).

    A canonical shape looks straight ahead. Its unit is the face height, from the top of the forehead to the chin.
    """
    shapes = np.empty(landmarks.shape, np.float32)
    for t in range(len(landmarks)):  # one by one: a long clip must not be in memory several times
        shapes[t] = (landmarks[t] - pose.shift[t]) @ pose.rotation[t] / pose.scale[t]
    return shapes
