"""Seconds until `postmean COMMAND --help` has ended, and a TAB and doctor, as a shell waits for them.

    python benchmarks/command_line.py --rounds 5

The median of the rounds, which take turns; `bare` is a Python that does nothing. Seconds of a core are those of the
process's own work, which other processes on the machine disturb less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from postmean.cli.commands import COMMANDS

CALLS = {
    "bare": ["-c", "pass"],
    "--help": ["-m", "postmean", "--help"],
    **{f"{name} --help": ["-m", "postmean", name, "--help"] for name in COMMANDS if name != "report"},
    "report estimators --help": ["-m", "postmean", "report", "estimators", "--help"],
    "generate edm --help-all": ["-m", "postmean", "generate", "edm", "--help-all"],
    "train ict --help-all": ["-m", "postmean", "train", "ict", "--help-all"],
    "config": ["-m", "postmean", "config"],
    "a TAB": ["-m", "postmean", "completion", "--words", "generate", "edm", "--shard-s"],
    "doctor": ["-m", "postmean", "doctor"],
}


def seconds(words: list[str]) -> tuple[float, float]:
    """Wall-clock seconds of a process, and seconds of cores."""
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, os.times()
    cores = after.children_user - before.children_user + after.children_system - before.children_system
    return wall, cores


def main() -> None:
    """Print the medians as a table, or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in CALLS}
    for _ in range(options.rounds):
        for name, words in CALLS.items():
            taken[name].append(seconds(words))
    medians = {
        name: [statistics.median(column) for column in zip(*rounds, strict=True)] for name, rounds in taken.items()
    }
    if options.json:
        print(json.dumps(medians, indent=1))
        return
    print(f"{'':<26} {'seconds':>8} {'of cores':>9}")
    for name, (wall, cores) in medians.items():
        print(f"{name:<26} {wall:>8.2f} {cores:>9.2f}")


if __name__ == "__main__":
    main()
