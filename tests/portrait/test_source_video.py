"""A video in place of photos."""

from dataclasses import replace

import numpy as np
from support import ASTRONAUT, CLIP, assert_refused, run_animate

from portrait_anim.geometry.mesh import openness
from portrait_anim.portrait.source_video import choose_frames, portraits_of_video


def test_frames_of_a_video_are_sharp_and_different(driver):
    portraits = portraits_of_video(CLIP, 4, max_size=512)
    assert len(portraits) == 4
    opening = np.stack([openness(p.landmarks) for p in portraits])
    everything = openness(driver.landmarks)
    assert opening[0, 0] < np.median(everything[:, 0]) + 0.02  # the canvas is calm
    consecutive = np.abs(everything[1:5] - everything[0]).sum(1).mean()
    apart = np.abs(opening[1:] - opening[0]).sum(1)
    assert apart.min() > consecutive
    blurred = np.full(len(driver), 1.0)
    blurred[:40] = 0.0
    motion = replace(driver, found=np.arange(len(driver)) < 100)
    assert all(40 <= t < 100 for t in choose_frames(motion, blurred, 8))


def test_a_video_animates_itself(tmp_path, short_clip):
    arguments = ("--shots", 2, "-d", short_clip, "--finetune", "off", "--max-size", 256, "-o", "o.mp4")
    done = run_animate("--source-video", short_clip, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o.mp4").exists()
    done = run_animate("--source-video", ASTRONAUT.with_name("no.mp4"), "-d", CLIP, cwd=tmp_path)
    assert_refused(done, 3, "no.mp4")
    done = run_animate("--source-video", CLIP, "--shots", 0, "-d", CLIP, cwd=tmp_path)
    assert_refused(done, 2, "--shots")
    done = run_animate(ASTRONAUT, "--shots", 4, "-d", CLIP, cwd=tmp_path)
    assert_refused(done, 2, "--shots has no meaning without --source-video")
