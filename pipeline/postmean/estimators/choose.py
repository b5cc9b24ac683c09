"""Estimators by name."""

from importlib import import_module

from postmean.contract.settings import EstimatorSettings
from postmean.engine.population import Population
from postmean.estimators.estimate import Estimator
from postmean.estimators.traits import traits_of


def make_estimator(settings: EstimatorSettings, population: Population, max_support: int) -> Estimator:
    """The estimator of these settings over a population.

    Args:
        max_support: most members of a mean's support.
    Raises:
        ConfigError: no estimator of this name.
    """
    module, _, function = traits_of(settings.name).make.partition(":")
    return getattr(import_module(module), function)(settings, population, max_support)
