"""The commands of `postmean`: one line each here, one file each elsewhere, imported when called.

A table and not tyro's subcommands: tyro imports the settings of all commands to parse one, so that even `postmean
--help` would wait for them, and it has no did-you-mean for commands.
"""

import importlib
from typing import Any, NamedTuple


class Command(NamedTuple):
    """Where a command is, and what it is for."""

    module: str
    summary: str

    def load(self) -> Any:
        """Its module, which has `run(arguments) -> exit code` and its flags as `COMMAND`."""
        return importlib.import_module(self.module)


GROUPS: dict[str, dict[str, Command]] = {
    "from images to targets": {
        "import": Command("postmean.cli.import_images", "read a data set into an image store"),
        "index": Command("postmean.cli.index", "build the neighbour index and the certificate of a store"),
        "plan": Command("postmean.cli.plan", "show tuples, records, time, bytes and memory before anything runs"),
        "generate": Command("postmean.cli.generate", "run the fleet: write shards of posterior means"),
        "serve": Command("postmean.cli.serve", "make targets live, as trainers ask for them; nothing is written"),
    },
    "looking at what is there": {
        "status": Command("postmean.cli.status", "how far a run is, and whether it goes on"),
        "inspect": Command("postmean.cli.inspect", "what a store, run, shard, record or checkpoint holds"),
        "verify": Command("postmean.cli.verify", "re-hash shards and recompute a sample in float64"),
        "export": Command("postmean.cli.export", "write the records of a run as tables for other tools"),
        "floor": Command("postmean.cli.floor", "the loss by sigma that no denoiser of a store can go below"),
        "report": Command("postmean.cli.report", "a page of a run or of a store; errors of all estimators"),
    },
    "from targets to samples": {
        "train": Command("postmean.training.cli.train", "train a denoiser or consistency model on the targets"),
        "import-weights": Command("postmean.training.cli.import_weights", "read released weights of EDM or EDM2"),
        "sample": Command("postmean.training.cli.sample", "draw images from a checkpoint"),
        "evaluate": Command("postmean.training.cli.evaluate", "FID and Inception Score of sampled images"),
    },
    "help": {
        "demo": Command("postmean.cli.demo", "the whole way on small real data: images to a trained model"),
        "config": Command("postmean.cli.config", "list the presets, or print one as a file of settings"),
        "doctor": Command("postmean.cli.doctor", "what this machine can do, and what to install"),
        "completion": Command("postmean.cli.completion", "print the completion script of bash, zsh or fish"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
