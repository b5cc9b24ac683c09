"""Errors that a user can cause. Each message is one line: what, where, got and expected, and the remedy.

The command line prints the message of a `PostmeanError` without a traceback and exits with its `exit_code`.
"""


class PostmeanError(Exception):
    """Base of every error caused by input, settings or environment rather than by the code."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        # messages of other libraries and names of files, which are quoted in ours, may have several lines
        super().__init__(" ".join(message.splitlines()))


class ConfigError(PostmeanError):
    """A setting is out of range or contradicts another."""


class DataError(PostmeanError):
    """An image, archive or image store cannot be used as it is."""


class MismatchError(PostmeanError):
    """Two things do not belong together, such as store and targets, or run and manifest."""


class ShardError(PostmeanError):
    """A shard, commit record, plan or manifest is missing, truncated or damaged."""


class EstimatorError(PostmeanError):
    """An estimator cannot give a finite posterior mean."""


class GenerationError(PostmeanError):
    """Generation stopped before every shard was committed."""

    exit_code = 3


class StorageError(GenerationError):
    """An object store refused a request, or did not answer before the deadline."""


class VerificationError(PostmeanError):
    """`postmean verify` found damage or an error above the tolerance."""

    exit_code = 4
