"""The geometry of heads: the mesh of landmarks, poses, expressions, and the warp that moves a photo to new landmarks.

Nothing here reads files of the user's or runs a network.
"""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "expressions": ("at_rest", "features", "rest_face"),
        "fill": ("push_pull",),
        "mesh": (
            "HeadMesh",
            "draw_landmarks",
            "face_height",
            "mirrored_landmarks",
            "openness",
            "rasterise",
            "similarity",
            "triangle_maps",
        ),
        "pose": ("Pose", "canonical", "estimate_poses", "euler_angles", "from_euler"),
        "shape_model": ("fit_68",),
        "smoothing": ("Crossfade", "one_euro", "smoothstep", "soft_limit", "split_at_cuts"),
        "view": ("CROP", "View"),
        "warp": ("Warp", "Warper"),
    },
)
