"""Train the networks on many people (meta-learning), or fine-tune them to one."""

from ..system.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "finetune": ("FinetuneConfig", "tune_person"),
        "prepare": ("PrepareConfig", "Shard", "load_shards"),
        "train": ("TrainConfig", "meta_train"),
    },
)
