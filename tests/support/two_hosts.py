"""Two hosts on one machine, joined by a cable that can be cut: each has its own network and process namespaces.

A host's first process is its power switch: killing it makes the kernel end the others and remove the network.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.runs import wait_until

TOOLS = ("ip", "nsenter", "unshare")


class NotPermitted(Exception):
    """Such hosts are impossible here; the message says why."""


class Host:
    """A host that shares files, and nothing else, with this machine."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._switch = subprocess.Popen(
            ["unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "sleep", "infinity"],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.first = 0
        """Process 1 of the host, by its id on this machine"""

    def wait(self) -> None:
        """Wait until the host is on."""
        switch = self._switch
        children = Path(f"/proc/{switch.pid}/task/{switch.pid}/children")

        def is_on() -> bool:
            if switch.poll() is not None:
                raise NotPermitted((switch.communicate()[1].splitlines() or ["unshare failed"])[-1])
            first = children.read_text().split()
            return bool(first) and Path(f"/proc/{first[0]}/comm").read_text() == "sleep\n"

        wait_until(is_on, "a host is on")
        self.first = int(children.read_text())

    def command(self, *words: object) -> list[str]:
        """The command line that runs `words` on the host."""
        return ["nsenter", f"--target={self.first}", "--net", "--pid", "--mount", "--", *map(str, words)]

    def start(self, *words: object, env: Mapping[str, str]) -> subprocess.Popen:
        """Start a command on the host, with only `env` in its environment."""
        return subprocess.Popen(
            self.command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=env,
        )

    def ip(self, words: str) -> None:
        """Run `ip` on the host."""
        _run(self.command("ip", *words.split()))

    def processes(self, title: str) -> list[int]:
        """Living processes of the host with these words in their title, by their ids on this machine."""
        namespace = os.readlink(f"/proc/{self.first}/ns/pid")
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if not folder.name.isdigit() or os.readlink(folder / "ns" / "pid") != namespace:
                    continue
                if title in (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode():
                    found.append(int(folder.name))
            except OSError:  # the process has ended meanwhile
                continue
        return found

    def off(self) -> None:
        """Kill the host with all its processes."""
        os.killpg(self._switch.pid, signal.SIGKILL)
        self._switch.communicate()


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts joined by a cable, the interface `cable` on each; afterwards they and all their processes end.

    Raises:
        NotPermitted: not root, a tool is missing, or the kernel refuses namespaces or interfaces.
    """
    if os.getuid() != 0:
        raise NotPermitted("only root can make network namespaces")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise NotPermitted(f"no {', '.join(missing)} here")
    hosts = Host("192.0.2.1"), Host("192.0.2.2")  # addresses reserved for documentation, which no network has
    try:
        for host in hosts:
            host.wait()
        one, other = hosts
        ends = f"netns {one.first} type veth peer name cable netns {other.first}"
        _run(["ip", "link", "add", "cable", *ends.split()])
        for host in hosts:
            host.ip("link set lo up")
            host.ip(f"address add {host.address}/24 dev cable")
            host.ip("link set cable up")
        yield hosts
    finally:
        for host in hosts:
            host.off()


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise NotPermitted(f"{' '.join(words)}: {done.stderr.strip()}")
