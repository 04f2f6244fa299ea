"""Environments with the methods of PyMARL's `MultiAgentEnv`, in each form that they have in the wild."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

LIMIT = 6
NO_OP, STOP, ATTACK = 0, 1, 2


class Skirmish:
    """A team against one enemy, in PyMARL's form: `reset()` returns nothing, `step` three things.

    Each step, the enemy hits the agent whose turn it is. An agent without health has only its no-op. The team
    wins when the enemy has no health, loses when no agent has any, and its time is over after LIMIT steps.

    health: of the agents; by default drawn from the episode's seed. enemy: its health.
    sizes, actions: what agent n sees and can do, in numbers; it observes its health, again and again.
    """

    def __init__(
        self,
        *,
        health: tuple[int, ...] | None = None,
        enemy: int = 100,
        sizes: tuple[int, ...] = (4, 4, 4),
        actions: tuple[int, ...] = (3, 3, 3),
    ) -> None:
        self.n_agents, self.episode_limit = len(sizes), LIMIT
        self.start, self.start_enemy, self.sizes, self.actions = health, enemy, sizes, actions
        self.generator = np.random.default_rng()
        self.heard: list[list[int]] = []
        self.closed = 0

    def seed(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def reset(self) -> None:
        drawn = self.generator.integers(1, 4, self.n_agents).tolist()
        self.health: list[int] = list(self.start or drawn)
        self.enemy, self.t = self.start_enemy, 0

    def step(self, actions: list[int]) -> Any:
        """Reward, terminated, info."""
        is_over, info = self.fight(actions)
        return 1.0, is_over, info

    def fight(self, actions: list[int]) -> tuple[bool, dict[str, Any]]:
        assert all(type(action) is int for action in actions)
        for mask, action in zip(self.get_avail_actions(), actions, strict=True):
            assert mask[action], "an illegal action"
        self.heard.append(actions)
        self.enemy = max(0, self.enemy - actions.count(ATTACK))
        hit = self.t % self.n_agents
        self.health[hit] = max(0, self.health[hit] - 1)
        self.t += 1
        won, lost = self.enemy == 0, not any(self.health)
        if won or lost:
            return True, {"battle_won": won}
        return self.t == LIMIT, {"battle_won": False, **({"episode_limit": True} if self.t == LIMIT else {})}

    def get_obs(self) -> Any:
        return [
            np.full(size, health, np.float64) for size, health in zip(self.sizes, self.health, strict=True)
        ]

    def get_state(self) -> Any:
        return np.array([*self.health, self.enemy])

    def get_avail_actions(self) -> Any:
        return [
            [0, *[1] * (n - 1)] if health else [1, *[0] * (n - 1)]
            for n, health in zip(self.actions, self.health, strict=True)
        ]

    def get_env_info(self) -> dict[str, Any]:
        return {
            "n_agents": self.n_agents,
            "n_actions": max(self.actions),
            "obs_shape": max(self.sizes),
            "state_shape": self.n_agents + 1,
            "episode_limit": self.episode_limit,
        }

    def close(self) -> None:
        self.closed += 1


class StarCraftLike(Skirmish):
    """SMAC's form: `reset()` returns observations and state, `seed()` tells the seed, and it counts.

    continuing_episode: whether info tells an end at the limit.
    crash_at: the step at which the game crashes, and starts another one.
    """

    def __init__(
        self,
        map_name: str = "3m",
        *,
        continuing_episode: bool = False,
        crash_at: int | None = None,
        **how: Any,
    ) -> None:
        super().__init__(**how)
        self.map_name, self.continuing_episode, self.crash_at = map_name, continuing_episode, crash_at
        self.timeouts = self.force_restarts = 0

    def seed(self) -> int:  # type: ignore[override]
        return 7

    def reset(self) -> Any:
        super().reset()
        return self.get_obs(), self.get_state()

    def fight(self, actions: list[int]) -> tuple[bool, dict[str, Any]]:
        if self.t == self.crash_at:
            self.force_restarts += 1
            self.reset()
            return True, {}
        is_over, info = super().fight(actions)
        self.timeouts += "episode_limit" in info
        if not self.continuing_episode:
            info.pop("episode_limit", None)
        return is_over, info


class Wrapped:
    """A wrapper around StarCraft, as EPyMARL has: five things from `step`, the game itself in `env`."""

    def __init__(self, **how: Any) -> None:
        self.env = StarCraftLike(**how)

    def __getattr__(self, name: str) -> Any:
        if name in ("timeouts", "force_restarts"):
            raise AttributeError(name)
        return getattr(self.env, name)

    def step(self, actions: list[int]) -> Any:
        reward, is_over, info = self.env.step(actions)
        return self.env.get_obs(), reward, is_over, False, info


class Newer(Skirmish):
    """EPyMARL's newer form: `reset(seed, options)` returns observations and info, `step` five things.

    common_reward: False for a list of rewards.
    flags: how `terminated` and `truncated` are told: "one", or "each" agent's.
    """

    def __init__(self, *, common_reward: bool = True, flags: str = "one", **how: Any) -> None:
        super().__init__(**how)
        self.common_reward, self.flags = common_reward, flags

    def reset(self, seed: int | None = None, options: object = None) -> Any:
        assert options is None
        if seed is not None:
            self.seed(seed)
        super().reset()
        return self.get_obs(), {}

    def step(self, actions: list[int]) -> Any:
        is_over, info = self.fight(actions)
        cut = info.pop("episode_limit", False)
        reward = 1.0 if self.common_reward else [float(n + 1) for n in range(self.n_agents)]
        flags: list[Any] = [is_over and not cut, cut]
        if self.flags == "each":
            flags = [[flag] * self.n_agents for flag in flags]
        return self.get_obs(), reward, *flags, info


class AroundGymnasium:
    """A Gymnasium environment in EPyMARL's newer form, held as `_env`."""

    def __init__(self, key: str, **how: Any) -> None:
        self._env: Any = gym.make(key, disable_env_checker=True, **how)
        self.spaces: list[Any] = [self._env.observation_space, self._env.action_space]

    def reset(self, seed: int | None = None) -> Any:
        self.obs, info = self._env.reset(seed=seed)
        return self.obs, info

    def step(self, actions: list[int]) -> Any:
        self.obs, rewards, *flags, info = self._env.step(actions)
        return self.obs, sum(rewards), *flags, info

    def get_obs(self) -> Any:
        return self.obs

    def get_state(self) -> Any:
        return np.concatenate(self.obs)

    def get_avail_actions(self) -> Any:
        return [[1] * int(space.n) for space in self.spaces[1]]

    def get_env_info(self) -> dict[str, Any]:
        sizes = [space.shape[0] for space in self.spaces[0]]
        n_actions = max(int(space.n) for space in self.spaces[1])
        return {
            "n_agents": len(sizes),
            "n_actions": n_actions,
            "obs_shape": max(sizes),
            "state_shape": sum(sizes),
            "episode_limit": 50,
        }

    def close(self) -> None:
        self._env.close()


class Reviving(Skirmish):
    """An agent that has to sit out a step, and then goes on."""

    def get_avail_actions(self) -> Any:
        masks = super().get_avail_actions()
        if self.t == 1:
            masks[1] = [1, 0, 0]
        return masks


NOT_CALLABLE = 3
