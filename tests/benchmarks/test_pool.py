"""`make pool`: the words of every member are understood, and one is trained once."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.pool import GAMES, SEEDS, Game, train

from endmark.algorithms import ALGORITHMS
from endmark.cli.parse import parse
from endmark.cli.train import TrainCommand


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_every_member_is_a_run_that_can_be_asked_for(game: Game) -> None:
    for words in game.members.values():
        algorithm, *own = words.split()
        kind = ALGORITHMS[algorithm]
        given = [*own, *game.env.split(), *game.training.split()]
        command = parse(TrainCommand[kind], "train", given)  # type: ignore[valid-type]
        assert command.config.env == game.env.split()[1]
    assert set(game.scripted) <= set(SEEDS)
    first, second = SEEDS.values()
    assert second - first >= len(game.members)  # no two members share a seed


def test_a_member_is_trained_and_then_kept(tmp_path: Path) -> None:
    members = {"iql": "iql --steps 100 --hidden-size 8"}
    game = Game("--env matrix:climbing", "--final-episodes 2 --eval-episodes 2", members)
    run = train(game, "heldout", "iql", 200, tmp_path)
    assert run == tmp_path / "heldout" / "iql"
    weights = (run / "weights.safetensors").stat().st_mtime_ns
    assert train(game, "heldout", "iql", 200, tmp_path) == run
    assert (run / "weights.safetensors").stat().st_mtime_ns == weights
    (run / "curve.png").unlink()  # as if it had been stopped
    train(game, "heldout", "iql", 200, tmp_path)
    assert (run / "weights.safetensors").stat().st_mtime_ns != weights
    assert game.partners(tmp_path, "heldout") == (str(tmp_path / "heldout"),)
