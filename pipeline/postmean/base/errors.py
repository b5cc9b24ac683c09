"""Errors that a user can cause, each one line that says what, where, got and expected, and the remedy.

The command line prints the message of a `PostmeanError` without a traceback and exits with its `exit_code`.
"""


class PostmeanError(Exception):
    """Base of every error that is the fault of input, settings or surroundings, not of the code."""

    exit_code = 2


class ConfigError(PostmeanError):
    """A setting is out of range or contradicts another."""


class DataError(PostmeanError):
    """An image, archive or image store cannot be used as it is."""


class MismatchError(PostmeanError):
    """Two things that must belong together do not: store and targets, run and manifest."""


class ShardError(PostmeanError):
    """A shard, commit record, plan or manifest is missing, truncated or damaged."""


class EstimatorError(PostmeanError):
    """An estimator cannot give a finite posterior mean."""


class GenerationError(PostmeanError):
    """Generation stopped before every shard was committed."""

    exit_code = 3


class StorageError(GenerationError):
    """An object store refuses, or gave no answer until the deadline."""


class VerificationError(PostmeanError):
    """`postmean verify` found damage or an error above the tolerance."""

    exit_code = 4
