"""docs/recipes.md says what each preset does: the column `here` of its tables is the preset's own values."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from postmean.base.serialise import to_dict
from postmean.contract.presets import PRESETS as TARGETS
from postmean.training.config import TrainConfig
from postmean.training.presets import PRESETS

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
ANY = {"edm", "edm2", "ct", "ict", "ect", "scm", "meanflow", "vp", "flow"}
"""Presets for any images, which the page describes by those with a data set's name."""
OWN = {name for name in TARGETS if name.endswith("-digits")} | ANY
"""Presets that are nobody's recipe: those of the demo too."""


def settings(part: Any, **renamed: str) -> str:
    """Kind and settings, such as `ect: q 2, k 8`."""
    plain = to_dict(part)
    kind = plain.pop("kind", "")
    text = ", ".join(f"{renamed.get(name, name)} {value:g}" for name, value in plain.items() if is_number(value))
    words = [
        f"{name} {value}" for name, value in plain.items() if value and isinstance(value, str)
    ]  # name adam, weight edm
    values = ", ".join(filter(None, [*words, text]))
    return f"{kind}: {values}" if kind and values else kind or values


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def cells(name: str) -> dict[str, str]:
    """The rows of the preset's table: field -> what it is here."""
    target = TARGETS[name]
    recipe = target.recipe
    rows = {
        "data": f"{'flips' if recipe.flips else 'no flips'}, {'' if recipe.conditional else 'un'}conditional",
        "process": settings(recipe.process),
        "noise": settings(recipe.noise),
        "teacher step": recipe.solver if recipe.noise.has_teacher else "none",
        "images": f"{target.tuples:,}".replace(",", " "),
    }
    return rows | (training(PRESETS[name]) if name in PRESETS else {})


def training(config: TrainConfig) -> dict[str, str]:
    net = config.network
    side = f" at sides up to {net.dropout_side}" if net.dropout_side else ""
    multiples = " ".join(map(str, net.channel_mult))
    return {
        "batch": f"{config.batch_size} × {config.steps}",
        "network": f"{net.kind}, {net.channels} × ({multiples}), {net.layers_per_block} layers",
        "dropout": f"{net.dropout:g}{side}",
        "preconditioning": settings(config.preconditioning),
        "loss": settings(config.loss),
        "optimiser": settings(config.optimiser),
        "schedule": settings(config.schedule),
        "average": " and ".join(settings(ema) for ema in config.emas),
        "precision": config.precision,
    }


def table(name: str) -> dict[str, str]:
    """Field -> the cell `here` of the preset's section."""
    section = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"no section {name}"
    rows = re.findall(r"^\| ([^|]+) \| ([^|]*) \| ([^|]*) \|$", section[1], re.MULTILINE)
    return {field: here for field, _, here in rows if not set(field) <= set("-")}


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - OWN))
def test_the_table_of_a_preset_has_its_values(name: str) -> None:
    assert {field: here for field, here in table(name).items() if field != "field"} == cells(name)


def test_every_section_is_a_preset() -> None:
    sections = set(re.findall(r"^## ((?:edm|edm2|ct|ict|ect|scm|meanflow|vp|flow)-\S+)$", PAGE, re.MULTILINE))
    assert sections == TARGETS.keys() - OWN


@pytest.mark.parametrize("name", sorted(ANY))
def test_presets_for_any_images_are_those_with_a_name_without_flips_and_classes(name: str) -> None:
    named = "edm2-imagenet64" if name == "edm2" else f"{name}-cifar10"
    assert replace(TARGETS[named].recipe, flips=False, conditional=False) == TARGETS[name].recipe
    if name in PRESETS:
        assert replace(PRESETS[named], recipe=TARGETS[name].recipe) == PRESETS[name]
        assert TARGETS[named].tuples == TARGETS[name].tuples
