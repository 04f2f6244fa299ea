"""EPyMARL's own program beside `endmark train`: the same task, networks and updates, whole programs, in turn.

    python -m benchmarks.epymarl CHECKOUT [--python PATH] [--steps 20000] [--rounds 3] [--cores 1 2]

CHECKOUT is a clone of https://github.com/uoe-agents/epymarl, PATH a Python that has what it asks for (sacred,
PyYAML, torch, lbforaging). Both train recurrent QMIX on Level-Based Foraging with one update of 32 episodes
for each episode that ends, from a replay of 5,000; neither evaluates on the way. A program has so many cores
from its start to its exit. EPyMARL leaves its results in the checkout. The output is the median of
environment steps a second, and of the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.agree import Disagreement
from benchmarks.machine import environment

TASK = "lbforaging:Foraging-8x8-2p-3f-v3"
LIMIT = 50
BATCH = 32
THEIRS = {
    "env_args.key": TASK,
    "env_args.time_limit": LIMIT,
    "use_rnn": True,
    "obs_last_action": True,
    "standardise_rewards": False,
    "hidden_dim": 64,
    "buffer_size": 5000,
    "batch_size": BATCH,
    "lr": 5e-4,
    "target_update_interval_or_tau": 200,
    "use_cuda": False,
    "test_nepisode": 1,
    "test_interval": 10**9,
    "log_interval": 1000,
    "runner_log_interval": 10**9,
    "learner_log_interval": 10**9,
}
OURS = (
    f"train qmix --env {TASK} --hidden-size 64 --batch-size {BATCH} --replay-frames {5000 * LIMIT} --lr 5e-4 "
    "--td-lambda 0 --target-update hard --target-period 200 --eval-every 1000000000 --eval-episodes 1 "
    "--final-episodes 1 --no-store-replay --device cpu"
)
WAYS = {
    "8 environments": "--n-envs 8",
    "16 environments, 1 worker, overlap": "--n-envs 16 --workers 1 --overlap",
}
"""The rows of the table: options of `endmark train`. EPyMARL's own runner plays one environment."""
MOST_APART = 0.1
"""Updates a step may differ by this share: both explore, so their episodes are not of the same length."""


def seconds_of(command: Sequence[str], folder: Path) -> tuple[float, str]:
    """How long a program takes, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ... failed: {done.stderr[-2000:]}")
    return seconds, done.stdout + done.stderr


def theirs(checkout: Path, python: Path, steps: int, seed: int) -> tuple[float, float]:
    """Seconds of EPyMARL's program, and its updates for each environment step."""
    settings = [f"{name}={value}" for name, value in {**THEIRS, "seed": seed, "t_max": steps}.items()]
    words = ["src/main.py", "--config=qmix", "--env-config=gymma", "with", *settings]
    seconds, said = seconds_of([str(python), *words], checkout)
    counted = re.findall(r"t_env:\s+(\d+) \| Episode:\s+(\d+)", said)
    if not counted:
        raise SystemExit(f"{checkout}: printed no count of episodes, want EPyMARL's `Recent Stats`")
    env_steps, episodes = map(int, counted[-1])
    return seconds, (episodes - (BATCH - 1)) / env_steps  # none before the replay holds a batch


def ours(steps: int, seed: int, words: str) -> tuple[float, float]:
    """Seconds of `endmark train`, and its updates for each environment step."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = [*OURS.split(), *words.split(), "--steps", str(steps), "--seed", str(seed)]
        command = [sys.executable, "-m", "endmark", *settings, "--run-dir", str(folder / "run")]
        seconds, _ = seconds_of(command, folder)
        last = json.loads((folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
    return seconds, last["updates"] / last["env_steps"]


def main(args: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.epymarl")
    parser.add_argument("checkout", type=Path, help="a clone of EPyMARL")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="the Python that runs it")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, nargs="+", default=[1])
    options = parser.parse_args(args)
    if not (options.checkout / "src" / "main.py").is_file():
        parser.error(f"{options.checkout}: given no checkout of EPyMARL, want one with src/main.py")
    there = sorted(os.sched_getaffinity(0))
    if max(options.cores) > len(there):
        parser.error(f"--cores: given {max(options.cores)}, want at most {len(there)}")
    print(", ".join(f"{key} {value}" for key, value in environment().items()))
    print("\n| cores | | steps/s | EPyMARL, steps/s | ratio |\n|---|---|---:|---:|---:|")
    os.environ["OMP_NUM_THREADS"] = "1"
    for n_cores in options.cores:
        os.sched_setaffinity(0, there[:n_cores])  # programs that are started get the same
        base: list[float] = []
        taken: dict[str, list[float]] = {name: [] for name in WAYS}
        for seed in range(options.rounds):
            seconds, want = theirs(options.checkout.resolve(), options.python.absolute(), options.steps, seed)
            base.append(seconds)
            for name, words in WAYS.items():
                seconds, given = ours(options.steps, seed, words)
                if abs(given / want - 1) > MOST_APART:
                    raise Disagreement(
                        f"{name}: {given:.5f} updates a step, EPyMARL {want:.5f}: not compared"
                    )
                taken[name].append(seconds)
            print(f"round {seed + 1} of {options.rounds} on {n_cores} cores", file=sys.stderr)
        for name, times in taken.items():
            ratio = statistics.median(b / t for b, t in zip(base, times, strict=True))
            mine, other = (options.steps / statistics.median(some) for some in (times, base))
            print(f"| {n_cores} | {name} | {mine:,.0f} | {other:,.0f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
