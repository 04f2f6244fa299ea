"""VMAS's scenarios, K worlds at once as tensors."""

from __future__ import annotations

import contextlib
import random
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import vmas
from gymnasium import spaces
from torch import Tensor
from torch.nn.functional import pad
from vmas.scenarios import load
from vmas.simulator.environment import Environment as Simulation

from endmark.envs.agent_kinds import by_name
from endmark.envs.batched import BatchedStep, Frames
from endmark.envs.constructing import constructed
from endmark.envs.errors import EnvError
from endmark.envs.importing import near, unknown
from endmark.envs.limits import shortest
from endmark.envs.spaces import bounds_of
from endmark.episodes import EpisodeSpec

MAX_STEPS = 100
"""The most steps of an episode where no `max_steps` is given: VMAS has no limit of its own."""
SCENARIOS: Sequence[str] = [*vmas.scenarios, *vmas.mpe_scenarios, *vmas.debug_scenarios]
# Worlds of one simulation change one another here: a step draws random numbers for all of them in turn, the
# reset of one moves the joints of the others, or a goal, a mass or the wind is that of all. Found by trying.
NOISE = ["asym_joint", "discovery", "football", "road_traffic"]
JOINTS = ["ball_trajectory", "buzz_wire", "joint_passage", "joint_passage_size", "waterfall"]
GOALS = ["simple_adversary", "simple_crypto", "simple_push", "simple_reference", "simple_speaker_listener"]
APART = {*NOISE, *JOINTS, *GOALS, "het_mass", "wind_flocking"}
# A scenario takes its arguments out of a dict, and so has no signature.
TAKEN = re.compile(r"""kwargs\.(?:pop|get)\(\s*["'](\w+)["']""")


def vmas_env(name: str, n_envs: int, episode_limit: int | None, kwargs: Mapping[str, Any]) -> VMAS:
    """K worlds of the scenario of this name, such as balance. It gets all arguments but max_steps.

    continuous_actions=True: actions are vectors.
    """
    env_id = f"vmas:{name}"
    if name not in SCENARIOS:
        raise unknown(env_id, [f"vmas:{other}" for other in near(name, SCENARIOS)])
    limit = kwargs.get("max_steps", MAX_STEPS)
    if not isinstance(continuous := kwargs.get("continuous_actions", False), bool):
        raise EnvError(f"'{env_id}': continuous_actions: given {continuous!r}, want True or False")
    if not isinstance(limit, int) or limit < 1:
        raise EnvError(f"'{env_id}': max_steps: given {limit!r}, want a whole number of at least 1")
    limit = shortest(episode_limit, limit)
    source = Path(load(f"{name}.py").__file__).read_text(encoding="utf-8")
    takes = list(dict.fromkeys(["max_steps", "continuous_actions", *TAKEN.findall(source)]))
    for given in kwargs:
        if given not in takes:
            raise EnvError(f"'{env_id}' takes no argument '{given}': it takes {', '.join(takes)}")
    apart = name in APART or any("noise" in given for given in kwargs)
    kwargs = {**kwargs, "continuous_actions": continuous, "max_steps": limit}
    return VMAS(env_id, n_envs, kwargs, apart=apart)


class VMAS:
    """K worlds of one scenario. A `BatchedEnvironment`, on the CPU.

    Agents are numbered as in VMAS, and each has a reward of its own, also where all get the same. Shorter
    observations end in zeros, and actions that an agent does not have are never legal. A combination of moves
    and messages is one action.

    apart: whether each episode has a simulation to itself, because worlds of one would change one another. K
        worlds then take K times as long.
    """

    def __init__(self, env_id: str, n_envs: int, kwargs: Mapping[str, Any], *, apart: bool) -> None:
        self.n_envs, self.device, self._apart = n_envs, torch.device("cpu"), apart
        self._make = partial(_simulation, env_id, 1 if apart else n_envs, kwargs)
        self._simulations = [self._made(0) for _ in range(n_envs if apart else 1)]
        self._random = [random_state(0) for _ in self._simulations]
        first = self._simulations[0]
        self._sizes: list[int] = []  # of actions that are vectors
        bounds, n_actions = None, [0] * len(first.action_space)
        if kwargs["continuous_actions"]:
            bounds = bounds_of([spaces.Box(space.low, space.high) for space in first.action_space])
            self._sizes = [len(space.low) for space in first.action_space]
        else:
            n_actions = [int(space.n) for space in first.action_space]
        shapes = [space.shape for space in first.observation_space]
        if any(shape is None or len(shape) != 1 for shape in shapes):
            raise EnvError(f"'{env_id}': given observations that are not vectors, want one vector per agent")
        self._obs_size = max(size for (size,) in shapes)
        self.spec = EpisodeSpec.of(
            n_agents=len(n_actions),
            n_actions=max(n_actions),
            bounds=bounds,
            episode_limit=kwargs["max_steps"],
            obs_shape=(self._obs_size,),
            reward_per_agent=True,
            kinds=by_name((agent.name for agent in first.agents), shapes, self._sizes or n_actions),
        )
        legal = torch.arange(max(n_actions)) < torch.tensor(n_actions)[:, None]
        self._legal = {} if bounds else {"avail_actions": legal.expand(n_envs, -1, -1).clone()}
        self._alive = torch.ones(n_envs, len(n_actions), dtype=torch.bool)
        self._obs = torch.zeros(n_envs, len(n_actions), self._obs_size)

    def reset(self, seeds: Tensor, where: Tensor) -> Frames:
        """Start an episode from its seed in some of the environments; the current frames of all of them."""
        chosen = where.nonzero()[:, 0].tolist()
        obs = self._obs.clone()
        for k in chosen:
            self._start(k, int(seeds[k]))
            if self._apart:
                obs[k] = self._observed(k)[0]
        if not self._apart:
            obs[where] = self._observed(0)[where]
        self._obs = obs
        return self._frames()

    def step(self, actions: Tensor) -> BatchedStep:
        """Act in all environments."""
        steps = []
        for i, rows in enumerate(actions.chunk(len(self._simulations))):
            with self._random_numbers(i):
                # A column for each agent: VMAS would make one of a vector in place.
                columns = list(rows.chunk(self.spec.n_agents, dim=1))
                if self.spec.bounds is not None:  # copies, as it may change them, too
                    columns = [
                        column[:, 0, :size].clone() for column, size in zip(columns, self._sizes, strict=True)
                    ]
                obs, rewards, terminated, truncated, _ = self._simulations[i].step(columns)
            reward = torch.stack([each.view(len(rows)) for each in rewards], dim=1).float()
            steps.append((self._padded(obs), reward, terminated, truncated & ~terminated))
        self._obs, reward, terminated, truncated = map(torch.cat, zip(*steps, strict=True))
        return BatchedStep(self._frames(), reward, terminated, truncated)

    def close(self) -> None:
        """Nothing is held."""

    def _start(self, k: int, seed: int) -> None:
        if self._apart:
            self._simulations[k] = self._made(seed)
            self._random[k] = list(Simulation.vmas_random_state)
        else:
            self._random[0] = random_state(seed)
            with self._random_numbers(0):
                self._simulations[0].reset_at(k, return_observations=False)

    def _made(self, seed: int) -> Any:
        Simulation.vmas_random_state[:] = random_state(seed)
        return self._make()

    def _observed(self, i: int) -> Tensor:
        with self._random_numbers(i):
            (obs,) = self._simulations[i].get_from_scenario(True, False, False, False)
        return self._padded(obs)

    def _padded(self, obs: Sequence[Tensor]) -> Tensor:
        """Observations of all agents, [K, N, O], in memory of their own."""
        return torch.stack([pad(rows, (0, self._obs_size - rows.shape[1])) for rows in obs], dim=1).float()

    def _frames(self) -> Frames:
        return {"obs": self._obs, **self._legal, "alive": self._alive}

    @contextlib.contextmanager
    def _random_numbers(self, i: int) -> Iterator[None]:
        """Let VMAS draw from this simulation's own generators. It keeps one state for all simulations."""
        Simulation.vmas_random_state[:] = self._random[i]
        yield
        self._random[i] = list(Simulation.vmas_random_state)


def _simulation(env_id: str, n_envs: int, kwargs: Mapping[str, Any]) -> Any:
    """VMAS's own environment. `EnvError` for arguments that it refuses."""
    fixed = {"num_envs": n_envs, "terminated_truncated": True}
    scenario = load(f"{env_id.partition(':')[2]}.py").Scenario()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # VMAS restores it unless it fails
        warnings.simplefilter("ignore")
        return constructed(env_id, vmas.make_env, {**kwargs, **fixed, "scenario": scenario}, [])


def random_state(seed: int) -> list[Any]:
    """The states of torch's, NumPy's and Python's generators at this seed, as VMAS keeps them."""
    numpy = np.random.RandomState([seed >> 32, seed & 0xFFFFFFFF])  # the kind that np.random has
    torch_state = torch.Generator().manual_seed(seed).get_state()
    return [torch_state, numpy.get_state(), random.Random(seed).getstate()]
