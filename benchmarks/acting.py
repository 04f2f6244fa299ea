"""Acting, rollout, and rollout with learning, against the usual runner of one environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import gymnasium as gym
import torch

from benchmarks.agree import Disagreement, check_update
from benchmarks.baseline import BaselineLearner
from benchmarks.baseline_runner import OneEnvironmentActor, OneEnvironmentRunner
from benchmarks.border import baseline_of, padded_replay
from benchmarks.measure import Work, measure, measure_rates
from benchmarks.results import Detail, Goal, Row
from benchmarks.setting import Setting, draw, make_learner
from benchmarks.shapes import full
from endmark.algorithms import QLearner, QMIXConfig
from endmark.envs import Environment, make
from endmark.envs.errors import EnvError
from endmark.episodes import NO_ACTION, EpisodeBatch, EpisodeReplay, EpisodeSpec, SampleBuffer, Seen
from endmark.policies import EpsilonGreedy
from endmark.rollout import EpisodeSeeds, InProcess, Lockstep, VectorEnv, Workers
from endmark.training.updates import InTurn, Overlapped

N_ENVS = 8
EPSILON = 0.05
FORAGING, CARTPOLE = "lbforaging:Foraging-8x8-2p-3f-v3", "CartPole-v1"


def acting(setting: Setting) -> Iterator[Row]:
    """Actions for one step of eight environments: in one batch, or by the baseline one by one."""
    learner = make_learner(setting.shape)
    baseline = baseline_of(learner)
    batch = draw(setting.shape, full, 1)
    obs, avail = batch.obs[:N_ENVS], batch.avail_actions[:N_ENVS]
    first = torch.zeros(len(obs), dtype=torch.bool)
    last_actions = torch.full(batch.alive[:N_ENVS].shape, NO_ACTION)
    seeds = torch.zeros(len(obs), dtype=torch.int64)
    seen = Seen(obs, avail, batch.alive[:N_ENVS], batch.state[:N_ENVS], first, last_actions, seeds)
    generator = torch.Generator().manual_seed(0)
    policy = EpsilonGreedy(learner.actor, len(obs), generator)
    n_actions = setting.shape.n_actions
    actors = [OneEnvironmentActor(baseline.agent, n_actions, generator) for _ in range(len(obs))]

    def at_once() -> torch.Tensor:
        actions = policy.act(seen)["actions"]
        last_actions.copy_(actions)  # as a rollout does
        return actions

    def one_by_one() -> list[torch.Tensor]:
        return [actor.act(*row) for actor, *row in zip(actors, obs, avail, strict=True)]

    for _ in range(3):
        if not torch.equal(at_once(), torch.stack(one_by_one())):
            raise Disagreement("acting: the actions differ; not timed")
    work: dict[str, Work] = {"endmark": at_once, "baseline": one_by_one}
    times = measure(work, setting.share(0.25))
    both = times["endmark"], times["baseline"]
    what = f"{len(obs)} environments, a step"
    yield Row("acting", what, "s", *both, times.ratio("baseline", "endmark"))


def rollout(setting: Setting) -> Iterator[Row]:
    """Rollout without learning; and the environment without a network, an upper bound for every runner."""
    yield _play(setting)
    env_id, envs = _environments(1)
    alone = measure_rates({"env": lambda: _step_alone(envs[0])}, setting.share(0.25))
    yield Row("rollout", "the environment alone", "steps/s", alone["env"].rate(1), details={"env": env_id})
    envs[0].close()


def environments(setting: Setting) -> Iterator[Row]:
    """What part of a rollout's time its environments take: the same actions in bare ones, side by side."""
    for n_envs in (N_ENVS, 2 * N_ENVS):
        env_id, (env,) = _environments(1)
        policy = EpsilonGreedy(_learner(env, setting.quick).actor, n_envs, torch.Generator().manual_seed(0))
        policy.epsilon = EPSILON
        bare = [gym.make(env_id, disable_env_checker=True) for _ in range(n_envs)]
        with closing(env), closing(_vector_env(env_id, env.spec, n_envs, workers=0)) as envs:
            played = Played(Lockstep(envs, EpisodeSeeds(0)), policy, 1 if setting.quick else 2 * n_envs)
            work: dict[str, Callable[[], int]] = {
                "endmark": played.collect,
                "environments": partial(played.again, bare),
            }
            times = measure_rates(work, setting.share(1.0))
        for each in bare:
            each.close()
        yield Row(
            "environments",
            f"{env_id.rpartition(':')[2]}, {n_envs} of them",
            "steps/s",
            times["endmark"].rate(1),
            times["environments"].rate(1),
            times.ratio("environments", "endmark"),
            Goal(0.7),
            details={"env": env_id, "n_envs": n_envs},
        )


class Played:
    """Episodes of a rollout, and the same ones again without it.

    n_episodes: how many to collect at a time, at least.
    """

    def __init__(self, rollout: Lockstep, policy: EpsilonGreedy, n_episodes: int) -> None:
        self.rollout, self.policy, self.n_episodes = rollout, policy, n_episodes
        self.episodes: list[tuple[int, EpisodeBatch]] = []

    def collect(self) -> int:
        """Collect; returns the environment steps taken."""
        self.episodes, before = [], self.rollout.env_steps
        while len(self.episodes) < self.n_episodes:
            finished = self.rollout.collect(self.policy)
            self.episodes += zip(self.rollout.ended_seeds, finished.split(), strict=True)
        return self.rollout.env_steps - before

    def again(self, envs: Sequence[gym.Env[Any, Any]]) -> int:
        """Play the collected episodes in these environments side by side; returns the steps taken."""
        waiting = [(seed, episode.steps("actions").tolist()) for seed, episode in self.episodes]
        left: list[list[Any]] = [[] for _ in envs]  # of each environment's episode
        steps = 0
        while waiting or any(left):
            for k, env in enumerate(envs):
                if not left[k] and waiting:
                    seed, actions = waiting.pop()
                    env.reset(seed=seed)
                    left[k] = actions[::-1]
                if left[k]:
                    chosen = left[k].pop()
                    given = env.step(tuple(chosen) if len(chosen) > 1 else chosen[0])
                    steps += 1
                    if (given[2] or given[3]) == bool(left[k]):
                        raise Disagreement("environments: an episode has another length; not timed")
        return steps


def end_to_end(setting: Setting) -> Iterator[Row]:
    """Rollout, replay, and an update of 32 episodes for each episode collected; in turn and overlapped."""
    yield _play(setting, updates=True)
    yield _play(setting, updates=True, overlap=True)
    yield _play(setting, updates=True, overlap=True, n_envs=2 * N_ENVS, workers=1)


def _play(
    setting: Setting,
    *,
    updates: bool = False,
    overlap: bool = False,
    n_envs: int = N_ENVS,
    workers: int = 0,
) -> Row:
    env_id, (env, usual_env) = _environments(2)
    learner = _learner(env, setting.quick)
    n = 4 if setting.quick else 32
    envs = _vector_env(env_id, env.spec, n_envs, workers)
    with closing(env), closing(usual_env), closing(envs):
        play = Ours(Lockstep(envs, EpisodeSeeds(0)), n_envs, learner, n, overlap=overlap)
        learn_from = play.prefill(2 * n)
        baseline, _, distance = check_update(learner, learn_from)
        usual = Usual(usual_env, learner, baseline, n)
        usual.prefill(2 * n)
        # Episodes that end together cause a burst of updates, which overlaps with the collection of the next
        # episodes. Several bursts are therefore measured at once.
        episodes = 1 if setting.quick else 4 * n_envs if updates else n_envs
        work: dict[str, Callable[[], int]] = {
            "endmark": lambda: play.run(episodes, updates=updates),
            "baseline": lambda: usual.run(episodes, updates=updates),
        }
        times = measure_rates(work, setting.share(2.0 if updates else 1.0))
    section = "end-to-end" if updates else "rollout"
    name = env_id.rpartition(":")[2]
    name += f" --n-envs {n_envs}" if n_envs != N_ENVS else ""
    name += f" --workers {workers}" if workers else ""
    name += " --overlap" if overlap else ""
    details: dict[str, Detail] = {
        "env": env_id,
        "n_envs": n_envs,
        "workers": workers,
        "mean_length": learn_from.n_steps / learn_from.n_episodes,
        "gradient_distance": distance,
    }
    return Row(
        section,
        name,
        "steps/s",
        times["endmark"].rate(1),
        times["baseline"].rate(1),
        times.ratio("baseline", "endmark"),
        Goal(5.0) if updates and env_id == FORAGING else None,
        details=details,
    )


def _step_alone(env: Environment) -> int:
    """Play one episode with the first legal action at every step; returns its number of steps."""
    frame, steps, over = env.reset(seed=0), 0, False
    while not over:
        step = env.step(frame.legal.argmax(-1))
        frame, over, steps = step.frame, step.terminated or step.truncated, steps + 1
    return steps


class Ours:
    """The training loop of `endmark.training.loop`, without logging and evaluation."""

    def __init__(
        self, rollout: Lockstep, n_envs: int, learner: QLearner, batch_size: int, *, overlap: bool
    ) -> None:
        self.batch_size = batch_size
        self.generator = torch.Generator().manual_seed(0)
        self.replay = EpisodeReplay(learner.spec, 20 * batch_size * (learner.spec.episode_limit + 1))
        self.buffer = None if overlap else SampleBuffer()
        # One thread is left for acting.
        threads = max(1, torch.get_num_threads() - 1)
        self.updates = Overlapped(learner, threads) if overlap else InTurn(learner)
        self.policy = EpsilonGreedy(self.updates.actor, n_envs, self.generator)
        self.policy.epsilon = EPSILON
        self.rollout = rollout

    def prefill(self, episodes: int) -> EpisodeBatch:
        """Collect this many episodes; returns a sample of the replay."""
        self.run(episodes, updates=False)
        return self.replay.sample(self.batch_size, self.generator)

    def run(self, episodes: int, *, updates: bool) -> int:
        """Collect at least this many episodes; returns the environment steps taken."""
        before, collected = self.rollout.env_steps, 0
        while collected < episodes:
            finished = self.rollout.collect(self.policy)
            self.updates.finish()
            for episode in finished.split():
                self.replay.add(episode)
                collected += 1
                if updates:
                    self.updates.begin(self.replay.sample(self.batch_size, self.generator, self.buffer))
        self.updates.finish()
        return self.rollout.env_steps - before


class Usual:
    """The usual training loop: one environment, padded episodes, the baseline learner."""

    def __init__(
        self, env: Environment, learner: QLearner, baseline: BaselineLearner, batch_size: int
    ) -> None:
        self.baseline, self.batch_size = baseline, batch_size
        self.generator = torch.Generator().manual_seed(0)
        spec = learner.spec
        self.replay = padded_replay(spec, 20 * batch_size)
        actor = OneEnvironmentActor(baseline.agent, spec.n_actions, self.generator, EPSILON)
        self.runner = OneEnvironmentRunner(env, spec.episode_limit, spec.n_actions, actor, EpisodeSeeds(0))

    def prefill(self, episodes: int) -> None:
        """Collect this many episodes."""
        self.run(episodes, updates=False)

    def run(self, episodes: int, *, updates: bool) -> int:
        """Collect this many episodes; returns the environment steps taken."""
        before = self.runner.env_steps
        for _ in range(episodes):
            fields, terminated = self.runner.episode()
            self.replay.add(fields, terminated=terminated)
            if updates:
                self.baseline.update(self.replay.sample_trimmed(self.batch_size, self.generator))
        return self.runner.env_steps - before


def _vector_env(env_id: str, spec: EpisodeSpec, n_envs: int, workers: int) -> VectorEnv:
    if workers == 0:
        return InProcess([make(env_id) for _ in range(n_envs)])
    return Workers(partial(make, env_id), spec, workers=workers, envs_per_worker=n_envs // workers)


def _environments(n: int) -> tuple[str, list[Environment]]:
    """`n` environments of Level-Based Foraging, or of CartPole where it is not installed; and their id."""
    try:
        return FORAGING, [make(FORAGING) for _ in range(n)]
    except EnvError:
        return CARTPOLE, [make(CARTPOLE) for _ in range(n)]


def _learner(env: Environment, quick: bool) -> QLearner:
    torch.manual_seed(0)
    config = QMIXConfig(hidden_size=8 if quick else 64, normalise_reward="none")
    return QLearner(env.spec, config)
