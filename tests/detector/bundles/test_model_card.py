from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from detector.bundles.manifest import TrainedMember
from detector.bundles.model_card import MEMBER, make_card, make_recipe, read_member
from detector.errors import BundleError

TRAINING: dict[str, Any] = {
    "data": {"annotations": "train.json", "photos": 3508, "boxes": 10994, "difficult": 2145},
    "start": {"file": "bvlc.safetensors", "sha256": "ab" * 32},
    "seed": 7,
    "recipe": {
        "proposals": {"superpixels": "doubled"},
        "sampling": {"foreground": 32},
        "augmentation": {"mirror": True},
        "optimisation": {"steps": 4000, "schedule": "cosine"},
    },
    "seconds": 5430.0,
    "hardware": "2 processor cores",
    "precision": "bfloat16",
    "versions": {"torch": "2.15.0"},
    "scores": {
        "rule": "VOC 2007's",
        "images": 750,
        "mean_ap": 0.5,
        "mean_ap_11point": 0.51,
        "classes": [
            {"id": 1, "name": "cat", "ap": 0.5, "ap_11point": 0.51, "positives": 9},
            {"id": 2, "name": "dog", "ap": None, "ap_11point": None, "positives": 0},
        ],
    },
}


def member(**changes: Any) -> TrainedMember:
    content = {
        "warp": {"crop_size": 128, "resampling": "area"},
        "classes": ["cat", "dog"],
        "normalisation": {},
        "training": TRAINING,
    }
    return TrainedMember.model_validate(content | changes)


def test_a_card_tells_everything() -> None:
    text = make_card("pets", "1.0.0", [member()], None, "**Limits.** It knows pets.")
    for fact in (
        "# pets, version 1.0.0",
        "1 GoogLeNet for these classes: cat, dog.",
        "`train.json`: 3,508 photos, 10,994 boxes (2,145 difficult)",
        "`bvlc.safetensors` (sha256 abababababababab…), seed 7",
        "128 pixels, context 1/14 on each side, area resampling",
        "| optimisation | steps 4000, schedule cosine |",
        "1 h 30 min on 2 processor cores, bfloat16",
        "torch 2.15.0",
        "On 750 held-out photos, on selective search's proposals. VOC 2007's.",
        "| cat | 50.0 | 51.0 | 9 |",
        "| dog | none | none | 0 |",
        "| **mean** | 50.0 | 51.0 | |",
    ):
        assert fact in text
    assert text.endswith("**Limits.** It knows pets.\n")


def test_without_validation_there_are_no_scores() -> None:
    text = make_card("pets", "1", [member(training=TRAINING | {"scores": {}})], None, "")
    assert "held-out" not in text
    assert text.endswith("|\n")


def test_members_are_numbered_and_keep_their_warps() -> None:
    other = member(warp={"crop_size": 96, "context": "1/10"})
    recipe = make_recipe({Path("a"): member(), Path("b"): other}, name="pets", version="2")
    assert [m.warp.crop_size for m in recipe.members] == [128, 96]
    assert recipe.members[1].warp.context == Fraction(1, 10)
    assert recipe.classes == ("cat", "dog")
    assert "## Member 2" in recipe.card
    assert "2 GoogLeNets for" in recipe.card


def test_members_must_share_their_classes() -> None:
    other = member(classes=["cat", "cow"])
    with pytest.raises(BundleError, match=r"b/member\.json: has other classes than a/member\.json"):
        make_recipe({Path("a"): member(), Path("b"): other}, name="pets", version="2")


def test_reading(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"member\.json: no finished training: .*No such file"):
        read_member(tmp_path)
    (tmp_path / MEMBER).write_text(member().model_dump_json())
    assert read_member(tmp_path) == member()
    (tmp_path / MEMBER).write_text("{}")
    with pytest.raises(BundleError, match=r"member\.json: warp: Field required"):
        read_member(tmp_path)
