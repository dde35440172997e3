"""What `detector-train` left in folders, made into the recipe and the model card of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from detector.common.config import describe_error, shorten
from detector.common.text_files import decode_text, read_bytes
from detector.errors import BundleError, FormatError

Trained = TypeVar("Trained", TrainedMember, TrainedMultiBox)

MEMBER = "member.json"
"""Name of the file of facts about a trained member, in the folder of its training."""

MULTIBOX = "multibox.json"
"""Name of the file of facts about a trained MultiBox, in the folder of its training."""

LARGEST_FACTS = 4 << 20
"""Largest size of a file of facts in bytes."""

WEIGHTS = "weights.safetensors"
"""Name of the file of weights, in the folder of a training."""


def read_member(folder: Path) -> TrainedMember:
    """Read the facts about the member that was trained in a folder.

    Raises:
        BundleError: The training has not ended, or its file is not valid.
    """
    return _read(folder / MEMBER, TrainedMember, _member_lines)


def read_multibox(folder: Path) -> TrainedMultiBox:
    """Read the facts about the MultiBox that was trained in a folder.

    Raises:
        BundleError: The training has not ended, or its file is not valid.
    """
    return _read(folder / MULTIBOX, TrainedMultiBox, _multibox_lines)


def _read(file: Path, model: type[Trained], describe: Callable[[Trained], list[str]]) -> Trained:
    try:
        text = decode_text(file, read_bytes(file, limit=LARGEST_FACTS))
        trained = model.model_validate_json(text)
    except FormatError as error:
        raise BundleError(file, f"no finished training: {error.message}") from error
    except ValidationError as error:
        raise BundleError(file, describe_error(error, model)) from error

    # The facts have no model of their own: what the card cannot show is wrong.
    try:
        describe(trained)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        fact = shorten(f"{type(error).__name__}: {error}")
        raise BundleError(
            file, f"training: a fact is missing or of another type: {fact}"
        ) from error
    return trained


def make_recipe(
    members: Mapping[Path, TrainedMember],
    multibox: TrainedMultiBox | None = None,
    *,
    name: str,
    version: str,
    notes: str = "",
) -> Recipe:
    """Return the recipe of a bundle of trained members, with its model card.

    Args:
        members: The members by the folders of their trainings.
        multibox: The MultiBox that proposes boxes beside the proposal method.
        name: Name of the bundle.
        version: Version of the bundle.
        notes: Markdown text to add to the card, such as limits and licences.

    Raises:
        BundleError: The members differ in something that they must share.
    """
    (first_folder, first), *others = members.items()
    for folder, member in others:
        for key in ("classes", "normalisation"):
            if getattr(member, key) != getattr(first, key):
                raise BundleError(folder / MEMBER, f"has other {key} than {first_folder / MEMBER}")

    trained = list(members.values())
    return Recipe(
        name=name,
        version=version,
        classes=first.classes,
        normalisation=first.normalisation,
        card=make_card(name, version, trained, multibox, notes),
        members=tuple(
            MemberRecipe(**member.model_dump(include=set(MemberRecipe.model_fields)))
            for member in trained
        ),
        multibox=multibox
        and MultiBoxRecipe(**multibox.model_dump(include=set(MultiBoxRecipe.model_fields))),
    )


def make_card(
    name: str,
    version: str,
    members: Sequence[TrainedMember],
    multibox: TrainedMultiBox | None,
    notes: str,
) -> str:
    """Return a model card in Markdown.

    For each network it lists data, recipe, time, hardware, versions and scores.

    Args:
        name: Name of the bundle.
        version: Version of the bundle.
        members: The members, in the order of the bundle.
        multibox: The MultiBox of the bundle.
        notes: Markdown text to add at the end.
    """
    count = f"{len(members)} GoogLeNet{'s' if len(members) > 1 else ''}"
    classes = ", ".join(members[0].classes)
    lines = [f"# {name}, version {version}", "", f"{count} for these classes: {classes}.", ""]

    for number, member in enumerate(members, start=1):
        heading = f"## Member {number}" if len(members) > 1 else "## Training"
        lines += [heading, "", *_member_lines(member)]
    if multibox is not None:
        lines += ["## MultiBox", "", *_multibox_lines(multibox)]
    return "\n".join([*lines, notes.strip()]).rstrip() + "\n"


def _member_lines(member: TrainedMember) -> list[str]:
    lines = _table(_member_facts(member))
    if scores := member.training.get("scores"):
        lines += _score_table(scores)
    return lines


def _multibox_lines(multibox: TrainedMultiBox) -> list[str]:
    return _table(_multibox_facts(multibox))


def _table(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Return the lines of a table with a row for each fact, and an empty line."""
    return ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts), ""]


def _member_facts(member: TrainedMember) -> list[tuple[str, str]]:
    warp = member.warp
    recipe = member.training["recipe"]
    crops = (
        f"{warp.crop_size} pixels, context {warp.context} on each side, "
        f"{warp.resampling} resampling"
    )
    return [
        *_origin_facts(member.training),
        ("network", _describe_architecture(member.architecture)),
        ("crops", crops),
        *_recipe_facts(recipe, ("proposals", "sampling", "augmentation", "optimisation")),
        *_run_facts(member.training),
    ]


def _multibox_facts(multibox: TrainedMultiBox) -> list[tuple[str, str]]:
    recipe = multibox.training["recipe"]
    head = (
        f"{multibox.priors} priors, {multibox.head} head, spread {multibox.spread:g}, "
        f"hidden layer {multibox.hidden}"
    )
    facts = [
        *_origin_facts(multibox.training),
        ("network", f"{_describe_architecture(multibox.architecture)}; {head}"),
        ("pictures", f"{multibox.size} pixels; {_list_values(recipe['pictures'])}"),
        ("loss", f"alpha {recipe['alpha']:g}, objects matched with {recipe['matching']}"),
        *_recipe_facts(recipe, ("augmentation", "optimisation")),
        *_run_facts(multibox.training),
    ]
    if scores := multibox.training.get("scores"):
        covered = f"{_percent(scores['coverage'])} % of the objects in {scores['images']} held-out"
        facts.append(("coverage", f"{covered} photos, by {scores['boxes']:.0f} boxes each"))
    return facts


def _origin_facts(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts about data sets, initial weights and seed."""
    facts = [("data", _describe_data(training["data"]))]
    if "objects" in training:
        facts.append(("objects alone", _describe_data(training["objects"])))
    start = training["start"]
    origin = f"`{start['file']}` (sha256 {start['sha256'][:16]}…), seed {training['seed']}"
    return [*facts, ("start", origin)]


def _recipe_facts(recipe: Mapping[str, Any], tables: Sequence[str]) -> list[tuple[str, str]]:
    return [(table, _list_values(recipe[table])) for table in tables]


def _run_facts(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts about time, hardware and versions."""
    hours, minutes = divmod(round(training["seconds"] / 60), 60)
    return [
        ("time", f"{hours} h {minutes} min on {training['hardware']}, {training['precision']}"),
        ("versions", _list_values(training["versions"])),
    ]


def _describe_data(data: Mapping[str, Any]) -> str:
    return (
        f"`{data['annotations']}`: {data['photos']:,} photos, {data['boxes']:,} boxes "
        f"({data['difficult']:,} difficult)"
    )


def _describe_architecture(architecture: Architecture) -> str:
    return (
        f"variant {architecture.variant}, {architecture.stem} stem, "
        f"normalisation {architecture.normalisation}, width {architecture.width:g}"
    )


def _list_values(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in table.items())


def _score_table(scores: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of scores, with an introduction and an empty line."""
    images = f"{scores['images']} held-out photos, on selective search's proposals"
    lines = [
        f"On {images}. {scores['rule']}.",
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
