"""The losses: where they look, and those of the paper."""

import torch
from reference import vgg

from portrait_anim.training.episodes import EpisodeConfig
from portrait_anim.training.losses import jittered
from portrait_anim.training.prepare import load_shards
from portrait_anim.training.train import TrainConfig, Trainer


def test_perceptual_networks_meet_the_generators_strides_at_every_offset():
    image = torch.arange(80 * 80.0).reshape(1, 1, 80, 80)
    cuts = [jittered(step, image, -image) for step in range(300)]
    assert all(a.shape == (1, 1, 72, 72) and torch.equal(a, -b) for a, b in cuts)
    corners = {divmod(int(a[0, 0, 0, 0]), 80) for a, _ in cuts}
    assert {y for y, _ in corners} == {x for _, x in corners} == set(range(9))
    assert torch.equal(jittered(7, image)[0], cuts[7][0])  # a resumed run sees the same


def test_the_papers_perceptual_losses_join_when_their_networks_are_given(shards, tmp_path):
    file = tmp_path / "vgg19.pth"
    torch.save(vgg((2, 2, 4, 4, 1)).state_dict(), file)
    config = TrainConfig(batch=1, vgg19=file, episodes=EpisodeConfig(crop=64, crops=1))
    trainer = Trainer(load_shards(shards, held_out=False), config=config)
    report = trainer.train_step(torch.utils.data.default_collate([trainer.episodes[0]]))
    assert report["vgg19"] > 0 and "vggface" not in report
