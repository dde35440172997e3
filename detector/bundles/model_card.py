"""Model cards, and the recipes of bundles of what `detector-train` made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from detector.bundles.manifest import (
    Architecture,
    MemberRecipe,
    MultiBoxRecipe,
    Recipe,
    TrainedMember,
    TrainedMultiBox,
)
from detector.common.config import describe_error
from detector.errors import BundleError

Trained = TypeVar("Trained", TrainedMember, TrainedMultiBox)

MEMBER, MULTIBOX = "member.json", "multibox.json"
WEIGHTS = "weights.safetensors"
"""The files that a training leaves in its folder."""


def read_member(folder: Path) -> TrainedMember:
    """What a training says of the member in its folder.

    Raises:
        BundleError: it has not ended there, or its file is not one of a training.
    """
    return _read(folder / MEMBER, TrainedMember)


def read_multibox(folder: Path) -> TrainedMultiBox:
    """What a training says of the MultiBox in its folder.

    Raises:
        BundleError: it has not ended there, or its file is not one of a training.
    """
    return _read(folder / MULTIBOX, TrainedMultiBox)


def _read(file: Path, model: type[Trained]) -> Trained:
    try:
        return model.model_validate_json(file.read_bytes())
    except OSError as error:
        raise BundleError(file, f"no finished training: {error.strerror}") from error
    except ValidationError as error:
        raise BundleError(file, describe_error(error, model)) from error


def recipe_of(
    members: Mapping[Path, TrainedMember],
    multibox: TrainedMultiBox | None = None,
    *,
    name: str,
    version: str,
    notes: str = "",
) -> Recipe:
    """The recipe of a bundle of trained members, with its card.

    Args:
        members: by the folder of each one's training.
        multibox: what proposes boxes beside the engine, if the bundle is to have it.
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
        card=card(name, version, trained, multibox, notes),
        members=tuple(
            MemberRecipe(**m.model_dump(include=set(MemberRecipe.model_fields))) for m in trained
        ),
        multibox=multibox
        and MultiBoxRecipe(**multibox.model_dump(include=set(MultiBoxRecipe.model_fields))),
    )


def card(
    name: str,
    version: str,
    members: Sequence[TrainedMember],
    multibox: TrainedMultiBox | None,
    notes: str,
) -> str:
    """A model card in Markdown: each network's data, recipe, time, hardware, versions, scores."""
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
    if multibox is not None:
        lines += ["## MultiBox", "", "| | |", "|---|---|"]
        lines += [f"| {key} | {value} |" for key, value in _multibox_facts(multibox)]
        lines.append("")
    return "\n".join([*lines, notes.strip()]).rstrip() + "\n"


def _facts(member: TrainedMember) -> list[tuple[str, str]]:
    warp, recipe = member.warp, member.training["recipe"]
    tables = ("proposals", "sampling", "augmentation", "optimisation")
    return [
        *_origin(member.training),
        ("network", _network(member.architecture)),
        (
            "crops",
            f"{warp.crop_size} pixels, context {warp.context} on each side, "
            f"{warp.resampling} resampling",
        ),
        *((table, _in_words(recipe[table])) for table in tables),
        *_circumstances(member.training),
    ]


def _multibox_facts(multibox: TrainedMultiBox) -> list[tuple[str, str]]:
    recipe, scores = multibox.training["recipe"], multibox.training.get("scores")
    shape = f"{multibox.priors} priors, {multibox.head} head, spread {multibox.spread:g}, "
    shape += f"hidden layer {multibox.hidden}"
    facts = [
        *_origin(multibox.training),
        ("network", f"{_network(multibox.architecture)}; {shape}"),
        ("pictures", f"{multibox.size} pixels; {_in_words(recipe['pictures'])}"),
        ("loss", f"alpha {recipe['alpha']:g}, objects matched with {recipe['matching']}"),
        *((table, _in_words(recipe[table])) for table in ("augmentation", "optimisation")),
        *_circumstances(multibox.training),
    ]
    if scores:
        covered = f"{_percent(scores['coverage'])} % of the objects in {scores['images']} held-out"
        facts.append(("coverage", f"{covered} photos, by {scores['boxes']:.0f} boxes each"))
    return facts


def _origin(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    start = training["start"]
    facts = [("data", _data(training["data"]))]
    if "objects" in training:
        facts.append(("objects alone", _data(training["objects"])))
    origin = f"`{start['file']}` (sha256 {start['sha256'][:16]}…), seed {training['seed']}"
    return [*facts, ("start", origin)]


def _data(data: Mapping[str, Any]) -> str:
    return (
        f"`{data['annotations']}`: {data['photos']:,} photos, {data['boxes']:,} boxes "
        f"({data['difficult']:,} difficult)"
    )


def _network(net: Architecture) -> str:
    return (
        f"variant {net.variant}, {net.stem} stem, normalisation {net.normalisation}, "
        f"width {net.width:g}"
    )


def _circumstances(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    hours, minutes = divmod(round(training["seconds"] / 60), 60)
    return [
        ("time", f"{hours} h {minutes} min on {training['hardware']}, {training['precision']}"),
        ("versions", _in_words(training["versions"])),
    ]


def _in_words(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in table.items())


def _scores(scores: Mapping[str, Any]) -> list[str]:
    photos = f"{scores['images']} held-out photos, on selective search's proposals"
    lines = [
        f"On {photos}. {scores['rule']}.",
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
