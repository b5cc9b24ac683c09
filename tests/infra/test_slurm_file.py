"""The Slurm script with stand-ins for `srun`, `ray` and `postmean` that record how they were called."""

import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

from postmean.cli.generate import COMMAND
from tests.support.slurm_job import SlurmJob

SCRIPT = Path(__file__).parents[2] / "infra" / "slurm" / "generate.sbatch"
ARGUMENTS = ["edm-digits", "--store", "/shared/a store", "--out", "/shared/out"]

STAND_INS = {
    "srun": 'echo "srun $*" >>"$RECORD"\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
    "ray": """
case "$1" in
  start)
    echo "ray $*" >>"$RECORD"
    if [[ $* == *--head* ]]; then
      [[ -z ${HEAD_FAILS:-} ]] || exit 1
      : >"$RECORD.head"
    fi
    exec /bin/sleep 600 ;;
  status)
    [[ -e $RECORD.head ]] || exit 1
    echo " 1 node_head"
    echo asked >>"$RECORD.asked"
    mapfile -t asked <"$RECORD.asked"
    ((${#asked[@]} < ${JOIN_AFTER:-1})) || printf ' 1 node_%s\n' ${JOINING-second third} ;;
esac
""",
    "postmean": """
cp "$RAY_AUTH_TOKEN_PATH" "$RECORD.token"
stat -c %a "$RAY_AUTH_TOKEN_PATH" "$(dirname "$RAY_AUTH_TOKEN_PATH")" >"$RECORD.modes"
env >"$RECORD.env"
umask >"$RECORD.umask"
if [[ -n ${RUNS_UNTIL_TERM:-} ]]; then
  trap 'echo "postmean stopped" >>"$RECORD"; kill "$!"; exit 130' TERM
  /bin/sleep 600 &
fi
{ printf 'postmean'; printf ' <%s>' "$@"; echo; } >>"$RECORD"
[[ -z ${RUNS_UNTIL_TERM:-} ]] || wait
exit "${POSTMEAN_EXIT:-0}"
""",
    "python": "echo 10.0.0.7\n",
    "sleep": "exec /bin/sleep 0.001\n",
}


class Job(SlurmJob):
    """One run of the script."""

    def __init__(self, folder: Path, nodes: int = 3, **settings: str) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        fixed = {
            "HOME": str(self.home),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NUM_NODES": str(nodes),
            "RAY_AUTH_TOKEN": "of-the-users-own-cluster",
        }
        super().__init__(folder, [str(SCRIPT), *ARGUMENTS], STAND_INS, fixed | settings)

    def written(self, suffix: str) -> str:
        return Path(f"{self.record}.{suffix}").read_text()


def test_bash_parses_the_script_and_it_stops_at_errors() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    assert re.search(r"^set -euo pipefail$", SCRIPT.read_text(), re.MULTILINE)


def test_the_head_starts_first_then_the_workers_then_the_generation(tmp_path: Path) -> None:
    job = Job(tmp_path)
    assert job.wait() == 0, job.stderr
    made, head, workers, removed = job.calls("srun")
    assert "--nodes=1 --ntasks=1 --cpus-per-task=8 --nodelist=node1 ray start --head" in head
    assert "--port=6379" in head and "--include-dashboard=false" in head and head.endswith("--block")
    assert "--nodes=2 --ntasks=2 --cpus-per-task=8 --exclude=node1 ray start --address=10.0.0.7:6379" in workers
    assert job.calls("postmean") == ["postmean " + " ".join(f"<{word}>" for word in ["generate", *ARGUMENTS])]
    assert job.calls("ray start --head")
    folder = re.search(r"--temp-dir=(\S+)/ray ", head)
    assert folder is not None
    assert made == f"srun --nodes=3 --ntasks=3 mkdir -m 700 {folder[1]}"
    assert removed == f"srun --nodes=3 --ntasks=3 rm -rf {folder[1]}"
    assert not Path(folder[1]).exists()
    longest = f"{folder[1]}/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
    assert len(longest) + len("4294967294") - len("4711") <= 107, "sockets fit, with the longest job number"
    assert job.calls().index(head) < job.calls().index(workers)


def test_the_generation_waits_until_all_nodes_have_joined(tmp_path: Path) -> None:
    job = Job(tmp_path, JOIN_AFTER="9")
    assert job.wait() == 0, job.stderr
    assert len(job.written("asked").split()) == 9
    assert job.calls("postmean") and "joined" not in job.stderr


def test_nodes_that_never_join_are_not_waited_for_for_ever(tmp_path: Path) -> None:
    job = Job(tmp_path, JOINING="second")
    assert job.wait() == 0
    assert "only 2 of 3 nodes have joined" in job.stderr
    assert job.calls("postmean")


def test_the_run_folder_is_as_readable_as_the_users_umask_says(tmp_path: Path) -> None:
    job = Job(tmp_path)
    assert job.wait() == 0
    assert job.written("umask").strip() == "0022"


def test_one_node_is_a_cluster_too(tmp_path: Path) -> None:
    job = Job(tmp_path, nodes=1)
    assert job.wait() == 0, job.stderr
    assert len([call for call in job.calls("srun") if "ray start" in call]) == 1


def test_the_token_is_random_private_and_gone_with_the_job(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = Job(tmp_path / "first"), Job(tmp_path / "second")
    assert first.wait() == second.wait() == 0
    assert first.written("modes").split() == ["600", "700"]
    token = first.written("token")
    assert re.fullmatch(r"[0-9a-f]{64}", token)
    assert token != second.written("token")
    environment = first.written("env")
    assert re.search(r"^POSTMEAN_STORE_CACHE=/tmp/postmean-stores-\d+$", environment, re.MULTILINE)
    assert token not in environment and token not in "\n".join(first.calls())
    assert "RAY_AUTH_MODE=token\n" in environment and "RAY_ADDRESS=10.0.0.7:6379\n" in environment
    assert "RAY_AUTH_TOKEN=" not in environment
    assert not list(first.home.iterdir())


def test_a_failing_generation_is_a_failing_job(tmp_path: Path) -> None:
    job = Job(tmp_path, POSTMEAN_EXIT="3")
    assert job.wait() == 3
    assert not list(job.home.iterdir())


def test_a_head_that_does_not_start_is_an_error_that_says_so(tmp_path: Path) -> None:
    job = Job(tmp_path, HEAD_FAILS="1")
    assert job.wait() == 1
    assert "Ray's head did not start on node1" in job.stderr
    assert not job.calls("postmean") and not list(job.home.iterdir())


def test_sigterm_ends_the_generation_before_the_cluster(tmp_path: Path) -> None:
    job = Job(tmp_path, RUNS_UNTIL_TERM="1")
    deadline = time.monotonic() + 60
    while not job.calls("postmean <generate>"):
        assert job.process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    job.process.send_signal(signal.SIGTERM)
    assert job.wait() == 130
    assert job.calls("postmean stopped")
    assert not list(job.home.iterdir())


def test_the_example_in_the_script_parses() -> None:
    (shown,) = re.findall(r"^#\s+sbatch \S*generate\.sbatch (.*)$", SCRIPT.read_text(), re.MULTILINE)
    config = COMMAND.parse(shlex.split(shown))[0]
    assert config.actor.device == "cuda" and str(config.store).startswith("s3://")


def test_it_is_told_of_the_time_limit_and_started_again_when_a_node_is_lost() -> None:
    directives = re.findall(r"^#SBATCH (\S+)$", SCRIPT.read_text(), re.MULTILINE)
    assert {"--signal=B:TERM@120", "--requeue", "--exclusive", "--ntasks-per-node=1"} <= set(directives)
