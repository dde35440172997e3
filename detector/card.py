"""Model cards, and bundles of what `detector-train regions` made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from detector.errors import BundleError
from detector.manifest import MemberRecipe, Recipe, TrainedMember
from detector.settings import describe

MEMBER, MULTIBOX = "member.json", "multibox.json"
WEIGHTS = "weights.safetensors"
"""The files that a training leaves in its folder."""


def read_member(folder: Path) -> TrainedMember:
    """What a training says of the weights in its folder.

    Raises:
        BundleError: it has not ended there, or its file is not one of a training.
    """
    file = folder / MEMBER
    try:
        return TrainedMember.model_validate_json(file.read_bytes())
    except OSError as error:
        raise BundleError(file, f"no finished training: {error.strerror}") from error
    except ValidationError as error:
        raise BundleError(file, describe(error, TrainedMember)) from error


def recipe_of(
    members: Mapping[Path, TrainedMember], *, name: str, version: str, notes: str = ""
) -> Recipe:
    """The recipe of a bundle of trained members, with its card.

    Args:
        members: by the folder of each one's training.
        notes: what else the card should say, in Markdown: limits, licences.

    Raises:
        BundleError: members differ in what they must share.
    """
    (first, shared), *others = members.items()
    for folder, member in others:
        for key in ("classes", "normalisation"):
            if getattr(member, key) != getattr(shared, key):
                raise BundleError(folder / MEMBER, f"has other {key} than {first / MEMBER}")
    trained = list(members.values())
    return Recipe(
        name=name,
        version=version,
        classes=shared.classes,
        normalisation=shared.normalisation,
        card=card(name, version, trained, notes),
        members=tuple(MemberRecipe(warp=m.warp, architecture=m.architecture) for m in trained),
    )


def card(name: str, version: str, members: Sequence[TrainedMember], notes: str) -> str:
    """A model card in Markdown: each member's data, recipe, time, hardware, versions, scores."""
    count = f"{len(members)} GoogLeNet{'s' if len(members) > 1 else ''}"
    classes = ", ".join(members[0].classes)
    lines = [f"# {name}, version {version}", "", f"{count} for these classes: {classes}.", ""]
    for number, member in enumerate(members, start=1):
        heading = f"## Member {number}" if len(members) > 1 else "## Training"
        lines += [heading, "", "| | |", "|---|---|"]
        lines += [f"| {key} | {value} |" for key, value in _facts(member)]
        lines.append("")
        if scores := member.training.get("scores"):
            lines += _scores(scores)
    return "\n".join([*lines, notes.strip()]).rstrip() + "\n"


def _facts(member: TrainedMember) -> list[tuple[str, str]]:
    facts, warp, net = member.training, member.warp, member.architecture
    data, recipe = facts["data"], facts["recipe"]
    start, versions = facts["start"], facts["versions"]
    hours, minutes = divmod(round(facts["seconds"] / 60), 60)
    tables = ("proposals", "sampling", "augmentation", "optimisation")
    return [
        (
            "data",
            f"`{data['annotations']}`: {data['photos']:,} photos, {data['boxes']:,} boxes "
            f"({data['difficult']:,} difficult)",
        ),
        ("start", f"`{start['file']}` (sha256 {start['sha256'][:16]}…), seed {facts['seed']}"),
        (
            "network",
            f"variant {net.variant}, {net.stem} stem, normalisation {net.normalisation}, "
            f"width {net.width:g}",
        ),
        (
            "crops",
            f"{warp.crop_size} pixels, context {warp.context} on each side, "
            f"{warp.resampling} resampling",
        ),
        *((table, _in_words(recipe[table])) for table in tables),
        ("time", f"{hours} h {minutes} min on {facts['hardware']}, {facts['precision']}"),
        ("versions", _in_words(versions)),
    ]


def _in_words(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in table.items())


def _scores(scores: Mapping[str, Any]) -> list[str]:
    lines = [
        f"On {scores['images']} held-out photos. {scores['rule']}.",
        "",
        "| class | AP | 11-point | objects |",
        "|---|---|---|---|",
    ]
    for item in scores["classes"]:
        columns = f"{_percent(item['ap'])} | {_percent(item['ap_11point'])} | {item['positives']}"
        lines.append(f"| {item['name']} | {columns} |")
    means = f"{_percent(scores['mean_ap'])} | {_percent(scores['mean_ap_11point'])}"
    return [*lines, f"| **mean** | {means} | |", ""]


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f}"
