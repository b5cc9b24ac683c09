"""Presets and settings from Python are those of the commands; mistakes are typed errors."""

from pathlib import Path

import pytest

from postmean.pipeline import PRESETS, ConfigError, GenerateConfig, PlanConfig, ServeConfig
from postmean.training import PRESETS as RECIPES
from postmean.training import TrainRunConfig

STORE = Path("store")
PATHS = {"targets": "targets", "store": STORE, "out": Path("model")}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_recipe_and_the_tuples_of_its_command(name: str) -> None:
    for config in (
        GenerateConfig.preset(name, store=STORE, out="run"),
        PlanConfig.preset(name, store=STORE),
        ServeConfig.preset(name, store=STORE),
    ):
        assert (config.store, config.recipe, config.tuples) == (STORE, PRESETS[name].recipe, PRESETS[name].tuples)
    if name in RECIPES:
        training = TrainRunConfig.preset(name, **PATHS)
        assert training.training == RECIPES[name]
        assert training == TrainRunConfig.of(RECIPES[name], **PATHS)
        assert (training.targets, training.store, training.out) == ("targets", STORE, Path("model"))


def test_fields_and_flags_of_a_preset_can_be_changed() -> None:
    config = GenerateConfig.preset("edm-digits", store=STORE, out="run", tuples=7, flips=True, k=3, estimator="exact")
    assert (config.tuples, config.recipe.flips) == (7, True)
    assert (config.estimator.name, config.estimator.k) == ("exact", 3)
    training = TrainRunConfig.preset("edm-digits", **PATHS, steps=5, device="cpu", conditional=True)
    assert (training.steps, training.device, training.recipe.conditional) == (5, "cpu", True)


def test_mistakes_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"no preset 'edm-cifar': did you mean edm-cifar10\? `postmean config` lists them all$"
    ):
        GenerateConfig.preset("edm-cifar", store=STORE, out="run")
    with pytest.raises(
        ConfigError, match=r"no preset 'edm2': did you mean edm\? `postmean config --command train` lists them all$"
    ):
        TrainRunConfig.preset("edm2", **PATHS)
    with pytest.raises(ConfigError, match="tuples"):
        GenerateConfig.preset("edm-digits", store=STORE, out="run", tuples=0)
    with pytest.raises(TypeError, match="out"):
        GenerateConfig.preset("edm-digits", store=STORE)
    with pytest.raises(TypeError, match="sores"):
        GenerateConfig.preset("edm-digits", store=STORE, out="run", sores=1)
