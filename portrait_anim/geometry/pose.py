"""Poses of heads: where a face's canonical shape is in the picture, how large and how turned."""

from dataclasses import dataclass

import numpy as np

from .mesh import RIGID, similarity


@dataclass
class Pose:
    """Rigid poses of T heads: p = scale * shape @ rotation^T + shift. (T,), (T, 3, 3), (T, 3)."""

    scale: np.ndarray
    rotation: np.ndarray
    shift: np.ndarray


def estimate_poses(landmarks: np.ndarray, shape: np.ndarray) -> Pose:
    """Pose of each face (T, 478, 3) relative to a canonical shape (478, 3), from the rigid points."""
    poses = [similarity(shape[RIGID], face[RIGID].astype(np.float64)) for face in landmarks]
    return Pose(*(np.array(values) for values in zip(*poses)))


def euler_angles(rotation: np.ndarray) -> np.ndarray:
    """Yaw about the vertical, pitch about the head's own lateral axis, roll about its nose, of rotations (T, 3, 3):
    (T, 3) radians. Turns of two heads that look in different directions are alike in these."""
    r = rotation
    yaw, roll = np.arctan2(r[:, 0, 2], r[:, 2, 2]), np.arctan2(r[:, 1, 0], r[:, 1, 1])
    return np.stack([yaw, np.arcsin(np.clip(-r[:, 1, 2], -1, 1)), roll], 1)


def from_euler(angles: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) of such angles (T, 3)."""
    (sy, sp, sr), (cy, cp, cr) = np.sin(angles).T, np.cos(angles).T
    rows = [
        [cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, sy * cp],
        [cp * sr, cp * cr, -sp],
        [cy * sp * sr - sy * cr, cy * sp * cr + sy * sr, cy * cp],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def canonical(landmarks: np.ndarray, pose: Pose) -> np.ndarray:
    """Shapes (T, 478, 3) with the pose taken out, float32."""
    shapes = np.empty(landmarks.shape, np.float32)
    for t in range(len(landmarks)):  # one by one: a long clip must not be in memory several times
        shapes[t] = (landmarks[t] - pose.shift[t]) @ pose.rotation[t] / pose.scale[t]
    return shapes
