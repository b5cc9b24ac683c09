"""The Slurm script of a training with stand-ins for `srun`, `scontrol` and `postmean` that record their calls."""

import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from postmean.training.cli.train import COMMAND, TrainRunConfig
from tests.support.runs import wait_until
from tests.support.slurm_job import SlurmJob

SCRIPT = Path(__file__).parents[2] / "infra" / "slurm" / "train.sbatch"
ARGUMENTS = ["edm-digits", "--store", "/shared/a store", "--out", "/shared/out"]

STAND_INS = {
    # each task has its numbers; a signal to srun goes to all tasks; the exit code is the highest
    "srun": """
while [[ $1 == --* ]]; do shift; done
tasks=()
for ((task = 0; task < SLURM_NTASKS; task++)); do
  SLURM_PROCID=$task SLURM_LOCALID=$((task % 2)) "$@" &
  tasks+=($!)
done
trap 'kill -USR1 "${tasks[@]}"' USR1
trap 'kill -TERM "${tasks[@]}"' TERM
highest=0
for task in "${tasks[@]}"; do
  while :; do
    status=0
    wait "$task" || status=$?
    kill -0 "$task" 2>/dev/null || break
  done
  wait "$task" || status=$?
  ((status <= highest)) || highest=$status
done
exit "$highest"
""",
    "scontrol": 'echo "scontrol $*" >>"$RECORD"\n',
    "postmean": """
if [[ -n ${RUNS_UNTIL_TOLD:-} ]]; then
  trap 'echo "stopped by USR1" >>"$RECORD"; exit ${EXIT_WHEN_TOLD:-138}' USR1
  trap 'echo "stopped by TERM" >>"$RECORD"; exit 143' TERM
fi
line="rank $RANK/$WORLD_SIZE local $LOCAL_RANK at $MASTER_ADDR:$MASTER_PORT postmean$(printf ' <%s>' "$@")"
echo "$line" >>"$RECORD"
while [[ -n ${RUNS_UNTIL_TOLD:-} ]]; do sleep 0.02; done
exit "${POSTMEAN_EXIT:-0}"
""",
}


class Job(SlurmJob):
    """One run of the script with two tasks."""

    def __init__(self, folder: Path, **settings: str) -> None:
        ids = {"SLURM_JOB_ID": "54711", "SLURM_NTASKS": "2"}
        super().__init__(folder, [str(SCRIPT), *ARGUMENTS], STAND_INS, ids | settings)

    def calls(self, prefix: str = "") -> list[str]:
        """Sorted: the tasks run side by side."""
        return sorted(super().calls(prefix))

    def tell(self, number: signal.Signals) -> None:
        wait_until(lambda: len(self.calls("rank")) == 2, "both tasks run")
        time.sleep(0.05)  # the script is in its wait
        self.process.send_signal(number)


def test_bash_parses_the_script_and_it_stops_at_errors() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    assert re.search(r"^set -euo pipefail$", SCRIPT.read_text(), re.MULTILINE)


def test_each_task_is_a_rank_with_the_arguments_of_the_job(tmp_path: Path) -> None:
    job = Job(tmp_path)
    assert job.wait() == 0, job.stderr
    words = " ".join(f"<{word}>" for word in ["train", *ARGUMENTS])
    assert job.calls() == [f"rank {rank}/2 local {rank} at node1:34711 postmean {words}" for rank in (0, 1)]


def test_before_the_time_limit_it_saves_and_queues_itself_again(tmp_path: Path) -> None:
    job = Job(tmp_path, RUNS_UNTIL_TOLD="1")
    job.tell(signal.SIGUSR1)
    assert job.wait() == 138
    assert job.calls("stopped") == ["stopped by USR1"] * 2
    assert job.calls("scontrol") == ["scontrol requeue 54711"]


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, "143"), (signal.SIGUSR1, "0"), (signal.SIGUSR1, "3")])
def test_a_cancelled_a_finished_and_a_failed_training_are_not_queued_again(
    tmp_path: Path, number: signal.Signals, code: str
) -> None:
    job = Job(tmp_path, RUNS_UNTIL_TOLD="1", EXIT_WHEN_TOLD=code)
    job.tell(number)
    assert job.wait() == int(code)
    assert not job.calls("scontrol")


def test_a_failing_training_is_a_failing_job(tmp_path: Path) -> None:
    job = Job(tmp_path, POSTMEAN_EXIT="3")
    assert job.wait() == 3
    assert not job.calls("scontrol")


def test_the_example_in_the_script_parses() -> None:
    (shown,) = re.findall(r"^#\s+sbatch \S*train\.sbatch (.*?[^\\])$", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
    config = COMMAND.parse(shlex.split(shown.replace("\\\n#", "")))[0]
    assert isinstance(config, TrainRunConfig) and config.device == "cuda" and config.out.is_absolute()


def test_it_is_told_of_the_time_limit_and_started_again_when_a_node_is_lost() -> None:
    directives = re.findall(r"^#SBATCH (\S+)$", SCRIPT.read_text(), re.MULTILINE)
    assert {"--signal=B:USR1@300", "--requeue", "--open-mode=append"} <= set(directives)
