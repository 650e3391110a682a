"""Episodes: frames that are chosen, geometry, random changes of pictures and landmarks."""

import numpy as np
import pytest
import torch

from portrait_anim.training.augmentation import (
    Augmentation,
    AugmentationConfig,
    palette,
    recoloured,
    sampling_grid,
    taken,
)
from portrait_anim.training.batches import _changed, collate, make_batch
from portrait_anim.training.decoded import canvases
from portrait_anim.training.episodes import EpisodeConfig, Episodes
from portrait_anim.training.frames import FrameStore
from portrait_anim.training.shards import Shard, load_shards

SMALL = EpisodeConfig(side=160, targets=2)


def test_episodes_depend_on_their_number_only_and_hold_no_pixels(shards):
    train = load_shards(shards, held_out=False)
    one, other = (Episodes(train, 3, config=SMALL)[17] for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert not np.array_equal(one["shifts"], Episodes(train, 4, config=SMALL)[17]["shifts"])
    assert one["ids"].shape == (2, 160, 160) and one["shifts"].shape == (2, 3, 2, 80, 80)
    assert one["drawings"].shape == (2, 3, 160, 160) and one["source_drawings"].shape == (2, 3, 512, 512)
    assert not {"images", "plate"} & one.keys()


def test_batches_hold_a_fixed_number_of_sharp_clips(shards):
    """Shapes of what is computed never change."""
    train = load_shards(shards, held_out=False)[:1]
    soft, sharp = (
        Shard({**s.header, "size": size}, s.video, s.mattes, s.landmarks) for s in train for size in (256, 512)
    )
    episodes = Episodes([soft, sharp], batch=8, config=SMALL)
    assert episodes.sharp == 5
    assert [[soft, sharp][episodes[j]["shard"]].is_sharp for j in range(16)] == ([True] * 5 + [False] * 3) * 2
    assert Episodes([soft], batch=8).sharp == 0 and Episodes([sharp], batch=8).sharp == 8


@pytest.mark.parametrize("bend", [0.0, 8.0])
def test_landmarks_move_with_the_pictures_they_lie_on(bend):
    rows, columns = np.mgrid[:512, :512] + 0.5
    places = np.stack(np.meshgrid(*[np.linspace(128, 384, 5)] * 2), -1).reshape(-1, 2)
    away = lambda place: np.hypot(columns - place[0], rows - place[1])
    dots = np.float32(255 * sum(np.exp(-((away(place) / 6) ** 2)) for place in places))
    points = np.zeros((478, 3))
    points[:, :2] = places[np.arange(478) % 25]
    for seed in range(8):
        change = Augmentation.draw(np.random.default_rng(seed), AugmentationConfig(bend=bend))
        grid = sampling_grid(collate([change.numbers()]))
        image, moved = taken(torch.from_numpy(dots)[None, None], grid)[0, 0].numpy(), change.moved(points)
        for place in np.unique(moved[:, :2].round(6), axis=0):
            if (place > 32).all() and (place < 480).all():
                weight = image * (away(place) < 18)
                shown = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
                assert np.abs(shown - place).max() < 0.7, (seed, place, shown)


def test_palettes_reach_the_looks_of_old_pictures():
    rng = np.random.default_rng(0)
    red = torch.tensor([200.0, 60.0, 60.0])[None, None, :, None, None]
    saturation = []
    for _ in range(200):
        colours, tone = palette(rng, strong=True)
        numbers = {"colours": torch.tensor(colours)[None].float(), "tone": torch.tensor(tone)[None].float()}
        saturation.append(float(np.ptp(recoloured(red, numbers).numpy())) * 127.5)
    assert min(saturation) < 1 and max(saturation) > 100  # from monochrome to nearly untouched
    plain = {"colours": torch.eye(3)[None], "tone": torch.tensor([[1.0, 1.0, 0.0]])}
    assert torch.allclose(recoloured(red, plain), red / 127.5 - 1, atol=1e-6)


def test_losses_are_told_where_mouth_and_eyes_are(shards):
    episode = Episodes(load_shards(shards, held_out=False), 3, config=EpisodeConfig(side=288, edges=0.0))[17]
    for drawing, centres in zip(episode["drawings"], episode["centres"]):
        assert (centres[:3] > 16).all() and (centres[:3] < 272).all()  # a box around the face shows all of them
        x, y = centres[0].round().astype(int)
        assert drawing[0, y - 24 : y + 24, x - 40 : x + 40].max() > 190  # lips are drawn in red
        for x, y in centres[1:3].round().astype(int):
            assert drawing[1, y - 16 : y + 16, x - 24 : x + 24].max() > 190  # eyes in green


def test_a_batch_shows_the_frames_that_were_drawn(shards):
    train = load_shards(shards, held_out=False)
    still = AugmentationConfig(flipped=0, still=1, plain=1)
    episodes = Episodes(train, 1, config=EpisodeConfig(side=512, targets=1, several=1.0, change=still))
    items = [episodes[j] for j in range(2)]
    drawn, device = collate(items), torch.device("cpu")
    pictures = FrameStore(train, device).fetch(
        drawn["shard"].tolist(), drawn["photos"].numpy(), drawn["targets"].numpy()
    )
    batch = make_batch(drawn, pictures, device, sharp=0)
    for n, item in enumerate(items):
        shard = train[item["shard"]]
        assert item["photos"][0] in canvases(len(shard))
        expected = torch.from_numpy(shard.image(item["targets"][0], 512)).permute(2, 0, 1) / 127.5 - 1
        assert torch.allclose(batch.target[n], expected, atol=2e-3)
        canvas = torch.from_numpy(shard.image(item["photos"][0], 512)).permute(2, 0, 1) / 127.5 - 1
        assert torch.allclose(batch.views[n, 0, :3], canvas, atol=2e-3)
    assert batch.present[:, 1].sum() == 0 and (batch.present[:, 0] == 1).all()


def test_views_that_nobody_looks_at_are_left_out_and_the_others_are_as_on_a_gpu(shards):
    train, device = load_shards(shards, held_out=False), torch.device("cpu")
    episodes = Episodes(train, 1, config=EpisodeConfig(side=160, targets=2, several=0.5))
    drawn = collate([episodes[j] for j in range(4)])
    fetched = FrameStore(train, device).fetch(
        drawn["shard"].tolist(), drawn["photos"].numpy(), drawn["targets"].numpy()
    )
    drawn["used"][0, 1] = True  # a mirror image that is seen
    batch = make_batch(drawn, fetched, device, sharp=0)
    numbers = {name: drawn[name] for name in ("flip", "back", "nodes", "colours", "tone")}
    views, plate, target = _changed(fetched, numbers, batch.warps)
    assert 0 < batch.seen.sum() < batch.seen.numel()
    assert torch.allclose(batch.views[batch.seen], views[batch.seen], atol=1e-5)
    assert not batch.views[~batch.seen].any()
    assert torch.allclose(batch.plate, plate, atol=1e-5) and torch.allclose(batch.target, target, atol=1e-5)
    canvas, mirror = views[0, :2, :3]
    assert (mirror - canvas.flip(2)).abs().mean() < 0.15  # the same but for the light
