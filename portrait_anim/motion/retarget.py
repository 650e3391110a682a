"""Transfer the driver's motion: from its landmarks in each frame to target landmarks on the portrait.

Every face is split into a pose (scale, rotation and translation of the rigid head) and a canonical shape, which looks
straight ahead. The changes of the driver's shape are scaled to the parts of the portrait's face and added to the
portrait's shape. Then lids and lips are set by ratios, so that they close when the driver's close. The changes of the
driver's pose are applied to the portrait's pose. How is in `motion.transfer`.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from ..geometry.anatomy import EYES_AND_BROWS, lid_gaps, lip_gap
from ..geometry.mesh import MEAN_FACE, N_LANDMARKS, openness
from ..geometry.pose import Pose, canonical, estimate_poses, euler_angles
from ..geometry.smoothing import add_one_euro, one_euro, split_at_cuts
from ..landmarks.following import MotionTrack
from ..system.sequences import ArrayFile, FrameSequence, blocks, by_blocks
from .blinks import alike
from .options import MotionOptions
from .transfer import ExpressionTransfer, HeadTransfer, neck, oval_extent

_MEDIAN_FRAMES = 3000  # the usual eyes and brows of longer drivers are those of so many frames, evenly spread


class Retargeter:
    """The target landmarks on one portrait for each frame of a driver's track.

    The landmarks of a long driver are in no memory at once: what is kept of each frame are a few dozen numbers, and its
    shape in a temporary file.

    portrait: its landmarks (478, 3), px of the frame in which the targets are wanted. reference_frame: the frame of the
    driver that stands for the portrait as it is, None if the track has a face at rest.

    Raises UsageError for impossible options.
    """

    def __init__(self, track: MotionTrack, portrait: np.ndarray, options: MotionOptions = MotionOptions()):
        options.check()
        frame = options.reference_frame
        if frame is not None and frame >= len(track):
            raise UsageError(f"--reference-frame {frame} is not in the driver; choose 0 to {len(track) - 1}.")
        if options.mirror:
            track = track.mirrored()
        self._own_pose = estimate_poses(portrait[None], MEAN_FACE)
        self._own = canonical(portrait[None], self._own_pose)[0].astype(np.float64)

        driver = _DriverFaces.of(track.landmarks)
        if frame is None and track.rest is None:
            frame = (self._best_frame if options.motion == "relative" else self._neutral_frame)(track, driver)
        self.reference_frame = frame
        known_rest = track.rest if frame is None else track.landmarks[frame]
        assert known_rest is not None  # otherwise there is a frame
        rest = known_rest[None]
        rest_pose = estimate_poses(rest, MEAN_FACE)
        reference = canonical(rest, rest_pose)[0].astype(np.float64)
        absolute = options.motion == "absolute"
        self._poses = self._portrait_poses(driver.poses, rest_pose, track, options)
        fps = float(track.fps)
        self._shapes = driver.shapes
        if options.smooth:
            self._shapes = ArrayFile((N_LANDMARKS, 3), len(track))
            add_one_euro(driver.shapes, self._shapes, fps, 3.5, 60.0, track.cuts)
        self._transfer = ExpressionTransfer(self._own, reference, options, track.rest is not None and not absolute)
        # The gaps are measured before the shapes are smoothed, because a blink is over in three frames.
        lids, lips = driver.lids / self._transfer.usual_lids, driver.lips
        if options.smooth:
            lids, lips = (one_euro(x, fps, 2.5, 12.0, track.cuts) for x in (lids, lips))
        self._lids = alike(self._transfer.lid_shares(lids), fps, track.cuts)
        self._lips = self._transfer.lip_gaps(lips)

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, t: int) -> np.ndarray:
        """Return the target landmarks (478, 3) of frame t, px."""
        poses = self._poses
        return poses.scale[t] * self.shape(t) @ poses.rotation[t].T + poses.shift[t]

    def shape(self, t: int) -> np.ndarray:
        """Return the portrait's canonical shape (478, 3) with the driver's expression of frame t."""
        return self._transfer(self._shapes[t].astype(np.float64), self._lips[t], self._lids[t])

    def extent(self, margin: float, below: float) -> tuple[float, float, float, float]:
        """Return the box (x0, y0, x1, y1) px that holds the face's enlarged oval in every frame.

        margin: by how much the oval is enlarged to the sides and upwards. below: the same, downwards.
        """
        return oval_extent(self._own, self._poses, margin, below)

    # ---------------------------------------------------------------- choice of the reference

    def _best_frame(self, track: MotionTrack, driver: "_DriverFaces") -> int:
        """Return the frame that is most like the portrait in its mouth and the turn of its head.

        Its eyes and brows are compared with the driver's own median. People's eyes differ more between faces than in
        expression, and a reference with raised brows would make the portrait frown whenever the driver is at rest.
        """
        opening = driver.opening
        mouth = np.abs(opening - openness(self._own))[:, :2].sum(-1)
        calm = np.abs(opening - np.median(opening, 0))[:, 2:].sum(-1)
        every = -(-len(track) // _MEDIAN_FRAMES)
        usual = np.median([driver.shapes[t][EYES_AND_BROWS] for t in range(0, len(track), every)], 0)
        calm += by_blocks(lambda shapes: 10 * np.abs(shapes[:, EYES_AND_BROWS] - usual).mean((1, 2)), driver.shapes)
        own = self._own_pose.rotation[0]
        angle = np.arccos(np.clip((np.einsum("tij,ij->t", driver.poses.rotation, own) - 1) / 2, -1, 1))
        return int(np.argmin(np.where(track.found, 1.5 * (mouth + calm) + angle, np.inf)))

    def _neutral_frame(self, track: MotionTrack, driver: "_DriverFaces") -> int:
        """Return the frame with the mouth most closed and everything else most like the driver's median."""
        opening = driver.opening
        score = opening[:, 0] + np.abs(opening[:, 1:] - np.median(opening[:, 1:], 0)).sum(1)
        return int(np.argmin(np.where(track.found, score, np.inf)))

    # ---------------------------------------------------------------- pose

    def _portrait_poses(self, pose: Pose, rest: Pose, track: MotionTrack, options: MotionOptions) -> Pose:
        """Return the portrait's pose in each frame from the driver's poses and its pose at rest."""
        start = 0.0 if options.motion == "absolute" else euler_angles(rest.rotation)
        turns = np.unwrap(euler_angles(pose.rotation), axis=0) - start
        zoom = np.log(pose.scale / rest.scale)
        shift = (neck(pose) - neck(rest)) / rest.scale  # face heights
        for a, b in split_at_cuts(len(turns), track.cuts):
            if self.reference_frame is not None and not a <= self.reference_frame < b:
                # Another shot has another camera, so its place and size of the head mean nothing for this one.
                zoom[a:b] -= np.median(zoom[a:b])
                shift[a:b] -= np.median(shift[a:b], 0)
        if options.smooth:
            fps = float(track.fps)
            turns, shift = (one_euro(x, fps, 2.5, 6.0, track.cuts) for x in (turns, shift))
            zoom = one_euro(zoom, fps, 0.3, 0.6, track.cuts)
        return HeadTransfer(self._own_pose, options)(turns, shift, zoom)


@dataclass
class _DriverFaces:
    """What is known of the driver's face in each frame.

    poses: of the head. shapes: canonical (T, 478, 3). opening: (T, 4), of `openness`. lids: (T, 2), of `lid_gaps`.
    lips: (T,), of `lip_gap`.
    """

    poses: Pose
    shapes: ArrayFile
    opening: np.ndarray
    lids: np.ndarray
    lips: np.ndarray

    @classmethod
    def of(cls, landmarks: FrameSequence) -> "_DriverFaces":
        """Measure the faces in landmarks (T, 478, 3)."""
        shapes, parts = ArrayFile((N_LANDMARKS, 3)), []
        for faces in blocks(landmarks):
            pose = estimate_poses(faces, MEAN_FACE)
            part = canonical(faces, pose)
            shapes.extend(part)
            parts.append((pose.scale, pose.rotation, pose.shift, openness(part), lid_gaps(part), lip_gap(part)))
        scale, rotation, shift, opening, lids, lips = (np.concatenate(values) for values in zip(*parts))
        return cls(Pose(scale, rotation, shift), shapes, opening, lids, lips)
