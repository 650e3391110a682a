"""Outputs that are marked, and a certificate of one's own."""

from pathlib import Path

import pytest
from support import ASTRONAUT

from portrait_anim import Animator
from portrait_anim.provenance import signing

FORMATS = ["a.mp4", "a.mov", "a.m4v", "a.gif", "a.webm", "a_%02d.png"]


@pytest.fixture(scope="session")
def marked(made_once, short_clip) -> dict[str, Path]:
    """A run in each format: suffix -> file."""

    def make(folder: Path) -> None:
        animator = Animator()
        for name in FORMATS:
            result = animator.animate([ASTRONAUT], short_clip, folder / name, max_size=256)
            assert not [w for w in result.warnings if "manifest" in w]

    folder = made_once("marked", make)
    return {Path(name).suffix: folder / name.replace("%02d", "07") for name in FORMATS}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> list[Path]:
    """A user's certificate and key, from an issuer: paths of certificate, key, issuer's certificate."""
    folder = tmp_path_factory.mktemp("cert")
    key, first, *rest = signing._make().split(signing._BEGIN)
    parts = {"cert.pem": signing._BEGIN + first, "key.pem": key, "issuer.pem": signing._BEGIN + rest[0]}
    for name, text in parts.items():
        (folder / name).write_text(text)
    return [folder / name for name in parts]
