"""Episodes: frames that are chosen, geometry, random changes of pictures and landmarks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from portrait_anim.training.augmentation import (
    Augmentation,
    AugmentationConfig,
    gain_of_light,
    palette,
    recoloured,
    sampling_grid,
    sidelight,
    taken,
)
from portrait_anim.training.batches import _changed, _changed_each, collate, make_batch
from portrait_anim.training.conditioning import cut
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


def test_palettes_reach_the_looks_of_old_pictures_and_paintings():
    rng = np.random.default_rng(0)
    colour = torch.tensor([[200.0, 60.0, 60.0], [20.0, 20.0, 20.0], [230.0, 230.0, 230.0]]).view(1, 3, 3, 1, 1)
    found = []
    for _ in range(300):
        colours, tone = palette(rng, strong=True)
        numbers = {"colours": torch.tensor(colours)[None].float(), "tone": torch.tensor(tone)[None].float()}
        found.append(127.5 * (recoloured(colour, numbers)[0, :, :, 0, 0] + 1).numpy())
    red, black, white = np.array(found).transpose(1, 0, 2)
    saturation = np.ptp(red, axis=1)
    assert saturation.min() < 1 and saturation.max() > 100  # from monochrome to nearly untouched
    assert black.mean(1).min() < 1 and black.mean(1).max() > 60  # hard prints and pale frescos
    assert white.mean(1).min() < 150 and (white[:, 0] - white[:, 2]).max() > 100  # dim, and old varnish
    plain = {"colours": torch.eye(3)[None], "tone": torch.tensor([[1.0, 1.0, 0.0]])}
    assert torch.allclose(recoloured(colour, plain), colour / 127.5 - 1, atol=1e-6)


def test_another_light_is_smooth_bounded_and_from_one_side():
    sides = []
    for seed in range(40):
        nodes = sidelight(np.random.default_rng(seed), 0.5)
        gain = gain_of_light({"light": torch.from_numpy(nodes)[None]})[0].numpy()
        assert gain.shape == (3, 512, 512) and 0.3 < gain.min() and gain.max() < 3.5
        assert np.abs(np.diff(gain, axis=2)).max() < 0.02  # of its size, from pixel to pixel
        left, right, top, bottom = (
            part.mean() for part in (gain[..., :99], gain[..., -99:], gain[:, :99], gain[:, -99:])
        )
        sides.append(max(abs(np.log(left / right)), abs(np.log(top / bottom))))
    assert np.mean(np.array(sides) > 0.2) > 0.5


@pytest.mark.parametrize("static", [False, True])
def test_light_stays_where_it_is_while_the_head_moves(shards, static):
    """Photo, mirror image, plate and target have it at the same places of the frame."""
    train, device = load_shards(shards, held_out=False), torch.device("cpu")
    change = AugmentationConfig(flipped=0, still=1, plain=1, lit=1.0)
    drawn = collate([Episodes(train, 1, config=EpisodeConfig(side=160, targets=2, change=change))[0]])
    drawn["used"][:, 1] = True
    fetched = FrameStore(train, device).fetch(
        drawn["shard"].tolist(), drawn["photos"].numpy(), drawn["targets"].numpy()
    )
    warps = make_batch(drawn, fetched, device, sharp=0).warps
    numbers = {name: drawn[name] for name in ("flip", "back", "nodes", "light", "colours", "tone")}
    seen = torch.tensor([[True, True, False]])
    made = []
    for light in (numbers["light"], torch.zeros_like(numbers["light"])):
        own = numbers | {"light": light}
        made.append(_changed(fetched, own, warps) if static else _changed_each(fetched, own, warps, seen))
    gain = gain_of_light(numbers)
    assert gain.std() > 0.02
    for (lit, plain), own in zip(zip(*made), (gain[:, None], cut(gain, warps), cut(gain, warps))):
        lit, plain = (127.5 * (a + 1) for a in (lit, plain))
        if lit.dim() == 5:
            lit, plain = lit[:, :2, :3], plain[:, :2, :3]
        assert torch.allclose(lit, (plain * own).clamp(0, 255), atol=0.1)


@pytest.mark.parametrize("kind", ["expressive", "wide", "closed", "turned"])
def test_frames_are_drawn_that_show_what_is_rare(shards, kind):
    train = load_shards(shards, held_out=False)
    shares = dict.fromkeys(("expressive", "wide", "closed", "turned"), 0.0)
    config = EpisodeConfig(**shares)
    any_frame, chosen = Episodes(train, 2, config=config), Episodes(train, 2, config=replace(config, **{kind: 1.0}))

    def mean(episodes: Episodes) -> float:
        total = 0.0
        for seed in range(60):
            target = episodes._target(0, 0, np.random.default_rng(seed))
            opening, turn = episodes._openness[0], episodes._turn[0]
            total += {
                "expressive": np.abs(opening[target] - opening[0]).sum(),
                "wide": opening[target, 0],
                "closed": -opening[target, 2:].sum(),
                "turned": np.abs(turn[target] - turn[0]).sum(),
            }[kind]
        return total / 60

    spread = Episodes(train, 2)._openness[0].std()
    assert mean(chosen) > mean(any_frame) + 0.05 * spread * (kind != "turned")


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
    still = AugmentationConfig(flipped=0, still=1, plain=1, lit=0)
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
    numbers = {name: drawn[name] for name in ("flip", "back", "nodes", "light", "colours", "tone")}
    views, plate, target = _changed(fetched, numbers, batch.warps)
    assert 0 < batch.seen.sum() < batch.seen.numel()
    assert torch.allclose(batch.views[batch.seen], views[batch.seen], atol=1e-5)
    assert not batch.views[~batch.seen].any()
    assert torch.allclose(batch.plate, plate, atol=1e-5) and torch.allclose(batch.target, target, atol=1e-5)
    canvas, mirror = views[0, :2, :3]
    assert (mirror - canvas.flip(2)).abs().mean() < 0.15  # the same but for the light
