"""From an id to an environment, or to one line that says what to do."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

import gymnasium as gym
import numpy as np
import pytest

from endmark.envs import EnvError, Environment, GymAdapter, PettingZooAdapter, installed, known, make

EXAMPLES = [example for family in installed() for example in family.examples]


@pytest.mark.parametrize("env_id", EXAMPLES)
def test_every_example_can_be_made_and_played(env_id: str) -> None:
    env = make(env_id)
    assert isinstance(env, Environment)
    frame = env.reset(seed=0)
    assert frame.obs.shape == env.spec.fields["obs"].shape
    step = env.step(np.zeros(env.spec.n_agents, np.int64))
    assert step.reward.shape == env.spec.fields["reward"].shape
    env.close()


def test_the_id_tells_the_adapter() -> None:
    assert isinstance(make("CartPole-v1"), GymAdapter)
    assert isinstance(make("gymnasium:CartPole-v1"), GymAdapter)
    assert isinstance(make("lbforaging:Foraging-5x5-2p-1f-v3"), GymAdapter)
    assert isinstance(make("mpe2.simple_spread_v3"), PettingZooAdapter)


def test_arguments_reach_the_environment() -> None:
    assert make("lbforaging:Foraging-5x5-2p-1f-v3", players=3).spec.n_agents == 3
    assert make("mpe2.simple_spread_v3", N=4).spec.n_agents == 4
    assert make("mpe2.simple_spread_v3", N=4, max_cycles=7).spec.episode_limit == 7


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("lbforaging:Foraging-8x8-2p-2f-cop-v3", "did you mean lbforaging:Foraging-8x8-2p-2f-coop-v3"),
        ("lbforagin:Foraging-8x8-2p-2f-v3", r"did you mean lbforaging:Foraging-8x8-2p-2f-v3\?"),
        ("rware:rware-tiny-2a-v2", "did you mean rware:rware-tiny-2ag-v2"),
        ("CartPol-v1", "unknown environment 'CartPol-v1': did you mean CartPole-v1"),
        ("CartPole-v9", "did you mean CartPole-v1"),
        ("ALE/Pong-v5", "`endmark envs` shows what is installed"),
        ("simple_spread_v3", r"did you mean mpe2.simple_spread_v3\?"),
        ("mpe2.simple_spred_v3", "did you mean mpe2.simple_spread_v3"),
        (
            "nowhere.to_be_found",
            "needs the package 'nowhere', which is not installed: install it, or correct the name",
        ),
        ("nowhere:Nothing-v0", "needs the package 'nowhere'"),
        ("os.path.nothing", "unknown environment"),
        ("os.path", r"has no parallel_env\(\)"),
        ("::", "want 'module:GymnasiumId'"),
        (":CartPole-v1", "want 'module:GymnasiumId'"),
        ("gymnasium:", "want 'module:GymnasiumId'"),
        ("", "cannot be made: Malformed environment ID"),
        ("Pendulum-v1", "action space: given Box.*, want Discrete"),
        ("Blackjack-v1", "no step limit of its own: set one with --episode-limit"),
    ],
)
def test_an_unusable_id_gets_one_helpful_line(env_id: str, words: str) -> None:
    with pytest.raises(EnvError, match=words) as caught:
        make(env_id)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("env_id", "home"),
    [
        ("Foraging-8x8-2p-2f-coop-v3", "lbforaging:Foraging-8x8-2p-2f-coop-v3"),
        ("rware-tiny-2ag-v2", "rware:rware-tiny-2ag-v2"),
    ],
)
def test_an_id_without_its_module_is_told_where_it_lives(
    monkeypatch: pytest.MonkeyPatch, env_id: str, home: str
) -> None:
    make(home)
    monkeypatch.delitem(gym.registry, env_id)  # as in a process that has not imported the module
    with pytest.raises(EnvError, match=rf"did you mean {home}\?"):
        make(env_id)


class Without(MetaPathFinder):
    """As if a package were not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


@pytest.mark.parametrize(
    ("package", "env_id", "command"),
    [
        ("lbforaging", "lbforaging:Foraging-5x5-2p-1f-v3", r'pip install "endmark\[lbf\]"'),
        ("rware", "rware:rware-tiny-2ag-v2", r'pip install "endmark\[rware\]"'),
        ("mpe2", "mpe2.simple_spread_v3", r'pip install "endmark\[pettingzoo\]"'),
        ("pettingzoo", "pettingzoo.butterfly.pistonball_v6", r'pip install "endmark\[pettingzoo\]"'),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, package: str, env_id: str, command: str
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Without(package), *sys.meta_path])
    with pytest.raises(EnvError, match=f"needs the package '{package}', which is not installed: {command}"):
        make(env_id)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(
        EnvError, match=r"'CartPole-v1' cannot be made: .*unexpected keyword argument 'colour'"
    ):
        make("CartPole-v1", colour="red")
    with pytest.raises(EnvError, match=r"'mpe2.simple_spread_v3' cannot be made: local_ratio is"):
        make("mpe2.simple_spread_v3", local_ratio=2.0)
    with pytest.raises(EnvError, match=r"'mpe2.simple_v3': action space: given Box.*, want Discrete"):
        make("mpe2.simple_v3", continuous_actions=True)
    with pytest.raises(EnvError, match="episode limit: given 0, want at least 1"):
        make("CartPole-v1", episode_limit=0)


def test_installed_tells_what_is_here_and_how_to_get_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {family.package: family for family in installed()}
    assert here["gymnasium"].version == gym.__version__
    assert here["lbforaging"].is_installed
    assert here["lbforaging"].install == 'pip install "endmark[lbf]"'
    assert set(here) == {"gymnasium", "lbforaging", "rware", "mpe2"}

    monkeypatch.setattr(known, "find_spec", lambda package: None)
    assert not any(family.is_installed for family in installed())
