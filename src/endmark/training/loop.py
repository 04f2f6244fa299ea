"""The training loop, for every algorithm.

Keys in `metrics.jsonl`: the table `METRICS` in `endmark.training.meters`, and the `METRICS` of the
algorithm's config. A line is about the training since the last such line, or about an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

from endmark.algorithms import Learner
from endmark.disk import owned
from endmark.episodes.files import save_episodes
from endmark.ops.native import keep_memory
from endmark.rollout import Stopped
from endmark.run import REPLAY, Counters, Run
from endmark.training.actors import make_players
from endmark.training.build import make_envs
from endmark.training.config import TrainConfig
from endmark.training.meters import EverySeconds, episode_metrics
from endmark.training.partners import pinned
from endmark.training.parts import make_parts
from endmark.training.resume import Saver, restore
from endmark.training.signals import stop_on_signal
from endmark.training.state_file import STATE, load_state
from endmark.training.updates import settle

OnProgress = Callable[[Counters, Mapping[str, float]], None]
"""Called at the start and whenever episodes have ended: the counters, and of the last evaluation the greedy
`return` and the mean of each outcome, such as `win`; empty before the first."""


class Trained(NamedTuple):
    """What `train` leaves in memory. stopped: by a signal, before it had done all."""

    learner: Learner
    counters: Counters
    stopped: bool


def train(
    config: TrainConfig[Any],
    directory: Path,
    on_progress: OnProgress,
    *,
    resume: bool = False,
    preparing: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> Trained:
    """Train, write a run directory as it goes, and return the learner.

    resume: go on from the state that the run in this directory saved last, bit for bit; from the beginning,
        if it was ended before it saved one.
    preparing: entered with what the run waits for before it starts, such as environments that are compiled.

    Ctrl-C, SIGTERM, SIGHUP or SIGUSR1 ends the loop early, also in the middle of an episode or an evaluation,
    with a checkpoint and a state; a second one ends it at once.
    """
    keep_memory()
    config = pinned(config)
    with ExitStack() as stack:
        stack.enter_context(owned(directory))
        stop = stack.enter_context(stop_on_signal())
        state = load_state(directory) if resume and (directory / STATE).exists() else None
        with preparing(f"making {config.n_envs} environments of {config.env}"):
            envs = stack.enter_context(closing(make_players(config)))
            evaluation_envs = stack.enter_context(closing(make_envs(config, config.n_envs)))
            made = make_parts(config, envs, evaluation_envs, stop.is_set)
        learner, updates, store, rollout, policy, evaluation, meters, logs, evaluations = made
        parts = made._asdict()
        save_due = EverySeconds(config.save_every)
        run = stack.enter_context(Run(directory, config.to_json(), resume=resume, log_to=config.log_to))
        saver = stack.enter_context(Saver())
        counters = run.begin() if state is None else restore(parts, run, state)

        stopped = True
        with suppress(Stopped):
            while True:
                is_over = counters.env_steps >= config.steps
                schedule = policy.schedule(counters.env_steps)
                if logs.due(counters.env_steps, at_the_end=is_over):
                    settle(updates, meters, store)
                    run.log(counters, {**schedule, **meters.pop()})
                    logs.done(counters.env_steps)
                if evaluations.due(counters.env_steps, at_the_end=is_over):
                    settle(updates, meters, store)
                    run.log(counters, evaluation(learner))
                    run.checkpoint(counters, learner.networks.state_dict(), best=evaluation.last_is_best)
                    evaluations.done(counters.env_steps)
                if save_due():
                    settle(updates, meters, store)
                    saver.save(parts, run, counters)
                on_progress(counters, evaluation.means)
                if is_over:
                    stopped = False
                    break
                episodes = rollout.collect(policy)
                settle(updates, meters, store)
                meters.add(*episode_metrics(episodes), rollout.metrics)
                store.add(episodes)
                for batch in store.due():
                    updates.begin(batch)
                counters = Counters(rollout.env_steps, rollout.episodes, updates.begun)

        settle(updates, meters, store)
        saver.save(parts, run, counters)
        run.checkpoint(counters, learner.networks.state_dict())
        if config.store_replay and (held := store.episodes()) is not None:
            save_episodes(held, directory / REPLAY)
        else:
            (directory / REPLAY).unlink(missing_ok=True)  # of a stop, at which some were held
        if not stopped:
            saver.wait()
            run.mark_finished()
    return Trained(learner, counters, stopped)
