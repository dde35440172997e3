"""`detector-bundle`: show, verify and pack bundles."""

from __future__ import annotations

import argparse
from pathlib import Path

from pydantic import ValidationError

from detector.bundles.bundle import Bundle
from detector.bundles.manifest import Recipe
from detector.bundles.model_card import WEIGHTS, make_recipe, read_member, read_multibox
from detector.bundles.pack import pack
from detector.commands.options import DONE, Arguments, add_action, main, make_parser
from detector.common.config import describe_error, read_toml, validate
from detector.common.text_files import read_text
from detector.errors import SettingsError


def command(arguments: Arguments = None) -> int:
    """The entry point; returns the exit code."""
    parser = make_parser("detector-bundle", "Show, verify and make bundles.")
    actions = parser.add_subparsers(metavar="show|verify|pack", required=True)

    show = add_action(actions, "show", _show, "what is in a bundle")
    verify = add_action(actions, "verify", _verify, "check a bundle's files")
    for action in (show, verify):
        action.add_argument("bundle", nargs="?", metavar="DIR|NAME", help="default: voc20")

    add = add_action(actions, "pack", _pack, "make a bundle of trained members").add_argument
    add("--members", type=Path, nargs="+", metavar="DIR", help="what detector-train made")
    add("--multibox", type=Path, metavar="DIR|FILE", help="likewise; with --config: its weights")
    add("--name", metavar="NAME", help="with --members: of the bundle (default: --out's)")
    add("--bundle-version", default="1.0.0", metavar="V", help="with --members: of the bundle")
    add("--notes", type=Path, metavar="FILE.md", help="with --members: more for the model card")
    add(
        "--config", type=Path, metavar="FILE.toml", help="for other weights: classes, members, card"
    )
    add("--weights", type=Path, nargs="+", metavar="FILE", help="with --config: one for a member")
    add("--out", type=Path, required=True, metavar="DIR", help="the bundle; must not exist")

    parsed = parser.parse_args(arguments)
    return main(parsed.action, parsed)


def _show(arguments: argparse.Namespace) -> int:
    bundle = Bundle.load(arguments.bundle)
    print(bundle.manifest.model_dump_json(indent=2))
    print(f"sha256 of bundle.json: {bundle.sha256}")
    return DONE


def _verify(arguments: argparse.Namespace) -> int:
    bundle = Bundle.load(arguments.bundle)
    bundle.verify()
    members = len(bundle.manifest.members)
    multibox = " and MultiBox" if bundle.manifest.multibox else ""
    print(f"{bundle.directory}: sound, {members} of {members} members{multibox} verified")
    return DONE


def _pack(arguments: argparse.Namespace) -> int:
    if bool(arguments.members) == bool(arguments.config):
        raise SettingsError("one of --members DIR… and --config FILE.toml is needed")
    if arguments.config and (arguments.name or arguments.notes):
        raise SettingsError("--name and --notes go only with --members: --config says both")
    if arguments.members:
        recipe = _recipe_of_members(arguments)
        weights = [folder / WEIGHTS for folder in arguments.members]
        multibox = arguments.multibox and arguments.multibox / WEIGHTS
    else:
        recipe = validate(Recipe, read_toml(arguments.config), str(arguments.config))
        weights = arguments.weights or []
        multibox = arguments.multibox
    bundle = pack(arguments.out, recipe, weights, multibox)
    print(f"{bundle.directory}: made and verified, sha256 {bundle.sha256}")
    return DONE


def _recipe_of_members(arguments: argparse.Namespace) -> Recipe:
    notes = read_text(arguments.notes) if arguments.notes else ""
    members = {folder: read_member(folder) for folder in arguments.members}
    multibox = arguments.multibox and read_multibox(arguments.multibox)
    name = arguments.name or arguments.out.name
    version = arguments.bundle_version
    try:
        return make_recipe(members, multibox, name=name, version=version, notes=notes)
    except ValidationError as error:
        raise SettingsError(f"--name {name}: {describe_error(error, Recipe)}") from error


if __name__ == "__main__":
    raise SystemExit(command())
