"""Marks of outputs: what every format carries, who signed, what tampering does. c2pa's own reader has the last word."""

import json
import os
import shutil
import subprocess
import sys

import c2pa
import imageio_ffmpeg
import numpy as np
import pytest
from conftest import ASTRONAUT, CLIP, PATIENCE, assert_refused, read_frames, run_animate, write_video
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from portrait_anim import Animator
from portrait_anim.errors import InputError, UsageError
from portrait_anim.provenance import signing
from portrait_anim.provenance.marks import OFFLINE, SOURCE_TYPE, Marking
from portrait_anim.provenance.verify import verify_file

FORMATS = ["a.mp4", "a.mov", "a.m4v", "a.gif", "a.webm", "a_%02d.png"]


def run_verify(*arguments, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "portrait_anim.commands.tools", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **options)


def c2pa_reads(path) -> dict:
    """The manifest store, as c2pa alone reads it."""
    with c2pa.Context.from_dict(OFFLINE) as context, c2pa.Reader(path, context=context) as reader:
        return {**json.loads(reader.json()), "validation_state": reader.get_validation_state()}


@pytest.fixture(scope="module")
def marked(tmp_path_factory, short_clip):
    """A run in each format: suffix -> file."""
    folder = tmp_path_factory.mktemp("marked")
    animator, files = Animator(), {}
    for name in FORMATS:
        result = animator.animate([ASTRONAUT], short_clip, folder / name, max_size=256)
        assert not [w for w in result.warnings if "manifest" in w]
        files[result.output.suffix] = folder / name.replace("%02d", "07")
    return files


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A user's certificate and key, from an issuer: paths of certificate, key, issuer's certificate."""
    folder = tmp_path_factory.mktemp("cert")
    key, first, *rest = signing._make().split(signing._BEGIN)
    parts = {"cert.pem": signing._BEGIN + first, "key.pem": key, "issuer.pem": signing._BEGIN + rest[0]}
    for name, text in parts.items():
        (folder / name).write_text(text)
    return [folder / name for name in parts]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".gif", ".png"])
def test_every_output_is_signed_and_says_what_it_is(marked, short_clip, suffix):
    store = c2pa_reads(marked[suffix])
    assert store["validation_state"] == "Valid"
    manifest = store["manifests"][store["active_manifest"]]
    (action,) = [a["data"]["actions"] for a in manifest["assertions"] if a["label"].startswith("c2pa.actions")][0]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", SOURCE_TYPE)
    assert [i["title"] for i in manifest["ingredients"]] == ["astronaut.jpg", "short.mp4"]
    assert len(action["parameters"]["ingredients"]) == 2
    report = verify_file(marked[suffix])
    assert (report.verdict, report.synthetic, report.signer) == ("intact", True, "this installation")
    import hashlib

    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (ASTRONAUT, short_clip)]
    assert [i["sha256"] for i in report.inputs] == digests


def test_metadata_is_where_others_look_for_it(marked):
    """The packet that `_add_xmp` puts there, found by readers that are not ours."""
    from PIL import Image

    with Image.open(marked[".png"]) as image:
        assert SOURCE_TYPE.encode() in image.info["xmp"] and b"CreatorTool" in image.info["xmp"]
    data = marked[".gif"].read_bytes()
    place = start = data.index(b"\x21\xff\x0bXMP DataXMP") + 14
    while data[place]:  # readers that know no XMP take the text for blocks, and must come out at its end
        place += data[place] + 1
    assert SOURCE_TYPE.encode() in data[start:place] and data[place + 1] in b"\x21\x2c"  # the next block
    for suffix in (".mp4", ".mov"):
        data, place, kinds = marked[suffix].read_bytes(), 0, []
        while place < len(data):  # the boxes fill the file exactly
            size = int.from_bytes(data[place : place + 4], "big")
            kinds.append((data[place + 4 : place + 8], data[place + 8 : place + 24].hex()))
            assert size >= 8
            place += size
        assert place == len(data)
        assert (b"uuid", "be7acfcb97a942e89c71999491e3afac") in kinds
    tags = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(marked[".webm"])], capture_output=True, text=True
    ).stderr
    assert SOURCE_TYPE in tags and "Made with portrait-anim" in tags


def test_webm_has_the_metadata_alone(marked):
    report = verify_file(marked[".webm"])
    assert (report.verdict, report.synthetic, report.source_type) == ("unsigned", True, SOURCE_TYPE)
    assert report.tool.startswith("portrait-anim ")


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".png"])
def test_marking_changes_no_frame(tmp_path, suffix):
    frames = read_frames(CLIP)[:5, :256, :256].copy()
    plain, signed = tmp_path / f"plain{suffix}", tmp_path / f"signed{suffix}"
    if suffix == ".png":
        from PIL import Image

        Image.fromarray(frames[0]).save(plain)
    else:
        write_video(plain, frames)
    shutil.copy(plain, signed)
    marking = Marking([ASTRONAUT], CLIP)
    marking(signed)
    assert not marking.warnings and verify_file(signed).verdict == "intact"
    assert (read_frames(plain) == read_frames(signed)).all()
    assert signed.stat().st_size - plain.stat().st_size < 12_000


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".gif", ".png"])
def test_a_flipped_bit_is_found(tmp_path, marked, suffix):
    data = marked[suffix].read_bytes()
    rng = np.random.default_rng(5)
    start = data.index({".gif": b"NETSCAPE", ".png": b"IDAT"}.get(suffix, b"mdat")) + 30
    for place in rng.integers(start, min(start + 4000, len(data) - 2000), 10):
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.integers(8)
        path = tmp_path / f"flipped{suffix}"
        path.write_bytes(flipped)
        assert verify_file(path).verdict == "altered", place


def test_tampering_is_told_in_words_and_by_exit_code(tmp_path, marked):
    data = bytearray(marked[".mp4"].read_bytes())
    assert run_verify(marked[".mp4"]).returncode == 0
    data[data.index(b"mdat") + 500] ^= 1
    (tmp_path / "flipped.mp4").write_bytes(data)
    done = run_verify("flipped.mp4", cwd=tmp_path)
    assert done.returncode == 1 and "NOT intact" in done.stdout and "this installation" in done.stdout
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([ffmpeg, "-v", "error", "-i", marked[".mp4"], "-c", "copy", tmp_path / "again.mp4"], check=True)
    done = run_verify("again.mp4", cwd=tmp_path)
    assert done.returncode == 1 and "No signed manifest" in done.stdout
    assert "synthetic, by its own account; made with portrait-anim" in done.stdout  # its comment stayed
    done = run_verify(CLIP)
    assert done.returncode == 1 and "does not say that it is genuine" in done.stdout


def test_verify_as_json_and_refusals(tmp_path, marked):
    report = json.loads(run_verify(marked[".gif"], "--json").stdout)
    assert report["verdict"] == "intact" and report["source_type"] == SOURCE_TYPE
    (tmp_path / "empty.mp4").touch()
    for name in ("missing.mp4", "empty.mp4", "."):
        assert_refused(run_verify(name, cwd=tmp_path), 3, name)
    assert_refused(run_verify(marked[".mp4"], "--trust", ASTRONAUT), 3, "--trust")
    for name in ("text.mp4", "odd\nname"):
        (tmp_path / name).write_text("no picture")
        assert verify_file(tmp_path / name).verdict == "unmarked"


def test_private_names_nobody(tmp_path, marked):
    photo = tmp_path / "Erika Mustermann.png"
    shutil.copy(marked[".png"], photo)  # it has a manifest of its own, which names astronaut.jpg
    done = run_animate(photo, "-d", CLIP, "--end", "0.2", "--max-size", "128", "--private", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (output,) = tmp_path.glob("*.mp4")
    data = output.read_bytes()
    assert not [word for word in (b"Erika", b"clip.mp4", b"astronaut") if word in data]
    report = verify_file(output)
    assert report.verdict == "intact" and [i["name"] for i in report.inputs] == ["portrait", "driver"]
    assert all(len(i["sha256"]) == 64 for i in report.inputs)
    Animator().animate([photo], CLIP, tmp_path / "b.mp4", end=0.2, max_size=128)
    assert b"astronaut" in (tmp_path / "b.mp4").read_bytes()  # else an input's own provenance goes along


def test_label_is_seen_and_only_in_its_corner(tmp_path, short_clip):
    animator, frames = Animator(), {}
    for label in (False, True):
        result = animator.animate([ASTRONAUT], short_clip, tmp_path / f"{label}.mp4", max_size=256, crf=0, label=label)
        frames[label] = read_frames(result.output).astype(int)
    corner = np.s_[:, -26:, -36:]
    changed = np.abs(frames[True] - frames[False]).max(-1) > 8
    assert changed[corner].mean() > 0.15 and frames[True][corner].min(-1).max() > 180  # white letters
    changed[corner] = False
    assert changed.mean() < 1e-4


def test_ones_own_certificate(tmp_path, short_clip, certificate):
    cert, key, issuer = certificate
    options = ["-d", short_clip, "-o", "a.mp4", "--max-size", "128", "--sign-cert", cert, "--sign-key", key]
    done = run_animate(ASTRONAUT, *options, cwd=tmp_path)
    assert done.returncode == 0 and "manifest" not in done.stderr, done.stderr
    assert c2pa_reads(tmp_path / "a.mp4")["validation_state"] == "Valid"
    assert verify_file(tmp_path / "a.mp4").signer == "another installation"
    report = verify_file(tmp_path / "a.mp4", trust=issuer)
    assert (report.signer, report.verdict) == ("trusted", "intact")


def test_certificates_that_cannot_sign_are_refused_before_the_work(tmp_path, short_clip, certificate):
    cert, key, issuer = certificate
    other = tmp_path / "other.pem"
    other.write_text(signing._make())
    (tmp_path / "junk.pem").write_bytes(bytes(range(256)))
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    (tmp_path / "locked.pem").write_bytes(locked)
    for a, b, word in [
        (cert, other, "matching pair"),
        (tmp_path / "junk.pem", key, "not a PEM"),
        (cert, tmp_path / "junk.pem", "not a PEM"),
        (cert, cert, "no private key"),
        (key, key, "no certificate"),
        (cert, tmp_path / "locked.pem", "password"),
        (tmp_path / "none.pem", key, "none.pem"),
        (cert, tmp_path, "cannot be read"),
    ]:
        with pytest.raises(InputError, match=word):
            Marking([ASTRONAUT], short_clip, sign_cert=a, sign_key=b)
    with pytest.raises(UsageError, match="--sign-key"):
        Marking([ASTRONAUT], short_clip, sign_cert=cert)
    done = run_animate(ASTRONAUT, "-d", short_clip, "--sign-cert", cert, "--sign-key", other, cwd=cert.parent)
    assert_refused(done, 3, "matching pair")


def test_a_self_signed_certificate_is_refused_with_the_reason_of_c2pa(tmp_path):
    import datetime

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    name, now = x509.Name([]), datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now - day, now + day)
    (tmp_path / "c.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "k.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    with pytest.raises(InputError, match="cannot sign C2PA manifests"):
        Marking([ASTRONAUT], CLIP, sign_cert=tmp_path / "c.pem", sign_key=tmp_path / "k.pem")


# ---------------------------------------------------------------- the key of the installation


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_own_key_is_private_and_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    code = "from portrait_anim.provenance.signing import own_identity as f; print(hash(f().key.strip()))"
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    start = lambda: subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    answers = {process.communicate(timeout=PATIENCE)[0] for process in [start() for _ in range(6)]}
    assert len(answers) == 1 and answers != {b""}
    path = signing.own_key_path()
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("fault", ["damaged", "a file in the way", "no c2pa"])
def test_without_a_key_the_run_is_not_lost(tmp_path, monkeypatch, short_clip, fault):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    if fault == "damaged":
        signing.own_key_path().parent.mkdir(parents=True)
        signing.own_key_path().write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n")
    elif fault == "a file in the way":
        (tmp_path / "data").touch()
    else:
        monkeypatch.setitem(sys.modules, "c2pa", None)
    result = Animator().animate([ASTRONAUT], short_clip, tmp_path / "a.mp4", max_size=128)
    (warning,) = [w for w in result.warnings if "manifest" in w]
    assert "no signed manifest was added" in warning and "metadata only" in warning
    monkeypatch.undo()
    assert verify_file(tmp_path / "a.mp4").verdict == "unsigned"
    assert len(read_frames(tmp_path / "a.mp4")) == 12
    assert not list(tmp_path.glob(".*"))
