"""Partners to learn and to play with: `make pool` trains them on Foraging, and keeps those that are complete.

Two pools of ten, in `runs/pool/training` and `runs/pool/heldout`: runs of four algorithms at three ages, with
seeds that no other run has, and one scripted partner each.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ENV = "lbforaging:Foraging-8x8-2p-3f-v3"
ENV_ARGS = "max_player_level=1", "max_food_level=1"
"""Any player can take any food, as in Yu et al. (2024)."""
MEMBERS = {
    "iql-young": "iql --steps 30000",
    "iql": "iql --steps 100000",
    "iql-old": "iql --steps 200000",
    "vdn": "vdn --steps 100000",
    "vdn-old": "vdn --steps 200000",
    "qmix": "qmix --steps 100000",
    "qmix-old": "qmix --steps 200000",
    "mappo-young": "mappo --steps 100000 --n-envs 8 --epochs 10",
    "mappo": "mappo --steps 300000 --n-envs 8 --epochs 10",
}
"""From a member's name to how it is trained."""
SEEDS = {"training": 100, "heldout": 200}
"""The first seed of each pool; members have one each."""


def train(pool: str, name: str, seed: int, directory: Path) -> Path:
    """The member's run directory, trained unless it is complete."""
    run = directory / pool / name
    if not (run / "curve.png").exists():
        shutil.rmtree(run, ignore_errors=True)
        algorithm, *options = MEMBERS[name].split()
        env = ["--env", ENV, *(word for argument in ENV_ARGS for word in ("--env-arg", argument))]
        common = ["--gamma", "0.95", "--eval-every", "20000", "--no-store-replay", "--seed", str(seed)]
        command = [sys.executable, "-m", "endmark", "train", algorithm, *env, *options, *common]
        subprocess.run([*command, "--run-dir", str(run)], check=True)
    return run


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("runs/pool"))
    options = parser.parse_args()
    for pool, first in SEEDS.items():
        for i, name in enumerate(MEMBERS):
            print(train(pool, name, first + i, options.directory))


if __name__ == "__main__":
    main()
