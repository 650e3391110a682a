"""Encoders that fail, are killed or are interrupted: one sentence, and nothing half-written."""

import os
import signal
import subprocess

import imageio_ffmpeg
import pytest
from clips import noise, save, writer_of

from portrait_anim.errors import OutputError
from portrait_anim.media.reading import FrameReader, probe


@pytest.mark.parametrize("name", ["a.mp4", "frames/", "p_%05d.png"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_appears_after_an_exception(tmp_path, name, error):
    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(error), writer_of(f"{tmp_path}/{name}", (64, 48), 25) as writer:
        writer.write(noise(1)[0])
        assert len(os.listdir(tmp_path)) == 2  # a hidden one besides
        raise error
    assert writer._process.poll() is not None
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"old"


@pytest.mark.parametrize("what", ["probe", "read", "write"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ffmpeg_is_started_leaves_no_process(plain, tmp_path, monkeypatch, what, number):
    """The handler raises, as those of the command do, between the start of the process and its use."""
    started, start = [], subprocess.Popen._execute_child

    def interrupted(*_):
        raise KeyboardInterrupt

    def signalled(process, *arguments):
        start(process, *arguments)
        started.append(process)
        signal.raise_signal(number)

    reader = FrameReader(plain)
    os.utime(plain)  # else probe would still know it
    monkeypatch.setattr(subprocess.Popen, "_execute_child", signalled)
    before = signal.signal(number, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            {
                "probe": lambda: probe(plain),
                "read": lambda: next(iter(reader)),
                "write": lambda: save(tmp_path / "x.mp4", noise()),
            }[what]()
        assert signal.getsignal(number) is interrupted
    finally:
        signal.signal(number, before)
    assert len(started) == 1 and started[0].returncode is not None  # ended, and waited for
    assert not list(tmp_path.iterdir())


def test_encoder_killed(tmp_path):
    with (
        pytest.raises(OutputError, match=r"a\.mp4: cannot be written"),
        writer_of(tmp_path / "a.mp4", (640, 480), 25) as writer,
    ):
        for frame in noise(20, 640, 480):
            writer.write(frame)
            writer._process.kill()
    assert os.listdir(tmp_path) == []


def test_encoder_refuses(tmp_path):
    with pytest.raises(OutputError, match="crf|encoder"):
        save(tmp_path / "a.mp4", noise(20), crf="best")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="uses a shell script as encoder")
def test_last_words_of_a_dying_encoder_without_deadlock(tmp_path, monkeypatch):
    fake = tmp_path / "ffmpeg"
    fake.write_text(
        "#!/bin/sh\nhead -c 99999 >/dev/null\n"
        "head -c 999999 /dev/zero | tr '\\0' x >&2\necho >&2\n"  # more than a pipe would hold
        "echo '[mp4 @ 0x1] No space left on device' >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(fake))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)"):
        save(out / "a.mp4", noise(20, 640, 480))
    assert os.listdir(out) == []
