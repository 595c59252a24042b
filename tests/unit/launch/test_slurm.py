"""`launch/slurm.sbatch` under a Slurm of two hosts made of scripts.

The scripts on PATH write down what they are called with. The Driver among them runs until it is
told to end by a file, or by SIGTERM: then it saves and ends like a run does.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from olmrl.config.schema import CheckpointConfig

FAKES = {
    "hostname": """
if [ "$1" = --ip-address ]; then echo 127.0.1.1 fe80::1; else echo 10.0.0.1 10.9.0.1; fi""",
    "scontrol": """
if [ "$1" = show ]; then echo node1; echo node2; else echo "scontrol $*" >>"$LOG"; fi""",
    "srun": """
echo "srun $*" >>"$LOG"
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@" """,
    "ray": """
echo "ray $* auth=$RAY_AUTH_MODE token=$RAY_AUTH_TOKEN pid=$$" >>"$LOG"
exec sleep "${RAY_SLEEP:-600}" """,
    "python": """
[ "$1" = -c ] && exec REAL "$@"
if [ "$1" = launch/wait_for_nodes.py ]; then
  until [ "$(grep -c '^ray ' "$LOG")" -ge "$2" ]; do sleep 0.05; done
  echo "wait $2 for $RAY_ADDRESS" >>"$LOG"
  exec sleep "${WAIT_SLEEP:-0}"
fi
trap 'echo "driver saves" >>"$LOG"; sleep 0.3; echo "driver saved" >>"$LOG"; exit 143' TERM
echo "driver $*" >>"$LOG"
while [ ! -e "$LOG.end" ]; do sleep 0.05; done
exit "$(cat "$LOG.end")" """,
}


def alive(pid):
    """Whether a process runs; one that has ended may wait for its parent to notice."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status


class Job:
    """One call of the batch script."""

    def __init__(self, folder, launch, *arguments, **environment):
        self._log = folder / "log"
        self._log.touch()
        (folder / "bin").mkdir()
        for name, text in FAKES.items():
            script = folder / "bin" / name
            script.write_text(f"#!/bin/sh\n{text.replace('REAL', sys.executable)}\n", "utf-8")
            script.chmod(0o755)
        (folder / "venv" / "bin").mkdir(parents=True)
        (folder / "venv" / "bin" / "activate").write_text("ACTIVATED=1\n", "utf-8")
        self._process = subprocess.Popen(
            ["bash", launch / "slurm.sbatch", *arguments],
            env={
                "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
                "LOG": str(self._log),
                "OLMRL_VENV": str(folder / "venv"),
                "SLURM_SUBMIT_DIR": str(launch.parent),
                "SLURM_JOB_NODELIST": "node[1-2]",
                "SLURM_JOB_ID": "77",
                "SLURM_CPUS_PER_TASK": "4",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def lines(self):
        return self._log.read_text("utf-8").splitlines()

    def until(self, start):
        """Wait for a line of the log."""
        deadline = time.monotonic() + 30
        while not any(line.startswith(start) for line in self.lines):
            assert time.monotonic() < deadline and self._process.poll() is None, self.lines
            time.sleep(0.02)

    def signal(self, number):
        self._process.send_signal(number)

    def driver_ends(self, code):
        self._log.with_name("log.end").write_text(str(code), "utf-8")

    def wait(self):
        """Exit code and what it said; nothing that it started may be left."""
        out, err = self._process.communicate(timeout=30)
        for pid in re.findall(r"^ray .* pid=(\d+)$", "\n".join(self.lines), re.M):
            deadline = time.monotonic() + 10
            while alive(pid):
                assert time.monotonic() < deadline, f"Ray process {pid} was left behind"
                time.sleep(0.02)
        return self._process.returncode, out + err


@pytest.fixture
def job(tmp_path, launch):
    jobs = []

    def start(*arguments, **environment):
        jobs.append(Job(tmp_path, launch, *(arguments or RUN), **environment))
        return jobs[-1]

    yield start
    for started in jobs:
        started.driver_ends(0)


RUN = ("grpo", "--config", "some.yaml", "run.dir=/shared/runs/a b")


def test_head_then_workers_then_the_run(job):
    started = job()
    started.until("driver ")
    started.driver_ends(0)
    code, _ = started.wait()
    assert code == 0

    steps = [line for line in started.lines if not line.startswith("ray ")]
    head, wait_head, worker, wait_all, driver = steps
    assert head.startswith("srun ") and worker.startswith("srun ")
    assert "--nodelist=node1" in head and "--nodelist=node2" in worker
    assert all("--nodes=1 --ntasks=1 --overlap" in step for step in (head, worker))
    assert all("--cpus-per-task=4" in step and "--num-cpus=4" in step for step in (head, worker))
    assert "--head --node-ip-address=10.0.0.1 --port=6379" in head
    assert "--address=10.0.0.1:6379" in worker and "--head" not in worker
    assert (wait_head, wait_all) == ("wait 1 for 10.0.0.1:6379", "wait 2 for 10.0.0.1:6379")
    assert driver == (
        "driver -m olmrl.grpo --config some.yaml run.dir=/shared/runs/a b --resume auto"
    )


def test_every_ray_process_asks_for_the_same_secret(job):
    started = job()
    started.until("driver ")
    started.driver_ends(0)
    started.wait()
    rays = [line for line in started.lines if line.startswith("ray ")]
    tokens = {re.search(r"auth=token token=(\S*)", line)[1] for line in rays}
    assert len(rays) == 2
    assert len(tokens) == 1 and len(tokens.pop()) == 64


def test_before_the_time_limit_the_run_saves_and_is_queued_again(job):
    started = job()
    started.until("driver ")
    started.signal(signal.SIGUSR1)
    code, said = started.wait()
    assert code == 143
    assert started.lines[-3:] == ["driver saves", "driver saved", "scontrol requeue 77"]
    assert "queueing job 77 again" in said


def test_a_cancelled_run_saves_and_does_not_come_back(job):
    started = job()
    started.until("driver ")
    started.signal(signal.SIGTERM)
    code, _ = started.wait()
    assert code == 143
    assert started.lines[-1] == "driver saved"


def test_a_run_that_fails_is_not_queued_again(job):
    started = job()
    started.until("driver ")
    started.driver_ends(1)
    code, _ = started.wait()
    assert code == 1
    assert not [line for line in started.lines if line.startswith("scontrol")]


def test_without_its_nodes_no_run_starts(job):
    started = job(WAIT_SLEEP="not a number")  # so that waiting fails
    code, said = started.wait()
    assert code == 2
    assert "the nodes of the allocation did not join Ray" in said
    assert not [line for line in started.lines if line.startswith("driver")]


def test_a_head_that_ends_is_not_waited_for(job):
    started = job(WAIT_SLEEP="600", RAY_SLEEP="0.1")
    code, said = started.wait()
    assert code == 2
    assert "Ray's head has ended" in said


def test_a_job_stopped_before_its_run_has_begun_comes_back(job):
    started = job(WAIT_SLEEP="600")
    started.until("wait 1")
    started.signal(signal.SIGUSR1)
    code, _ = started.wait()
    assert code == 143
    assert started.lines[-1] == "scontrol requeue 77"


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (("dpo",), {}, "unknown command 'dpo'; allowed: grpo, sft"),
        (RUN, {"OLMRL_VENV": "/nowhere"}, "/nowhere/bin/activate does not exist"),
    ],
)
def test_a_wrong_call_ends_in_a_sentence(job, arguments, environment, sentence):
    started = job(*arguments, **environment)
    code, said = started.wait()
    assert code == 2
    assert sentence in said
    assert started.lines == []


def test_slurm_warns_earlier_than_a_run_takes_to_save(launch):
    text = (launch / "slurm.sbatch").read_text("utf-8")
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.M))
    shell, number, seconds = re.match(r"(\w):(\w+)@(\d+)", options["signal"]).groups()
    assert (shell, number) == ("B", "USR1")
    assert int(seconds) > CheckpointConfig().grace_s
    assert "requeue" in options


SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing(launch):
    done = subprocess.run(
        [SHELLCHECK, "--severity=warning", launch / "slurm.sbatch"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
