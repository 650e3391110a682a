"""Load the key and the certificate that sign outputs: the user's own, or those that this installation makes.

C2PA needs a certificate that is issued by another one. So the first use makes two: an issuer, whose key is thrown away
at once, and the certificate of the key that is kept. What this issuer vouches for was therefore signed with the key of
this installation, and that is how `verify_file` recognises it.
"""

import datetime
import os
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError, OutputError
from ..system.files import PathLike, partial_path, remove, sweep

SELF_MADE = "self-made key of one installation"  # the name in its certificate, which tells no user and no computer
YEARS = 20  # of validity: files should be checkable as long as somebody keeps them
_BEGIN = "-----BEGIN CERTIFICATE-----"
_MAX_PEM = 1 << 20  # bytes that are read; a certificate has a few thousand


class Identity(NamedTuple):
    """Who signs an output.

    chain: the certificates as PEM, the signer's first. key: the private key as PEM. algorithm: its name in C2PA, such
    as "ES256".
    """

    chain: str
    key: str
    algorithm: str


def own_key_path() -> Path:
    """Return the path of this installation's key, in the user's data folder."""
    from platformdirs import user_data_path

    return user_data_path("portrait-anim", appauthor=False) / "signing-key.pem"


def own_identity() -> Identity:
    """Load the key of this installation, or make one if there is none yet.

    Only the user can read the file. Two processes that make a key at the same time end up with the same one. Raises
    OutputError if the key cannot be saved, and InputError if it is damaged.
    """
    path = own_key_path()
    if not path.exists():
        try:
            _keep(path, _make())
        except OSError as error:
            raise OutputError(f"{path}: the signing key cannot be kept ({error.strerror}); give --sign-key.") from error
    key, mark, chain = _read(path).partition(_BEGIN)
    try:
        return _identity(path, path, mark + chain, key)
    except InputError as error:
        raise InputError(f"{path}: the signing key is damaged; delete the file to get a new one.") from error


def _keep(path: Path, text: str) -> None:
    """Write the key to a file that only the user can read, unless another process has made one meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    sweep(path.parent)
    partial = partial_path(path)
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        try:
            os.link(partial, path)  # unlike renaming, this never replaces the key that another process made
        except OSError:
            if not path.exists():  # a file system without links
                os.replace(partial, path)
    finally:
        remove(partial)


def own_issuer() -> str | None:
    """Return the issuer of this installation's certificate as PEM, or None if no key was made here yet."""
    try:
        return _BEGIN + own_key_path().read_text().rpartition(_BEGIN)[2]
    except (OSError, ValueError):
        return None


def load_identity(certificate: PathLike, key: PathLike) -> Identity:
    """Load the user's certificate and its private key.

    certificate: a PEM file, with the intermediate certificates after the user's. key: a PEM file without a password.

    Raises InputError if they are unreadable, not PEM, encrypted, expired, of a kind that C2PA does not know, or not a
    pair.
    """
    return _identity(certificate, key, _read(certificate), _read(key))


def _read(path: PathLike) -> str:
    """Read a PEM file. Raises InputError if it cannot be read or is not text."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_PEM).decode("ascii")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a PEM file; convert it with openssl.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); check the name of the certificate or key.") from error


def _identity(certificate_path: PathLike, key_path: PathLike, chain: str, key: str) -> Identity:
    """Check that a chain of certificates and a key, both PEM, can sign together. The paths are for messages."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        certificate = x509.load_pem_x509_certificates(chain.encode())[0]
    except (ValueError, IndexError) as error:
        raise InputError(f"{certificate_path}: holds no certificate in PEM form; convert it with openssl.") from error
    try:
        private = load_pem_private_key(key.encode(), password=None)
    except TypeError as error:
        raise InputError(f"{key_path}: is protected by a password; give a key without one.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{key_path}: holds no private key in PEM form; convert it with openssl.") from error
    if private.public_key() != certificate.public_key():
        raise InputError(f"{key_path}: is not the key of the certificate {certificate_path}; give a matching pair.")
    if certificate.not_valid_after_utc < datetime.datetime.now(datetime.timezone.utc):
        raise InputError(f"{certificate_path}: has expired on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it.")
    return Identity(chain, key, _algorithm(key_path, private))


def _algorithm(path: PathLike, key: object) -> str:
    """Return C2PA's name of the algorithm for a private key. Raises InputError for keys that C2PA does not accept."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size in (256, 384, 521):
        return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "PS256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ED25519"
    raise InputError(f"{path}: C2PA has no use for such a key; give EC (P-256), RSA (2048 bits) or Ed25519.")


def _make() -> str:
    """Make a new key, and return it as PEM with its certificate and that of its issuer."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.timezone.utc)

    def name(common: str) -> x509.Name:
        parts = ((NameOID.ORGANIZATION_NAME, "portrait-anim"), (NameOID.COMMON_NAME, common))
        return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])

    def certificate(common: str, public, signer, is_issuer: bool) -> x509.Certificate:
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
             "decipher_only"), False)  # fmt: skip
        builder = (
            x509.CertificateBuilder(name("issuer of one installation"), name(common), public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
            .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
            .add_extension(x509.BasicConstraints(is_issuer, 0 if is_issuer else None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=not is_issuer, key_cert_sign=is_issuer, crl_sign=is_issuer, **usage),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        if not is_issuer:
            usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])  # required by C2PA
            builder = builder.add_extension(usages, critical=False)
        return builder.sign(signer, hashes.SHA256())

    key, issuer_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, *form)
    text += certificate(SELF_MADE, key.public_key(), issuer_key, False).public_bytes(serialization.Encoding.PEM)
    issuer = certificate("issuer of one installation", issuer_key.public_key(), issuer_key, True)
    return (text + issuer.public_bytes(serialization.Encoding.PEM)).decode()
