from __future__ import annotations

from pathlib import Path

import pytest

from detector.bundles.bundle import Bundle
from detector.commands.bundle import command


def test_show_and_verify(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["show", str(tiny_bundle.directory)]) == 0
    shown = capsys.readouterr().out
    assert '"name": "tiny"' in shown
    assert tiny_bundle.sha256 in shown
    assert command(["verify", str(tiny_bundle.directory)]) == 0
    assert "sound, 2 of 2 members verified" in capsys.readouterr().out


def test_pack(tmp_path: Path, tiny_weights: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "mine"\nversion = "2"\nclasses = ["a", "b", "c"]\ncard = "# mine"\n'
        "[[members]]\nwarp = { crop_size = 64, context = '16/224' }\n"
        "architecture = { width = 0.25 }\n"
    )
    out = tmp_path / "mine"
    arguments = ["pack", "--config", str(recipe), "--weights", str(tiny_weights[0])]
    assert command([*arguments, "--out", str(out)]) == 0
    assert "made and verified" in capsys.readouterr().out
    member = Bundle.load(out).manifest.members[0]
    assert str(member.warp.context) == "1/14"
    assert command([*arguments, "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_wrong_recipe(
    tmp_path: Path, tiny_weights: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "mine"\nversion = "2"\nclasses = ["a"]\ncard = ""\n')
    arguments = ["pack", "--config", str(recipe), "--weights", str(tiny_weights[0])]
    assert command([*arguments, "--out", str(tmp_path / "new")]) == 2
    assert "recipe.toml: members: Field required" in capsys.readouterr().err


def test_damaged_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    assert command(["verify", str(tmp_path)]) == 2
    assert "bundle.json: name: Field required" in capsys.readouterr().err
