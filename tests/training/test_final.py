"""The evaluation at the end of a run: the last weights, the best ones and random play, by episode."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from endmark.run import BEST, Counters, Run, RunError, read_checkpoint
from endmark.training import evaluate, final_evaluation, load, load_config, random_policy
from endmark.training.final import FINAL, read_final
from support.commands import status

SMALL = [
    "--steps",
    "300",
    "--eval-every",
    "100",
    "--n-envs",
    "2",
    "--eval-episodes",
    "2",
    "--hidden-size",
    "8",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("final") / "run"
    args = ("train", "ippo", "--env", "CartPole-v1", "--run-dir", directory, "--final-episodes", "5")
    assert status(*args, *SMALL) == 0
    return directory


def test_episodes_are_those_of_eval(trained: Path) -> None:
    kept = read_final(trained)
    assert set(kept) == {"greedy", "best", "random"}
    for name, checkpoint in (("greedy", "weights.safetensors"), ("best", BEST)):
        config, learner = load(trained, checkpoint)
        summary = evaluate(config, learner.greedy_policy(config.n_envs), 5)
        assert len(kept[name].values["return"]) == 5
        assert kept[name].mean("greedy_return") == pytest.approx(summary.return_mean)
        assert kept[name].mean("greedy_length") == pytest.approx(summary.length_mean)
        assert kept[name].env_steps == read_checkpoint(trained, checkpoint)[0].env_steps
    random = evaluate(load_config(trained), random_policy(), 5)
    assert kept["random"].mean("greedy_return") == pytest.approx(random.return_mean)
    assert kept["random"].mean("greedy_win") is None


def test_the_best_weights_are_played_and_the_last_ones_are_there_again(trained: Path, tmp_path: Path) -> None:
    config, learner = load(trained)
    for name in ("config.json", "weights.safetensors", BEST):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    last = {name: tensor.clone() for name, tensor in learner.networks.state_dict().items()}
    (tmp_path / BEST).unlink()
    alone = final_evaluation(config, tmp_path, learner)
    assert alone["best"] == alone["greedy"]
    with Run(tmp_path / "other", config.to_json()) as run:
        worst = {name: -tensor for name, tensor in last.items()}
        run.checkpoint(Counters(100, 1, 1), worst, best=True)
        run.checkpoint(Counters(300, 3, 3), last)
    both = final_evaluation(config, tmp_path / "other", learner)
    assert both["greedy"] == alone["greedy"]
    kept = read_final(tmp_path / "other")
    assert kept["best"].env_steps == 100
    assert kept["best"].values["return"] != kept["greedy"].values["return"]
    assert all(torch.equal(tensor, last[name]) for name, tensor in learner.networks.state_dict().items())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is_no_json"),
        ("[]", ""),
        ('{"greedy": 3, "best": 3, "random": 3}', "greedy: given 3, want an object with env_steps"),
        (
            '{"greedy": {"env_steps": 1, "return": [NaN]}}',
            "'return': given [nan], want a list of finite numbers",
        ),
        ('{"greedy": {"env_steps": 1, "return": [1' + "0" * 400 + "]}}", "want a list of finite numbers"),
        ('{"greedy": {"env_steps": 1, "return": [1.0]}}', "best"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / FINAL).write_text(text)
    with pytest.raises(RunError) as refused:
        read_final(tmp_path)
    assert str(refused.value).startswith(f"{tmp_path / FINAL} cannot be read: ")
    assert says == "is_no_json" or says in str(refused.value)


def test_the_protocol_sets_evaluations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def train(*options: str) -> int:
        args = ("train", "ippo", "--env", "matrix:climbing", "--protocol", "gorsane2022", "--steps", "100")
        return status(*args, "--hidden-size", "8", "--run-dir", tmp_path / "run", *options)

    for option, given, want in (
        ("eval-every", 500, 10_000),
        ("eval-episodes", 8, 32),
        ("final-episodes", 9, 320),
    ):
        assert train(f"--{option}", str(given)) == 2
        name = option.replace("-", "_")
        said = capsys.readouterr().err
        assert said == f"endmark: {name}: given {given} beside --protocol gorsane2022, want {want}\n"
    assert not (tmp_path / "run").exists()
    assert train("--eval-episodes", "32") == 0
    config = load_config(tmp_path / "run")
    assert (config.eval_every, config.eval_episodes, config.final_episodes) == (10_000, 32, 320)
    best = json.loads((tmp_path / "run" / FINAL).read_text())["best"]
    assert len(best["return"]) == 320
    assert np.isfinite(best["return"]).all()
    assert status("train", "ippo", "--env", "matrix:climbing", "--protocol", "other") == 2
    assert "gorsane2022" in capsys.readouterr().err
