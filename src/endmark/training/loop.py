"""The training loop, its configuration, and how a run is taken up again for evaluation.

Keys in `metrics.jsonl`. Every line: `env_steps`, `episodes`, `updates` so far and `seconds` since the start.
About the training since the last such line: `epsilon`, the `episode_return` and `episode_length` of the
episodes that ended, and the means of what `QLearner.update` reports: `loss`, `q_taken`, `target`,
`td_error_abs`, `grad_norm`. About an evaluation: `greedy_return`, `greedy_length`, and `greedy_terminated`,
the share of episodes that terminated rather than being cut off.
"""

from __future__ import annotations

import dataclasses
import itertools
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tyro.conf import Positional

from endmark.algorithms import EpsilonGreedy, QLearner, QLearningConfig
from endmark.envs import Environment, make
from endmark.episodes import EpisodeReplay, EpisodeSpec, SampleBuffer
from endmark.episodes.files import save_episodes
from endmark.ops.native import keep_memory
from endmark.rollout import (
    Lockstep,
    Policy,
    RandomPolicy,
    Rollout,
    Summary,
    WorkerRollout,
    episode_returns,
    episode_seeds,
    play,
    summarise,
)
from endmark.run import REPLAY, Counters, Run, RunError, read_checkpoint, read_config
from endmark.training.updates import InTurn, Overlapped

# What episode seeds are drawn from. Evaluations play the same episodes in every run, so that runs compare.
_TRAINING, _EVALUATION, _FINAL = 0, 1, 2


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, and for how long."""

    algorithm: Positional[Literal["iql", "vdn", "qmix"]]
    """Independent Q-learning, or value decomposition by a sum or by a monotone network."""
    env: str
    """An id as `endmark envs` shows them, such as lbforaging:Foraging-5x5-2p-1f-v3."""
    steps: int = 100_000
    """Environment steps to train for."""
    seed: int = 0
    """Seed of everything; on a CPU, the same seed gives the same run bit for bit."""
    learner: QLearningConfig = dataclasses.field(default_factory=QLearningConfig)
    """How to learn."""
    n_envs: int = 8
    """Environments that are played side by side."""
    workers: int = 0
    """Processes that step the environments; 0: in this process. For slow environments."""
    worker_timeout: float = 60.0
    """Seconds until a process that does not answer is replaced."""
    overlap: bool = False
    """Collect the next episodes, with the last weights, while updates run; as reproducible as in turn."""
    batch_size: int = 32
    """Episodes an update."""
    episodes_per_update: int = 1
    """New episodes between two updates."""
    replay_frames: int = 100_000
    """Frames that the replay holds; the oldest episodes make way."""
    epsilon_start: float = 1.0
    """Share of random actions at the beginning ..."""
    epsilon_end: float = 0.05
    """... and from `epsilon_steps` on, falling in a straight line between."""
    epsilon_steps: int = 50_000
    """Environment steps until `epsilon_end` is reached."""
    log_every: int = 1_000
    """Environment steps between two lines of training metrics."""
    eval_every: int = 5_000
    """Environment steps between two greedy evaluations, each of which ends in a checkpoint."""
    eval_episodes: int = 32
    """Episodes of such an evaluation, always from the same seeds."""
    final_episodes: int = 100
    """Episodes of the evaluation at the end, greedy beside random."""
    episode_limit: int | None = None
    """Cut episodes after this many steps; needed only for an environment without a limit of its own."""
    store_replay: bool = True
    """Store the replay's episodes at the end, for `endmark inspect`."""
    device: str = "auto"
    """Where the networks are: auto (a GPU if torch sees one), cpu, cuda, cuda:1, ..."""
    threads: int = 1
    """Threads of torch on the CPU. Few agents and small networks are fastest with one."""

    def __post_init__(self) -> None:
        for name in (
            "steps", "n_envs", "batch_size", "episodes_per_update", "replay_frames", "log_every",
            "eval_every", "eval_episodes", "final_episodes", "threads",
        ):  # fmt: skip
            if (given := getattr(self, name)) < 1:
                raise ValueError(f"{name}: given {given}, want at least 1")
        if self.workers < 0:
            raise ValueError(f"workers: given {self.workers}, want at least 0")
        if self.workers > 0 and self.n_envs % self.workers != 0:
            raise ValueError(f"n_envs: given {self.n_envs}, want a multiple of {self.workers}, the workers")
        if not self.worker_timeout > 0:
            raise ValueError(f"worker_timeout: given {self.worker_timeout}, want more than 0 seconds")
        if self.epsilon_steps < 0:
            raise ValueError(f"epsilon_steps: given {self.epsilon_steps}, want at least 0")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: given {self.seed}, want 0 <= seed < 2**63")
        for name in ("epsilon_start", "epsilon_end"):
            if not 0 <= (given := getattr(self, name)) <= 1:
                raise ValueError(f"{name}: given {given}, want 0 to 1")

    def epsilon(self, env_steps: int) -> float:
        """The share of random actions after this many environment steps."""
        done = min(1.0, env_steps / self.epsilon_steps) if self.epsilon_steps else 1.0
        return self.epsilon_start + done * (self.epsilon_end - self.epsilon_start)


Observer = Callable[[Counters, float | None], None]
"""Called whenever episodes have ended, with the counters and the last evaluation's greedy return."""


def train(config: TrainConfig, directory: Path, observe: Observer) -> tuple[QLearner, Counters]:
    """Train, write a run directory as it goes, and return the learner.

    Ctrl-C or SIGTERM ends the loop early, with a checkpoint; a second one ends it at once.
    """
    keep_memory()
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    eval_envs = make_envs(config)
    learner = make_learner(config, eval_envs[0].spec)
    replay = EpisodeReplay(learner.spec, config.replay_frames)
    # Updates that wait in a queue keep their batches, each of which needs memory of its own.
    buffer = None if config.overlap else SampleBuffer(learner.device)
    updates = Overlapped(learner, config.threads) if config.overlap else InTurn(learner)
    policy = EpsilonGreedy(updates.agent, config.n_envs, generator)
    meters, log_due, eval_due = _Meters(), _Every(config.log_every), _Every(config.eval_every)
    counters, episodes_waiting, n_updates, greedy_return = Counters(), 0, 0, None

    with (
        make_rollout(config, learner.spec) as rollout,
        Run(directory, config) as run,
        stop_on_signal() as stop,
    ):
        while counters.env_steps < config.steps and not stop.is_set():
            policy.epsilon = config.epsilon(rollout.env_steps)
            episodes = rollout.collect(policy)
            meters.add(*updates.finish())
            for episode in episodes:
                replay.add(episode)
                meters.add({"episode_return": episode_returns(episode)[0], "episode_length": episode.n_steps})
                episodes_waiting += 1
                if episodes_waiting >= config.episodes_per_update and len(replay) >= config.batch_size:
                    batch = replay.sample(config.batch_size, generator, buffer)
                    updates.begin(batch.to(learner.device))
                    episodes_waiting, n_updates = 0, n_updates + 1
            counters = Counters(rollout.env_steps, rollout.episodes, n_updates)
            finished = counters.env_steps >= config.steps
            if log_due(counters.env_steps) or finished:
                meters.add(*updates.finish())
                run.log(counters, {"epsilon": policy.epsilon} | meters.pop())
            if eval_due(counters.env_steps) or finished:
                meters.add(*updates.finish())
                seeds = itertools.islice(episode_seeds(_EVALUATION), config.eval_episodes)
                summary = summarise(play(eval_envs, greedy_policy(config, learner), seeds))
                greedy_return = summary.return_mean
                run.log(counters, _greedy_metrics(summary))
                run.checkpoint(counters, learner.state_dict())
            observe(counters, greedy_return)
        updates.finish()
        run.checkpoint(counters, learner.state_dict())
        if config.store_replay and len(replay) > 0:
            save_episodes(replay.episodes(), directory / REPLAY)
    return learner, counters


def evaluate(config: TrainConfig, policy: Policy, episodes: int) -> Summary:
    """How the policy does on the run's environments, on episode seeds that training never used."""
    envs = make_envs(config)
    return summarise(play(envs, policy, itertools.islice(episode_seeds(_FINAL), episodes)))


def load(directory: Path) -> tuple[TrainConfig, QLearner]:
    """A run's configuration and its learner as of the last checkpoint; RunError if they cannot be read."""
    raw = read_config(directory)
    counters, tensors = read_checkpoint(directory)
    try:
        config = TrainConfig(**raw | {"learner": QLearningConfig(**raw["learner"])})
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{directory / 'config.json'} does not fit this version of endmark: {error}") from None
    learner = make_learner(config, make_envs(config)[0].spec)
    try:
        learner.load_state_dict(tensors)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise RunError(
            f"{directory / 'weights.safetensors'} does not fit the run's config: {problem}"
        ) from None
    learner.updates = counters.updates
    return config, learner


def make_envs(config: TrainConfig) -> list[Environment]:
    """The run's environments, anew."""
    return [make(config.env, episode_limit=config.episode_limit) for _ in range(config.n_envs)]


def make_rollout(config: TrainConfig, spec: EpisodeSpec) -> Lockstep:
    """What plays the run's training episodes."""
    seeds = episode_seeds(_TRAINING, config.seed)
    if config.workers == 0:
        return Rollout(make_envs(config), seeds)
    return WorkerRollout(
        partial(make, config.env, episode_limit=config.episode_limit),
        spec,
        seeds,
        workers=config.workers,
        envs_per_worker=config.n_envs // config.workers,
        timeout=config.worker_timeout,
    )


def make_learner(config: TrainConfig, spec: EpisodeSpec) -> QLearner:
    """The run's learner, untrained, on its device."""
    torch.set_num_threads(config.threads)
    needed = config.batch_size * (spec.episode_limit + 1)
    if config.replay_frames < needed:
        raise ValueError(
            f"replay_frames: given {config.replay_frames}, want at least {needed}, which holds batch_size "
            f"{config.batch_size} episodes of {spec.episode_limit} steps"
        )
    name = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # some devices hold no numbers, such as meta
        return QLearner(config.algorithm, spec, config.learner).to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: given '{name}': {str(error).splitlines()[0]}") from None


def greedy_policy(config: TrainConfig, learner: QLearner) -> Policy:
    """The learner's, for the run's environments; it draws no random numbers."""
    return EpsilonGreedy(learner.agent, config.n_envs, torch.Generator())


def random_policy() -> Policy:
    """Every legal action equally likely; the same in every run."""
    return RandomPolicy(torch.Generator().manual_seed(0))


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second has its usual effect.

    An update is never cut in the middle. Outside the main thread, where signals cannot be handled, the
    event stays unset.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, usual[signal.Signals(number)])

    try:
        for number in usual:
            signal.signal(number, handle)
        yield stop
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _greedy_metrics(summary: Summary) -> dict[str, float]:
    return {
        "greedy_return": summary.return_mean,
        "greedy_length": summary.length_mean,
        "greedy_terminated": summary.terminated,
    }


class _Every:
    """True whenever another `period` steps have passed."""

    def __init__(self, period: int) -> None:
        self.period = self._next = period

    def __call__(self, steps: int) -> bool:
        if steps < self._next:
            return False
        self._next = (steps // self.period + 1) * self.period
        return True


class _Meters:
    """Means of what was added since the last `pop`. Tensors stay where they are until then."""

    def __init__(self) -> None:
        self._values: dict[str, list[float | Tensor]] = {}

    def add(self, *metrics: Mapping[str, float | Tensor]) -> None:
        for name, value in itertools.chain.from_iterable(each.items() for each in metrics):
            self._values.setdefault(name, []).append(value)

    def pop(self) -> dict[str, float]:
        means = {name: sum(map(float, values)) / len(values) for name, values in self._values.items()}
        self._values.clear()
        return means
