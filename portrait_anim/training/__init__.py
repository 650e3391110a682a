"""Training: the networks on many people's clips, or the generator on the photos of one person.

prepare       videos -> shards: tracked, split, one square around the head per segment
shards        the files that it makes, and the split into people to train on and people held out
episodes      which frames are painted from which photos, and the geometry of it: made by worker processes
augmentation  random changes of an episode's pictures
decoded       decoded frames in files that are mapped into memory
frames        the pictures of episodes, from these files or from a GPU's memory
batches       episodes and pictures -> what a step computes with, on the device
conditioning  the differentiable twin of what `painting` does when animating
steps         what the networks make of a batch
losses        what is minimised
adversary     the critics of meta-training
trainer       the state of a run, and one step of it
packing       the state of a run in few bytes; checkpoints: how it begins, and is kept to continue exactly
processes     several processes that train one model
history       the log of a run and its picture
train         the loop around that: `portrait-anim meta-train`
pairs         what is learned from one person's photos; reposing: other poses of a single one
tuner         one run of fine-tuning; finetune: its budget and its promises
"""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "finetune": ("tune_person",),
        "prepare": ("PrepareConfig",),
        "shards": ("Shard", "load_shards"),
        "train": ("meta_train",),
        "trainer": ("TrainConfig",),
        "tuner": ("FinetuneConfig",),
    },
)
