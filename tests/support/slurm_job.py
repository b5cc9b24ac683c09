"""One run of a Slurm script, with stand-ins for the commands that it calls."""

import subprocess
from pathlib import Path


class SlurmJob:
    """A job of Slurm on its first node, with 8 CPUs a task.

    Args:
        folder: empty.
        command: script and arguments.
        stand_ins: bash bodies by name of the command. They append what they record to the file $RECORD.
        settings: further environment variables.
    """

    def __init__(self, folder: Path, command: list[str], stand_ins: dict[str, str], settings: dict[str, str]) -> None:
        self.record = folder / "record"
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        for name, body in stand_ins.items():
            path = bin_folder / name
            path.write_text("#!/bin/bash\n" + body)
            path.chmod(0o755)
        self.process = subprocess.Popen(
            ["bash", *command],
            env={
                "PATH": f"{bin_folder}:/usr/bin:/bin",
                "RECORD": str(self.record),
                "SLURM_CPUS_PER_TASK": "8",
                "SLURMD_NODENAME": "node1",
                **settings,
            },
            stderr=subprocess.PIPE,
            text=True,
            umask=0o022,
        )

    def wait(self) -> int:
        """The exit code; `stderr` is then what it printed."""
        self.stderr = self.process.communicate(timeout=60)[1]
        return self.process.returncode

    def calls(self, prefix: str = "") -> list[str]:
        """Recorded lines with this beginning, in order."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [line for line in lines if line.startswith(prefix)]
