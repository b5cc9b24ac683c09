"""Whether a process of this machine has ended: judged by its id and its start, and never guessed."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from postmean.base.processes import is_gone, process_started, this_machine
from tests.support.runs import wait_until

HIDDEN = """
import os, sys
from postmean.base.processes import is_gone, process_started, this_machine
os.setgroups([]), os.setgid(65534), os.setuid(65534)
print(os.path.exists("/proc/1/stat"), process_started(1), is_gone(this_machine(), 1, 5))
"""


def test_a_living_process_is_not_gone_and_a_killed_one_is() -> None:
    process = subprocess.Popen(["sleep", "600"])
    started = process_started(process.pid)
    assert started
    assert not is_gone(this_machine(), process.pid, started)
    assert is_gone(this_machine(), process.pid, started - 1), "an earlier process with this id"
    process.kill()
    wait_until(lambda: is_gone(this_machine(), process.pid, started), "it is a zombie")
    process.wait()
    assert is_gone(this_machine(), process.pid, started)


def test_a_process_elsewhere_is_never_known_to_be_gone() -> None:
    assert not is_gone("ffff", os.getpid(), 5)
    assert not is_gone("", os.getpid(), 5)


@pytest.mark.parametrize("pid", [0, -1, 2**31, 10**30])
def test_what_is_no_process_id_is_no_process(pid: int) -> None:
    assert process_started(pid) == 0


def test_the_same_machine_has_the_same_name_in_every_process() -> None:
    ask = "from postmean.base.processes import this_machine; print(this_machine())"
    asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stdout
    assert asked == f"{this_machine()}\n" and len(this_machine()) == 16
    time.sleep(0.01)
    assert this_machine() == asked.strip()


def test_a_process_that_proc_hides_is_not_gone() -> None:
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can mount /proc with hidepid")
    mount = "mount -t proc -o hidepid=2 proc /proc && exec " + f"{sys.executable} -c '{HIDDEN}'"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, text=True)
    if "mount:" in done.stderr or "unshare" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout == "False None False\n", done.stderr
