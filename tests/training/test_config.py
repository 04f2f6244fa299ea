"""A configuration that was read has the types that the code relies on, and says which setting has not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from endmark.algorithms import IPPOConfig, QMIXConfig
from endmark.envs.arguments import arguments
from endmark.run import RunError
from endmark.training import TrainConfig, load_config
from endmark.training.build import make_learner
from endmark.training.config import from_json
from support.helpers import make_spec

CONFIG = TrainConfig(QMIXConfig(), "an:Env", env_arg=("a=1",), save_every=3.0)


def written(directory: Path, raw: Any) -> Path:
    (directory / "config.json").write_text(json.dumps(raw))
    return directory


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    for config in (CONFIG, TrainConfig(IPPOConfig(value_clip=None, target_kl=0.1), "x", episode_limit=7)):
        raw = json.loads(
            json.dumps(config.to_json() | {"save_every": round(config.save_every)})
        )  # as 3, not 3.0
        assert load_config(written(tmp_path, raw)) == config
        assert type(from_json(raw).save_every) is float


def test_a_setting_that_an_older_version_had_not_has_its_default(tmp_path: Path) -> None:
    raw = CONFIG.to_json()
    del raw["save_every"], raw["algorithm"]["lr"]
    assert load_config(written(tmp_path, raw)).save_every == 300.0


@pytest.mark.parametrize(("old", "share"), [(True, "all"), (False, "none")])
def test_share_parameters_is_an_older_name_of_share(tmp_path: Path, old: bool, share: str) -> None:
    raw = CONFIG.to_json()
    del raw["algorithm"]["share"]
    raw["algorithm"]["share_parameters"] = old
    assert load_config(written(tmp_path, raw)).algorithm.share == share
    raw["algorithm"]["share_parameters"] = "some"
    with pytest.raises(RunError, match=r"algorithm\.'share_parameters': no such setting, want one of"):
        load_config(written(tmp_path, raw))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": "many"}, "steps: given 'many', want an integer below 2**63"),
        ({"steps": 3.0}, "steps: given 3.0, want an integer"),
        ({"steps": True}, "steps: given True, want an integer"),
        ({"steps": 10**40}, "steps: given 1000"),
        ({"env": 3}, "env: given 3, want str"),
        ({"env_arg": "a=1"}, "env_arg: given 'a=1', want a list"),
        ({"env_arg": ["a=1", 3]}, "env_arg[1]: given 3, want str"),
        ({"overlap": 1}, "overlap: given 1, want bool"),
        ({"episode_limit": "7"}, "episode_limit: given '7', want an integer"),
        ({"save_every": None}, "save_every: given None, want float"),
        ({"no_such": 3}, "'no_such': no such setting, want one of algorithm, env"),
        ({"\x1b[31m": 3}, r"'\x1b[31m': no such setting"),
        ({"algorithm": 3}, "algorithm: want an object with"),
        ({"algorithm": {"lr": 0.1}}, "algorithm: want an object with the algorithm's name"),
        ({"algorithm": {"name": ["qmix"]}}, "algorithm: want an object with the algorithm's name"),
        ({"algorithm": {"name": "qmix", "lr": "abc"}}, "algorithm.lr: given 'abc', want float"),
        ({"algorithm": {"name": "qmix", "lr": [1]}}, "algorithm.lr: given [1], want float"),
        ({"algorithm": {"name": "qmix", "lr": -1.0}}, "algorithm.lr: given -1.0, want more than 0"),
        (
            {"algorithm": {"name": "qmix", "agent": "oak"}},
            "algorithm.agent: given 'oak', want one of gru, att",
        ),
        ({"algorithm": {"name": "qmix", "rate": 1}}, "algorithm.'rate': no such setting, want one of agent"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(RunError) as refused:
        load_config(written(tmp_path, CONFIG.to_json() | change))
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / 'config.json'} does not fit this version of endmark: {words}")
    assert "\n" not in message
    assert len(message) < 1000


def test_a_missing_environment_is_named(tmp_path: Path) -> None:
    raw = CONFIG.to_json()
    del raw["env"]
    with pytest.raises(RunError, match="env: missing, want an environment's id"):
        load_config(written(tmp_path, raw))


def test_an_argument_of_an_environment_nested_too_deeply() -> None:
    with pytest.raises(ValueError, match="env_arg: a: given JSON that is nested too deeply"):
        arguments(["a=" + "[" * 100_000 + "]" * 100_000])


def test_networks_that_do_not_fit_are_said_with_their_size() -> None:
    config = TrainConfig(QMIXConfig(hidden_size=10**12), "an:Env", device="cpu")
    with pytest.raises(
        ValueError, match=r"do not fit into the memory of cpu: .*GiB; given .*hidden_size 10{12}"
    ):
        make_learner(config, make_spec())
