"""Partners to learn and to play with: `make pool` trains them, and keeps those that are complete.

Two pools a game, in `runs/pool/GAME/training` and `runs/pool/GAME/heldout`: runs of several algorithms and
ages, with seeds that no other run has. Where scripted policies exist, one joins each pool.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SEEDS = {"training": 100, "heldout": 200}
"""The first seed of each pool; members have one each."""


@dataclass(frozen=True)
class Game:
    """An environment, and who plays it.

    env, training: words of `endmark train`. members: from a run's name to its algorithm and settings.
    scripted: from a pool to its scripted member.
    """

    env: str
    training: str
    members: Mapping[str, str]
    scripted: Mapping[str, str] = field(default_factory=dict)

    def partners(self, pool: Path, group: str) -> tuple[str, ...]:
        """A pool of this game, and its scripted member."""
        return str(pool / group), *(script for name, script in self.scripted.items() if name == group)


GAMES = {
    # Any player can take any food, as in Yu et al. (2024).
    "foraging": Game(
        env="--env lbforaging:Foraging-8x8-2p-3f-v3 --env-arg max_player_level=1 --env-arg max_food_level=1",
        training="--gamma 0.95 --eval-every 20000 --no-store-replay",
        members={
            "iql-young": "iql --steps 30000",
            "iql": "iql --steps 100000",
            "iql-old": "iql --steps 200000",
            "vdn": "vdn --steps 100000",
            "vdn-old": "vdn --steps 200000",
            "qmix": "qmix --steps 100000",
            "qmix-old": "qmix --steps 200000",
            "mappo-young": "mappo --steps 100000 --n-envs 8 --epochs 10",
            "mappo": "mappo --steps 300000 --n-envs 8 --epochs 10",
        },
        scripted={
            "training": "endmark.policies.scripted:nearest_food",
            "heldout": "endmark.policies.scripted:farthest_food",
        },
    ),
    # Three predators, whose rewards are one another's, and their prey: each learns a return of its own.
    "tag": Game(
        env="--env mpe2.simple_tag_v3",
        training="--eval-every 100000 --no-store-replay",
        members={
            "ippo-young": "ippo --steps 100000 --n-envs 8 --epochs 10",
            "ippo": "ippo --steps 300000 --n-envs 8 --epochs 10",
            "iql": "iql --steps 100000",
        },
    ),
    "smax": Game(
        env="--env smax:8m --env-arg max_steps=119 --n-envs 32",
        training="--episodes-per-update 8 --replay-frames 150000 --eval-every 100000 --no-store-replay",
        members={"iql": "iql --steps 300000", "vdn": "vdn --steps 300000", "qmix": "qmix --steps 300000"},
    ),
}


def train(game: Game, pool: str, name: str, seed: int, directory: Path) -> Path:
    """The member's run directory, trained unless it is complete."""
    run = directory / pool / name
    if not (run / "curve.png").exists():
        shutil.rmtree(run, ignore_errors=True)
        words = [*game.members[name].split(), *game.env.split(), *game.training.split()]
        command = [sys.executable, "-m", "endmark", "train", *words, "--seed", str(seed)]
        subprocess.run([*command, "--run-dir", str(run)], check=True)
    return run


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("runs/pool"))
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    options = parser.parse_args()
    for name in options.games:
        for pool, first in SEEDS.items():
            for i, member in enumerate(GAMES[name].members):
                print(train(GAMES[name], pool, member, first + i, options.directory / name))


if __name__ == "__main__":
    main()
