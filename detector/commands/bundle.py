"""`detector-bundle`: show, verify and pack bundles."""

from __future__ import annotations

import argparse
from pathlib import Path

from detector.bundle import Bundle, pack
from detector.commands.options import DONE, Arguments, main, parser
from detector.manifest import Recipe
from detector.settings import check, read_toml


def command(arguments: Arguments = None) -> int:
    """The entry point; returns the exit code."""
    made = parser("detector-bundle", "Show, verify and make bundles.")
    actions = made.add_subparsers(metavar="show|verify|pack", required=True)

    show = actions.add_parser("show", help="what is in a bundle")
    show.set_defaults(action=_show)
    verify = actions.add_parser("verify", help="check a bundle's files")
    verify.set_defaults(action=_verify)
    for action in (show, verify):
        action.add_argument("bundle", nargs="?", metavar="DIR|NAME", help="default: voc20")

    packing = actions.add_parser("pack", help="make a bundle from files of weights")
    packing.set_defaults(action=_pack)
    add = packing.add_argument
    add("--config", type=Path, required=True, metavar="FILE.toml", help="classes, members, card")
    add("--weights", type=Path, required=True, nargs="+", metavar="FILE", help="one for a member")
    add("--out", type=Path, required=True, metavar="DIR", help="the bundle; must not exist")

    parsed = made.parse_args(arguments)
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
    print(f"{bundle.directory}: sound, {members} of {members} members verified")
    return DONE


def _pack(arguments: argparse.Namespace) -> int:
    content = read_toml(arguments.config)
    check(Recipe, content, str(arguments.config))
    bundle = pack(arguments.out, Recipe.model_validate(content), arguments.weights)
    print(f"{bundle.directory}: made and verified, sha256 {bundle.sha256}")
    return DONE


if __name__ == "__main__":
    raise SystemExit(command())
