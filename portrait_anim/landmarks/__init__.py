"""Find the faces of a picture, refine their landmarks, and follow one face through a video."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "following": ("MotionTrack", "NoFaceError", "fill_gaps", "track_video"),
        "refining": ("Refiner",),
        "tracking": ("Face", "FaceAlignmentTracker", "MediaPipeTracker", "Tracker", "find_faces"),
    },
)
