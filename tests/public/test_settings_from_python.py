"""Presets and settings from Python are those of the commands; mistakes are typed errors."""

from pathlib import Path

import pytest

from postmean.pipeline import PRESETS, ConfigError, GenerateConfig, PlanConfig, ServeConfig, with_flags
from postmean.training import PRESETS as RECIPES
from postmean.training import TrainRunConfig

STORE = Path("store")
RUN = {"store": STORE, "out": "run"}
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


@pytest.mark.parametrize(
    ("config", "settings", "said"),
    [
        (GenerateConfig, {"store": STORE}, r"missing out \(a string\): pass it by name"),
        (GenerateConfig, {}, r"missing store \(a string or a path\), out \(a string\): pass them by name"),
        (GenerateConfig, {**RUN, "tuple": 3}, r"no setting 'tuple': did you mean tuples\?"),
        (GenerateConfig, {**RUN, "nothing_like_it": 3}, r"no setting 'nothing_like_it': help\(GenerateConfig\) shows"),
        (GenerateConfig, {**RUN, "tuples": "many"}, "tuples: expected a whole number, got 'many'"),
        (GenerateConfig, {**RUN, "tuples": True}, "tuples: expected a whole number, got True"),
        (GenerateConfig, {**RUN, "tolerance": "low"}, "tolerance: expected a number, got 'low'"),
        (GenerateConfig, {**RUN, "flips": "yes"}, "flips: expected True or False, got 'yes'"),
        (GenerateConfig, {**RUN, "format": "parquet"}, "format: no 'parquet': it is one of webdataset, zarr"),
        (GenerateConfig, {**RUN, "solver": "hein"}, r"solver: no 'hein': did you mean heun\?"),
        (GenerateConfig, {**RUN, "noise": "ict"}, "noise: expected .*ICTNoise.*, got 'ict'"),
        (GenerateConfig, {**RUN, "recipe": 3}, "recipe: expected TargetRecipe, got 3"),
        (GenerateConfig, {**RUN, "actors": 1.5}, "actors: expected a whole number or None, got 1.5"),
        (PlanConfig, {"store": STORE, "fleets": "here"}, r"no setting 'fleets': did you mean fleet\?"),
        (ServeConfig, {"store": STORE, "port": "any"}, "port: expected a whole number, got 'any'"),
        (TrainRunConfig, {"store": STORE}, r"missing targets \(a string\), out \(a path\)"),
        (TrainRunConfig, {**PATHS, "step": 3}, r"no setting 'step': did you mean steps\?"),
        (TrainRunConfig, {**PATHS, "loss": "edm"}, "loss: expected EDMLoss .*, got 'edm'"),
        (TrainRunConfig, {**PATHS, "precision": "fp8"}, "precision: no 'fp8': it is one of fp32, bf16, fp16"),
    ],
)
def test_a_setting_that_a_preset_cannot_take_is_named_with_what_is_expected(
    config: type, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{config.__name__}: {said}"):
        config.preset("edm-digits", **settings)  # type: ignore[attr-defined]


def test_flags_changed_later_are_checked_as_those_of_a_preset() -> None:
    config = GenerateConfig.preset("edm-digits", **RUN)
    with pytest.raises(ConfigError, match=r"GenerateConfig: no setting 'fips': did you mean flips\?"):
        with_flags(config, fips=True)
    with pytest.raises(ConfigError, match="GenerateConfig: k: expected a whole number, got 'all'"):
        with_flags(config, k="all")


def test_a_path_may_be_text_or_a_path() -> None:
    assert GenerateConfig.preset("edm-digits", store="store", out=Path("run")).store == "store"  # type: ignore[arg-type]
    assert str(TrainRunConfig.preset("edm-digits", **{**PATHS, "out": "model"}).out) == "model"
