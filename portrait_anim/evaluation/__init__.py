"""Measures on held-out people, with reports and pages that show them.

protocol      one person's clip from its own frames: `portrait-anim evaluate`
cross         one person's clip drives another's portrait: `portrait-anim evaluate --cross`
videos        finished videos of any tool: `portrait-anim evaluate --videos`
blind         two methods judged by a person: `portrait-anim blind`
pairs         which frames are reenacted from which
reenactment   a pair's picture by each method: warp, model, fine-tuned...
reference     the true frame, and where face, mouth, eyes and edge are in it
meter         measures of a picture against its reference
edges         outline, residue, rim, sharpness
flicker       what jumps from frame to frame
likeness      whether two pictures show one person
perception    the learned distance and FID
motion        measures of the motion that is found again
results       means, intervals, FID of all pairs
tables        columns and tables, and these as Markdown
report        the page with tables, distributions, pictures and clips
pages         filling the pages of this room, report.html and blind.html
"""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "cross": ("evaluate_cross",),
        "protocol": ("evaluate",),
        "videos": ("evaluate_videos",),
    },
)
