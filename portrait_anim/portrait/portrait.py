"""The portrait: a photo, its face, the crop for the networks, and the layers at the photo's own resolution."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError, UsageError
from ..geometry.mesh import TRIANGLES, HeadMesh
from ..geometry.view import CROP, View, grey
from ..geometry.warp import STEP, Warper
from ..landmarks.refining import Refiner
from ..landmarks.tracking import find_faces, no_face_advice
from ..media.photo import SEARCH_SIZE, fit_size, load_photo
from . import layers

HEAD_SQUARE = 2.1  # side of the crop in heights of the landmarks' box: the whole head, hair, top of the shoulders
HEAD_RISE = 0.06  # how far the crop's centre is above that of the landmarks, in the same unit
MIN_FACE = 24  # px, height of the landmarks' box: smaller faces have no features to move
MATTE_SIZE = 640  # px, longer side at which the matte is computed
_TWIN = 2.0  # mean difference of two crops, of 255, below which they are one photo: re-encoding makes about 1
_HOLD_BAND = 0.04  # of the region's side: how softly what moves ends in what does not
_BAND = 64  # px, height of the bands in which a region is sampled


def head_square(landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """Return centre (x, y) and side, in px, of the square crop around a head with landmarks (478, 3)."""
    height = float(np.ptp(landmarks[:468, 1]))
    return landmarks[:468, :2].mean(0) - (0.0, HEAD_RISE * height), HEAD_SQUARE * height


def cut_square(image: np.ndarray, corner: np.ndarray, side: float, size: int) -> np.ndarray:
    """Return a square part of an image (H, W[, C]), resampled to (size, size[, C]).

    corner: (x, y) of its upper left corner, px. side: px. Beyond the border of the image its edge is replicated.
    Shrinking averages areas, so that nothing aliases.
    """
    scale = size / side
    fx = fy = 1.0
    if scale < 1:
        height, width = image.shape[:2]
        shrunk = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
        fx, fy = shrunk[0] / width, shrunk[1] / height
    matrix = np.array([[scale / fx, 0, -corner[0] * scale], [0, scale / fy, -corner[1] * scale]])
    matrix[:, 2] += (matrix[:, :2].sum(1) - 1) / 2  # pixel centres are at +0.5
    flags = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR
    return cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


@dataclass
class Source:
    """The pixels behind a view, at the photo's full resolution.

    rgba: (h, w, 4) uint8, the region of a photo in the canvas' light, with the person's matte. origin: (x, y) of the
    view's crop in it, px. scale: px of the crop per px of rgba. is_mirror: whether the crop is flipped left to right.
    """

    rgba: np.ndarray
    origin: np.ndarray
    scale: float
    is_mirror: bool = False


@dataclass
class Region:
    """The part of the photo that can move, at the photo's own resolution.

    box: (x0, y0, x1, y1) px of the photo. frame: the box that holds all that can move and the crop, in crop px,
    integers, for the Warper. rgba: (h, w, 4) uint8, the photo with the person's matte. plate: (h, w, 3) uint8, the
    background behind them. hold: (h, w) float32, 1 where nothing moves and the photo must stay as it is. bands: boxes
    (x0, y0, x1, y1) px of the region that together hold all that can move.
    """

    box: tuple[int, int, int, int]
    frame: tuple[int, int, int, int]
    rgba: np.ndarray
    plate: np.ndarray
    hold: np.ndarray
    bands: list[tuple[int, int, int, int]]


class Portrait:
    """A photo made ready to be animated.

    photo: (H, W, 3) uint8 RGB. landmarks: (478, 3) in its px. background: "still" keeps it in a layer of its own,
    "warp" moves it with the head (for portraits whose person cannot be told from it). n_faces: how many the photo
    shows. The px of the crop relate to those of the photo by crop = (photo - corner) * scale.
    """

    def __init__(self, photo: np.ndarray, landmarks: np.ndarray, background: str = "still", n_faces: int = 1):
        self.photo, self.landmarks, self.n_faces = photo, landmarks, n_faces
        self.background = background
        centre, side = head_square(landmarks)
        self.corner, self.scale = centre - side / 2, CROP / side
        self.region = self._region()
        in_crop = lambda image: cut_square(image, self.corner - self.region.box[:2], side, CROP)
        image = cut_square(photo, self.corner, side, CROP)
        points = landmarks * self.scale
        points[:, :2] -= self.corner * self.scale
        matte = np.clip(in_crop(self.region.rgba[..., 3].astype(np.float32) / 255), 0, 1)  # cubic enlarging overshoots
        view = View(image, points, matte)
        self.plate = in_crop(self.region.plate)  # (512, 512, 3) uint8
        canvas = Source(self.region.rgba, (self.corner - self.region.box[:2]).astype(np.float32), self.scale)
        # Parallel lists of the canvas, its mirror image, then the further photos of the person.
        self.views, self.sources = [view, view.mirrored()], [canvas]
        self.sources.append(_relit(canvas, self.views[1]))

    def add(self, other: "Portrait") -> None:
        """Add another photo of the same person, which helps where this one, the canvas, does not show enough."""
        view = other.views[0].lit_as(self.views[0])
        self.views.append(view)
        self.sources.append(_relit(other.sources[0], view))

    @classmethod
    def load(
        cls,
        path: str | Path,
        face: int = 1,
        max_size: int = 1280,
        background: str = "still",
        tracker: str = "auto",
    ) -> "Portrait":
        """Load a photo and find its face.

        face: 1 is the largest, 2 the next. max_size: the longest side, px, to which the photo is shrunk. Raises
        InputError when the photo cannot be used, UsageError when it has fewer faces.
        """
        photo = load_photo(path)
        whole = fit_size(photo, SEARCH_SIZE)
        photo = fit_size(photo if max_size > SEARCH_SIZE else whole, max_size)
        faces = find_faces(whole, tracker) if min(whole.shape[:2]) >= MIN_FACE else []
        if not faces:
            raise InputError(
                f"{path}: no face found; use a photo that shows one face clearly, not too small or turned away"
                f"{no_face_advice(tracker)}."
            )
        if face > len(faces):
            raise UsageError(
                f"{path}: face {face} was asked for, but the photo shows {len(faces)}; choose 1 to {len(faces)}."
            )
        landmarks = faces[face - 1].landmarks * (photo.shape[1] / whole.shape[1])
        if tracker != "face-alignment":
            landmarks = _refined(photo, landmarks)
        height = np.ptp(landmarks[:468, 1])
        if height < MIN_FACE:
            raise InputError(
                f"{path}: the face is only {height:.0f} px high at --max-size {max_size}, "
                f"and {MIN_FACE} px are needed; raise it, or use a larger photo."
            )
        return cls(photo, landmarks, background, len(faces))

    def warper(self) -> Warper:
        """Return the warper of all photos to target landmarks, over the region that can move."""
        return Warper(self.views, self.region.frame)

    def _region(self) -> Region:
        height, width = self.photo.shape[:2]
        mesh = HeadMesh(self.landmarks)
        shell = mesh.rings[..., :2]
        rings = shell.reshape(-1, 2)
        x0, y0 = np.maximum(np.floor(rings.min(0)), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(rings.max(0)), (width, height)).astype(int)
        free = mesh.vertices[np.unique(TRIANGLES[mesh.can_move]), :2]  # the warp need not know what lies beyond
        low, high = np.maximum(free.min(0), (x0, y0)), np.minimum(free.max(0), (x1, y1))
        low = (np.floor((low - self.corner) * self.scale / STEP).astype(int) - 1) * STEP
        high = (np.ceil((high - self.corner) * self.scale / STEP).astype(int) + 1) * STEP
        frame = (*np.minimum(low, 0).tolist(), *np.maximum(high, CROP).tolist())
        photo = np.ascontiguousarray(self.photo[y0:y1, x0:x1])
        matte = np.ones(photo.shape[:2], np.float32)
        if self.background == "still":
            shrink = min(1.0, MATTE_SIZE / max(photo.shape[:2]))
            small = cv2.resize(photo, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else photo
            matte = cv2.resize(layers.matte(small), photo.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        hold = _hold(mesh, (int(x0), int(y0), int(x1), int(y1)), (width, height))
        rgba = np.dstack([photo, (matte * 255).round().astype(np.uint8)])
        person = matte if self.background == "still" else np.zeros_like(matte)  # "warp" has a single layer
        plate = layers.plate(photo, person, shell[0] - (x0, y0))
        return Region((int(x0), int(y0), int(x1), int(y1)), frame, rgba, plate, hold, _bands(hold))


def _hold(mesh: HeadMesh, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """Return where a box of a photo of that size (width, height) must stay as it is, (h, w) float32 of 0 to 1.

    It is 1 where no triangle of the mesh can move nor is near to one that can, and falls to 0 towards these.
    """
    x0, y0, x1, y1 = box
    moving = np.zeros((y1 - y0, x1 - x0), np.uint8)
    corners = np.round((mesh.vertices[:, :2] - (x0, y0) - 0.5) * 8).astype(np.int32)
    for triangle in corners[TRIANGLES[mesh.can_move]]:
        cv2.fillConvexPoly(moving, triangle, 1, shift=3)
    band = max(2.0, _HOLD_BAND * max(moving.shape))
    # The face itself, where it ends at the outline of a profile, must be free to go.
    moving = (cv2.distanceTransform(1 - moving, cv2.DIST_L2, 5) <= band).astype(np.uint8)
    around = cv2.copyMakeBorder(moving, 1, 1, 1, 1, cv2.BORDER_REPLICATE)  # at the photo's own border nothing ends
    for edge, is_inside in (
        (around[:, 0], x0 > 0), (around[0], y0 > 0), (around[:, -1], x1 < size[0]), (around[-1], y1 < size[1])
    ):  # fmt: skip
        if is_inside:
            edge[:] = 0
    distance = cv2.distanceTransform(around, cv2.DIST_L2, 5)[1:-1, 1:-1] - 1
    return np.clip(2 * (1 - distance / band), 0, 1)  # a distance to nothing is the largest float there is


def _bands(hold: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Return boxes (x0, y0, x1, y1), one below the other, that hold all of a region that is not wholly held."""
    bands = []
    for y0 in range(0, len(hold), _BAND):
        free = np.flatnonzero((hold[y0 : y0 + _BAND] < 1).any(0))
        if len(free):
            bands.append((int(free[0]), y0, int(free[-1]) + 1, min(y0 + _BAND, len(hold))))
    return bands


def _refined(photo: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return landmarks (478, 3) in px of the photo, refined by the Refiner."""
    centre, side = head_square(landmarks)
    corner, scale = np.array([*(centre - side / 2), 0]), CROP / side
    refiner = Refiner()
    try:
        points = refiner(cut_square(photo, corner[:2], side, CROP), (landmarks - corner) * scale)
    finally:
        refiner.close()
    return points / scale + corner


def check_photos(portraits: list[Portrait], names: list[str]) -> tuple[list[Portrait], list[str]]:
    """Return the photos of one person without those that are there twice, and warnings.

    The warnings tell of the photos left out, and of those that seem to show another person than the first.
    """
    from ..networks.perceptual import same_person

    kept, warnings = {}, []
    for portrait, name in zip(portraits, names):
        image = portrait.views[0].image.astype(np.float32)
        twin = next((n for p, n in kept.items() if np.abs(p.views[0].image - image).mean() < _TWIN), None)
        if twin is None:
            kept[portrait] = name
        else:
            warnings.append(f"{name}: shows the same as {twin} and was left out.")
    if len(kept) > 1:
        views = [portrait.views[0] for portrait in kept]
        same = same_person([view.image for view in views], [view.landmarks for view in views])
        first, *_ = kept.values()
        for name in (name for name, known in zip(kept.values(), same) if not known):
            warnings.append(f"{name}: seems to show another person than {first}; leave it out if so.")
    return list(kept), warnings


def _relit(source: Source, view: View) -> Source:
    """Return a source in the light, and with or without colours, as a view of the same photo."""
    gain = view.gain[:, ::-1] if view.is_mirror else view.gain
    size = CROP / source.scale / gain.shape[0]  # px of the photo per cell
    offset = source.origin + (size - 1) / 2
    matrix = np.array([[size, 0, offset[0]], [0, size, offset[1]]])
    flags, shape = cv2.INTER_LINEAR, source.rgba.shape[1::-1]
    large = cv2.warpAffine(np.ascontiguousarray(gain), matrix, shape, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    rgba = source.rgba.copy()
    rgba[..., :3] = cv2.multiply(rgba[..., :3], large, dtype=cv2.CV_8U)
    if view.is_grey:
        rgba[..., :3] = grey(np.ascontiguousarray(rgba[..., :3]))
    return Source(rgba, source.origin, source.scale, view.is_mirror)
