"""The config survives JSON, and refuses what no network can be built from."""

import json
import math
from dataclasses import asdict

import pytest

from portrait_anim.networks.config import ModelConfig


@pytest.mark.parametrize("config", [ModelConfig(), ModelConfig.paper()], ids=["ours", "paper"])
def test_config_survives_json(config):
    assert ModelConfig(**json.loads(json.dumps(asdict(config)))) == config


def test_boxes_come_in_multiples_of_32_px():
    assert ModelConfig().stride == 32


@pytest.mark.parametrize(
    "field, value",
    [
        ("kind", "other"),
        ("kind", "warp"),  # the first painter's
        ("kind", None),
        ("size", 0),
        ("size", True),
        ("size", 512.0),
        ("middle", -1),
        ("middle", 10**9),
        ("widths", []),
        ("widths", [64, "128"]),
        ("widths", [64] * 11),
        ("widths", 64),
        ("feature_widths", [16, 48]),
        ("source_widths", [48, 96, 192, 256, 256]),
        ("max_flow", math.nan),
        ("max_flow", "16"),
    ],
)
def test_config_refuses(field, value):
    with pytest.raises(ValueError, match=field):
        ModelConfig(**{field: value})
