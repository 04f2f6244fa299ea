"""From an id to an environment, or to one line that says what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from endmark.envs import EnvError, Environment, GymAdapter, PettingZooAdapter, check, installed, known, make

EXAMPLES = [example for family in installed() if family.source is None for example in family.examples]


@pytest.mark.parametrize("env_id", EXAMPLES)
def test_every_example_can_be_made_and_played(env_id: str) -> None:
    env = make(env_id)
    assert isinstance(env, Environment)
    frame = env.reset(seed=0)
    assert frame.obs.shape == env.spec.fields["obs"].shape
    actions = env.spec.fields["actions"]  # numbers, or vectors
    step = env.step(np.zeros(actions.shape, str(actions.dtype).removeprefix("torch.")))
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
            "needs the package 'nowhere', which is not installed: install it, or start in the directory",
        ),
        ("nowhere:Nothing-v0", "needs the package 'nowhere'"),
        ("os.path.nothing", "unknown environment"),
        ("os.path", r"has no parallel_env\(\)"),
        ("matrix:climbin", r"unknown environment 'matrix:climbin': did you mean matrix:climbing\?"),
        ("matrix:", r"did you mean matrix:climbing or matrix:penalty or matrix:two-step\?"),
        ("matrix", "unknown environment 'matrix'"),
        ("::", "want a Gymnasium id, module:GymnasiumId, module:Class, or a module"),
        (":CartPole-v1", "want a Gymnasium id, module:GymnasiumId, module:Class, or a module"),
        ("gymnasium:", "want a Gymnasium id, module:GymnasiumId, module:Class, or a module"),
        ("", "cannot be made: Malformed environment ID"),
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
        EnvError, match=r"'CartPole-v1' takes no argument 'colour': it takes sutton_barto_reward, render_mode"
    ):
        make("CartPole-v1", colour="red")
    with pytest.raises(
        EnvError, match=r"'mpe2.simple_spread_v3' cannot be made: AssertionError: local_ratio .*, in __init__"
    ):
        make("mpe2.simple_spread_v3", local_ratio=2.0)
    with pytest.raises(EnvError, match="episode limit: given 0, want at least 1"):
        make("CartPole-v1", episode_limit=0)


def test_installed_tells_what_is_here_and_how_to_get_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {family.package: family for family in installed()}
    assert here["gymnasium"].version == gym.__version__
    assert here["lbforaging"].is_installed
    assert here["lbforaging"].install == 'pip install "endmark[lbf]"'
    assert set(here) == {
        "gymnasium",
        "lbforaging",
        "rware",
        "mpe2",
        "gymnasium_robotics",
        "smac",
        "smaclite",
        "jaxmarl",
        "vmas",
        "endmark",
    }

    monkeypatch.setattr(known, "find_spec", lambda package: None)
    assert not any(family.is_installed for family in installed())


# --- Environments of one's own, in a file in the current directory ---

OWN = '''
import gymnasium as gym
import numpy as np
from gymnasium import spaces

from endmark.envs import Frame, Step
from endmark.episodes import EpisodeSpec

OPEN = []


class Own:
    """An endmark environment of 6 steps."""

    def __init__(self, size=2, *, agents=1):
        OPEN.append(self)
        self.spec = EpisodeSpec.of(n_agents=agents, n_actions=3, episode_limit=6, obs_shape=(size,))

    def reset(self, seed=None):
        self.t = 0
        return self.frame()

    def frame(self):
        n, fields = self.spec.n_agents, self.spec.fields
        return Frame(np.ones(fields["obs"].shape, np.float32), np.ones((n, 3), bool), np.ones(n, bool))

    def step(self, actions):
        self.t += 1
        return Step(self.frame(), np.float32(1), "terminated" if self.t == 6 else None)

    def close(self):
        OPEN[:] = [env for env in OPEN if env is not self]


class Needy(Own):
    def __init__(self, size):
        super().__init__(size)


class OwnGym(gym.Env):
    def __init__(self, n_actions=2):
        OPEN.append(self)
        self.observation_space = spaces.Box(0, 1, (2,))
        self.action_space = spaces.Discrete(n_actions) if n_actions else spaces.MultiDiscrete([2, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}

    def close(self):
        OPEN.remove(self)


class OwnParallel:
    metadata = {"name": "own"}
    possible_agents = ["a", "b"]
    max_cycles = 5

    def __init__(self, works=True):
        OPEN.append(self)
        self.works = works

    def observation_space(self, agent):
        return spaces.Box(0, 1, (2,))

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None):
        if not self.works:
            raise KeyError("map")
        self.agents = list(self.possible_agents)
        return {agent: np.zeros(2) for agent in self.agents}, {}

    def step(self, actions):
        raise NotImplementedError

    def close(self):
        OPEN.remove(self)


def own(**kwargs):
    return Own(**kwargs)


def broken(size=2):
    raise RuntimeError("no\\nlicence")


def typo(size=2):
    return len(size)


class Other:
    def __init__(self):
        OPEN.append(self)

    def close(self):
        OPEN.remove(self)


class AEC(OwnParallel):
    def agent_iter(self):
        return iter(())


INSTANCE = Own()
OPEN.clear()
gym.register("OwnGym-v0", entry_point=OwnGym, max_episode_steps=7)
'''
MODULES = {
    "own_game.py": OWN,
    "own_package/__init__.py": "from own_game import Own\n",
    "own_package/inner.py": "from own_game import Own, OwnGym, OwnParallel\n",
    "own_parallel.py": "from own_game import OwnParallel\n\n\ndef parallel_env(**kwargs):\n"
    "    return OwnParallel(**kwargs)\n\n\nraw_env = OwnParallel\n",
    "own_wrong_syntax.py": "def wrong(:\n",
    "own_wrong_name.py": "import numpy\n\nnumber = undefined\n",
    "own_needs.py": "import no_such_package_anywhere\n",
    "own_results/curve.txt": "not a module\n",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with modules in it that no other directory on the import path has."""
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]
    gym.registry.pop("OwnGym-v0", None)


def still_open() -> list[object]:
    return list(sys.modules["own_game"].OPEN)


@pytest.mark.parametrize(
    ("env_id", "limit", "obs"),
    [
        ("own_game:Own", 6, (1, 2)),
        ("own_game:own", 6, (1, 2)),
        ("own_package:Own", 6, (1, 2)),
        ("own_package.inner:Own", 6, (1, 2)),
        ("own_game:OwnGym-v0", 7, (1, 2)),
        ("own_game:OwnParallel", 5, (2, 2)),
        ("own_parallel", 5, (2, 2)),
        ("own_parallel:parallel_env", 5, (2, 2)),
        ("own_parallel:OwnParallel", 5, (2, 2)),
    ],
)
def test_a_module_in_the_current_directory(here: Path, env_id: str, limit: int, obs: tuple[int, ...]) -> None:
    path = list(sys.path)
    env = make(env_id)
    assert sys.path == path
    assert isinstance(env, Environment)
    assert env.spec.episode_limit == limit
    assert env.reset(seed=0).obs.shape == obs == env.spec.fields["obs"].shape
    assert len(still_open()) == 1
    env.close()
    assert still_open() == []


def test_an_environment_without_a_limit_is_given_one(here: Path) -> None:
    assert make("own_game:OwnGym", episode_limit=9).spec.episode_limit == 9
    with pytest.raises(EnvError, match=r"'own_game:OwnGym': the environment has no step limit of its own"):
        make("own_game:OwnGym")


def test_an_own_environment_is_cut_at_a_lower_limit(here: Path) -> None:
    env = make("own_game:Own", episode_limit=4)
    assert env.spec.episode_limit == 4
    env.reset(seed=0)
    assert [env.step(np.zeros(1, np.int64)).end for _ in range(4)] == [None, None, None, "truncated"]
    assert make("own_game:Own", episode_limit=40).spec.episode_limit == 6
    assert check(partial(make, "own_game:Own", episode_limit=4)).truncated == 3
    assert check(partial(make, "own_game:Own")).terminated == 3


def test_arguments_reach_an_own_environment(here: Path) -> None:
    assert make("own_game:Own", size=5, agents=3).spec.fields["obs"].shape == (3, 5)
    assert make("own_game:own", size=5).spec.fields["obs"].shape == (1, 5)
    assert make("own_game:OwnGym", n_actions=4, episode_limit=3).spec.n_actions == 4
    assert make("own_game:OwnGym-v0", n_actions=4).spec.n_actions == 4


def test_an_attribute_comes_before_a_gymnasium_id(here: Path) -> None:
    with (here / "own_game.py").open("a") as file:
        file.write("gym.register('Own', entry_point=OwnGym, max_episode_steps=7)\n")
    try:
        assert make("own_game:Own").spec.episode_limit == 6
    finally:
        gym.registry.pop("Own", None)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "words"),
    [
        ("own_gam:Own", {}, r"unknown environment 'own_gam:Own': did you mean own_game:Own\?"),
        ("own_package.iner:Own", {}, r"did you mean own_package.inner:Own\?"),
        ("own_game.py:Own", {}, r"did you mean own_game:Own\?"),
        ("own_game:Ownn", {}, r"did you mean own_game:Own\?"),
        (
            "own_game:Zebra",
            {},
            r"the module 'own_game' has no 'Zebra'; it has Own, Needy, OwnGym, Own",
        ),
        ("own_game:OwnGym-v1", {}, "did you mean own_game:OwnGym-v0"),
        ("own_wrong_name:Own", {}, r"'own_wrong_name' cannot be imported: NameError: .*own_wrong_name.py:3"),
        ("own_wrong_syntax:Own", {}, r"cannot be imported: SyntaxError: .*own_wrong_syntax.py, line 1"),
        ("own_needs:Own", {}, "needs the package 'no_such_package_anywhere', which is not installed"),
        ("own_game", {}, r"'own_game' has no parallel_env\(\): did you mean own_game:Own or own_game:Needy"),
        ("own_results", {}, "unknown environment 'own_results'"),
        ("own_game:OPEN", {}, "'own_game:OPEN' is a list: want a class or a function that makes an"),
        ("own_game:INSTANCE", {}, "'own_game:INSTANCE' is a Own: want a class or a function"),
        ("own_game:dict", {}, "has no 'dict'"),
        (
            "own_game:Other",
            {},
            "'own_game:Other': given a Other, want an endmark Environment",
        ),
        ("own_game:AEC", {}, "given a PettingZoo AEC environment, want a ParallelEnv"),
        ("own_game:Own", {"colour": 1}, "'own_game:Own' takes no argument 'colour': it takes size, agents"),
        ("own_game:Other", {"colour": 1}, "'own_game:Other' takes no argument 'colour': it takes none"),
        (
            "own_game:OwnGym-v0",
            {"colour": 1},
            "OwnGym-v0' takes no argument 'colour': it takes n_act",
        ),
        ("own_game:own", {"colour": 1}, r"cannot be made: TypeError: .*unexpected keyword argument 'colour'"),
        ("own_parallel", {"colour": 1}, "'own_parallel' takes no argument 'colour': it takes works"),
        ("own_game:Needy", {}, "'own_game:Needy' needs the argument 'size': it takes size"),
        ("own_game:broken", {}, r"cannot be made: RuntimeError: no licence \(.*own_game.py:\d+, in broken\)"),
        ("own_game:typo", {}, r"'own_game:typo' cannot be made: TypeError: object of type 'int' has no len"),
        ("own_game:Own", {"episode_limit": 0}, "'own_game:Own': episode limit: given 0, want at least 1"),
        (
            "own_game:OwnGym",
            {"n_actions": 0},
            "'own_game:OwnGym': action space: given MultiDiscrete.*, want Discrete",
        ),
        ("own_game:OwnGym-v0", {"n_actions": 0}, "action space: given MultiDiscrete.*, want Discrete"),
        ("own_game:OwnGym-v0", {"max_episode_steps": 0}, "max_episode_steps: given 0, want at least 1"),
        ("own_game:OwnGym-v0", {"max_episode_steps": "9"}, "max_episode_steps: given '9', want at least 1"),
        ("own_parallel", {"works": False}, r"'own_parallel' cannot be used: KeyError: 'map' .*in reset\)"),
    ],
)
def test_what_is_wrong_with_an_own_environment_is_one_line_and_closed(
    here: Path, env_id: str, kwargs: dict[str, Any], words: str
) -> None:
    with pytest.raises(EnvError, match=words) as caught:
        make(env_id, **kwargs)
    assert "\n" not in str(caught.value)
    if "own_game" in sys.modules:
        assert still_open() == []


def test_an_interrupt_closes_what_was_made(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GymAdapter, "__init__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make("own_game:OwnGym")
    assert still_open() == []


@pytest.mark.parametrize("env_id", ["own_game:Own", "own_game:OwnGym-v0", "own_parallel"])
@pytest.mark.parametrize("episode_limit", [None, 3])
def test_closing_twice_is_harmless(here: Path, env_id: str, episode_limit: int | None) -> None:
    env = make(env_id, episode_limit=episode_limit)
    env.close()
    env.close()
    assert still_open() == []


def test_a_current_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert make("CartPole-v1").spec.n_agents == 1
    with pytest.raises(EnvError, match="needs the package 'own_gam'"):
        make("own_gam:Own")
