"""Certificates and the key of the installation."""

import datetime
import os
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support import ASTRONAUT, CLIP, PATIENCE, assert_refused, c2pa_reads, read_frames, run_animate

from portrait_anim import Animator
from portrait_anim.errors import InputError, UsageError
from portrait_anim.provenance import signing
from portrait_anim.provenance.marks import Marking
from portrait_anim.provenance.verify import verify_file


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
    key = ec.generate_private_key(ec.SECP384R1())
    name, now = x509.Name([]), datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now - day, now + day)
    (tmp_path / "c.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "k.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    with pytest.raises(InputError, match="cannot sign C2PA manifests"):
        Marking([ASTRONAUT], CLIP, sign_cert=tmp_path / "c.pem", sign_key=tmp_path / "k.pem")


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
