"""The neural networks, their run-time form and their weights files.

    source      SourceEncoder: looks at each photo once and gives feature maps and the vector e of the person
    generator   Generator: paints one frame on the photo that the mesh has warped
    critic      Discriminator: the adversary in training and fine-tuning
    paper       the generator of Zakharov et al. (arXiv 1905.08233), the baseline of our tables
    embedder    Embedder: the paper's network that gives e
    config      ModelConfig: all numbers it takes to build any of them
    weights     reading and writing weights files; cheap to import, torch is loaded only when a file is read
    inference   PersonGenerator and SourceFeatures: the same functions, made fast for one person
    perceptual  frozen networks behind the training losses and the measures

A frame is painted like this. Colours are in [-1, 1], mattes and masks in 0..1, flows in px of the 512 px frame:

    features, e = source(views)                        # once per photo, and once for its mirror image
    psi = generator.projection(mean of e)              # the modulation of the generator, once per person
    p = generator(x, carried, own, psi)                # per frame; carried = features moved by the warp
    matte   = clamp(warped matte + p.matte, 0, 1)
    refined = matte * warp(photo, flow + p.flow) + (1 - matte) * plate
    painted = the warped photo in the face, refined beside it, + p.colour      (see painting.compose)
    out     = p.mask * refined + (1 - p.mask) * painted
"""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "config": ("ModelConfig",),
        "critic": ("Discriminator",),
        "embedder": ("Embedder",),
        "generator": ("Generator", "Painting"),
        "inference": ("PersonGenerator", "SourceFeatures"),
        "source": ("SourceEncoder",),
        "weights": ("Weights", "find_default", "load", "save"),
    },
)
