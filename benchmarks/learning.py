"""Three seeds of every algorithm on real environments: `make learning` prints the table of docs/results.md.

A run directory that is complete is kept, so that the command can be stopped and called again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from endmark.rollout import Summary
from endmark.run import read_metrics
from endmark.training import evaluate, load, random_policy

FORAGING = "--env lbforaging:Foraging-5x5-2p-1f-v3 --gamma 0.95 --steps 200000 --eval-every 10000"
LBF_QMIX = (
    "--env lbforaging:Foraging-5x5-2p-1f-v3 --gamma 0.95 --td-lambda 0.9 --lr 1e-3 --normalise-reward scale "
    "--replay-frames 30000 --steps 80000"
)
COOPERATIVE = (
    "--env lbforaging:Foraging-8x8-2p-2f-coop-v3 --gamma 0.95 --td-lambda 0.9 "
    "--steps 500000 --eval-every 25000"
)
MEMORY = "ippo --env memory:t-maze --steps 40000 --eval-every 10000 --agent"
SPREAD = "--env mpe2.simple_spread_v3 --steps 300000 --eval-every 25000"
VDN_SMAX = (
    "--env-arg max_steps=119 --n-envs 32 --episodes-per-update 2 --replay-frames 150000 --eval-every 50000"
)
MAPPO_SMAX = "--env-arg max_steps=119 --n-envs 32 --eval-every 100000 --critic-lr 1e-3"
FEW = f"{MAPPO_SMAX} --actor-lr 1e-3 --batch-size 32 --gamma 0.97 --critic central"
MANY = f"{MAPPO_SMAX} --actor-lr 1e-3 --batch-size 64 --hidden-size 128 --epochs 8"
ACTOR_CRITIC = {
    "ippo": "ippo",
    "mappo": "mappo --critic central",
    "ia2c": "ia2c",
    "maa2c": "maa2c --critic central",
}
# Actions that are vectors: `make continuous`. The robot's episodes are cut after 200 of 1000 steps.
ON_POLICY = "--agent feedforward --epochs 10 --actor-lr 1e-3 --critic-lr 1e-3 --entropy-coef 0"
VECTORS = "--env mpe2.simple_spread_v3 --env-arg continuous_actions=true"
SPREADING = f"{VECTORS} --steps 150000 --n-envs 16 --batch-size 32 {ON_POLICY}"
RUNNING = (
    "--env mamujoco:HalfCheetah-2x3 --episode-limit 200 --steps 100000 --n-envs 10 --batch-size 10 "
    f"--minibatches 10 {ON_POLICY}"
)
MADDPG = "--steps 60000 --agent feedforward"
CONTINUOUS = {
    "vectors-ippo-spread": f"ippo {SPREADING}",
    "vectors-mappo-spread": f"mappo {SPREADING}",
    "vectors-maddpg-spread": f"maddpg {VECTORS} {MADDPG} --noise-steps 40000",
    "vectors-ippo-cheetah": f"ippo {RUNNING}",
    "vectors-mappo-cheetah": f"mappo {RUNNING}",
}
RUNS = {
    **{f"lbf-{name}": f"{words} {FORAGING}" for name, words in ACTOR_CRITIC.items()},
    "cart-ippo": "ippo --env CartPole-v1 --steps 300000 --minibatches 4 --epochs 10 --eval-every 25000",
    "coop-qmix": f"qmix {COOPERATIVE} --normalise-reward scale",
    "coop-vdn": f"vdn {COOPERATIVE} --normalise-reward standardise --lr 1e-3",
    "smax-vdn-3m": f"vdn --env smax:3m --steps 1200000 {VDN_SMAX}",
    "smax-mappo-3m": f"mappo --env smax:3m --steps 1500000 {FEW} --lr-updates 3250",
    "smax-vdn-8m": f"vdn --env smax:8m --steps 1000000 {VDN_SMAX}",
    "smax-mappo-8m": f"mappo --env smax:8m --steps 1500000 {MANY} --lr-updates 1320",
    "smax-vdn-2s3z": f"vdn --env smax:2s3z --steps 800000 {VDN_SMAX}",
    "smax-mappo-2s3z": f"mappo --env smax:2s3z --steps 800000 {MANY} --lr-updates 400",
    **{f"memory-{kind}": f"{MEMORY} {kind}" for kind in ("feedforward", "gru", "attention")},
    "lbf-attention": f"qmix {LBF_QMIX} --agent attention",
    "spread-qmix": f"qmix {SPREAD}",
    **{f"spread-{name}": f"{words} {SPREAD}" for name, words in ACTOR_CRITIC.items()},
    "spread-maddpg": f"maddpg --env mpe2.simple_spread_v3 {MADDPG}",
    **CONTINUOUS,
}
"""From a run's name to the arguments of `endmark train`."""
SEEDS = 0, 1, 2


def train(name: str, seed: int, directory: Path) -> Path:
    """The run's directory, trained unless it is complete."""
    run = directory / f"{name}-{seed}"
    if not (run / "curve.png").exists():
        shutil.rmtree(run, ignore_errors=True)
        arguments = ["train", *RUNS[name].split(), "--seed", str(seed), "--run-dir", str(run)]
        subprocess.run([sys.executable, "-m", "endmark", *arguments, "--no-store-replay"], check=True)
    return run


def row(name: str, directory: Path, seeds: Sequence[int], *, intervals: bool) -> str:
    """A line of the table: greedy returns over 100 episodes for each seed, random play, seconds.

    Where the environment names an outcome, such as `win`: its mean and 95 % interval in place of the return.
    """
    greedy, seconds, random = [], [], None
    for seed in seeds:
        run = train(name, seed, directory)
        config, learner = load(run)
        played = evaluate(config, learner.greedy_policy(config.n_envs), 100)
        greedy.append(shown(played, intervals=intervals))
        seconds.append([line["seconds"] or 0.0 for line in read_metrics(run)][-1])
        by_chance = random_policy(learner.spec.bounds)
        random = random or shown(evaluate(config, by_chance, 100), intervals=intervals)
    returns = " | ".join(greedy)
    return f"| `{RUNS[name]}` | {returns} | {random} | {sorted(seconds)[len(seconds) // 2]:.0f} s |"


def shown(summary: Summary, *, intervals: bool = False) -> str:
    """The outcomes with their intervals, or else the return, with its 95 % interval or without."""
    if summary.outcomes:
        means = summary.outcomes.items()
        return ", ".join(f"{name} {o.mean:.2f} ({o.low:.2f} to {o.high:.2f})" for name, o in means)
    value = summary.return_mean
    if intervals:
        return f"{value:.1f} ({summary.return_low:.1f} to {summary.return_high:.1f})"
    return f"{value:.3g}" if abs(value) >= 10 else f"{value:.2f}"


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("runs/learning"))
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument(
        "--continuous", action="store_true", help="only actions that are vectors, with intervals"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    options = parser.parse_args()
    names = CONTINUOUS if options.continuous else options.only
    rows = [row(name, options.directory, options.seeds, intervals=options.continuous) for name in names]
    seeds = " | ".join(f"seed {seed}" for seed in options.seeds)
    columns = "---:|" * (len(options.seeds) + 2)
    print(f"| `endmark train` | {seeds} | random | training |", f"|---|{columns}", *rows, sep="\n")


if __name__ == "__main__":
    main()
