"""MAPPO's whole update, every epoch of it, for several distributions of lengths. Collecting is left out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.agree_ppo import acted, check_ppo, divisions_of
from benchmarks.border import padded_batch
from benchmarks.floor import ppo_flops
from benchmarks.measure import Times, Work, measure
from benchmarks.results import Detail, Goal, Row
from benchmarks.setting import Setting, draw
from benchmarks.shapes import Lengths, Shape, uniform
from benchmarks.update import GPU_GOAL, WHO, mixes
from endmark.algorithms import MAPPOConfig
from endmark.algorithms.ppo import PPOLearner

# For the three distributions, in the order of `mixes`; the fourth row, of minibatches, has none.
GOALS = Goal(2.5), Goal(4.0), Goal(7.0)


def mappo(setting: Setting) -> Iterator[Row]:
    """An update for each distribution of lengths, on every device, and one in minibatches."""
    for device in setting.devices:
        for (what, mix), goal in zip(mixes(setting.shape.limit).items(), GOALS, strict=True):
            yield _row(setting, what, mix, device, goal=goal if device == "cpu" else GPU_GOAL)
        least, most = setting.shape.limit // 6, setting.shape.limit * 5 // 6
        yield _row(setting, f"uniform {least}..{most}, 4 minibatches", uniform, device, minibatches=4)


def learner_of(shape: Shape, device: str, minibatches: int) -> PPOLearner:
    """A MAPPO learner of this shape with default settings."""
    torch.manual_seed(0)
    config = MAPPOConfig(hidden_size=shape.hidden_size, batch_size=shape.batch_size, minibatches=minibatches)
    return PPOLearner(shape.spec(), config, device)


def _row(
    setting: Setting,
    what: str,
    lengths: Lengths,
    device: str,
    *,
    minibatches: int = 1,
    goal: Goal | None = None,
) -> Row:
    """Both learners' updates, after checking that they compute the same."""
    shape = setting.shape
    # Agents that leave are where a mask errs. They are checked, though not timed.
    leaving = draw(shape, lengths, shape.batch_size, leaves=True, seed=1)
    check_ppo(learner_of(shape, device, minibatches), leaving.to(device))
    learner = learner_of(shape, device, minibatches)
    batch = draw(shape, lengths, shape.batch_size).to(device)
    baseline, distance = check_ppo(learner, batch)
    batch = acted(learner, batch)
    padded, log_prob, divisions = (
        padded_batch(batch),
        batch.to_padded()["log_prob"],
        divisions_of(learner, batch),
    )
    work: dict[str, Work] = {
        "endmark": partial(learner.update, batch),
        "baseline": partial(baseline.update, padded, log_prob, divisions),
    }
    times: Times[str] = measure(work, setting.effort, device=device)
    ours, theirs = WHO
    flops = ppo_flops(shape, batch.n_frames, batch.n_steps, learner.config.epochs)
    details: dict[str, Detail] = {
        "n_episodes": batch.n_episodes,
        "n_steps": batch.n_steps,
        "padded_steps": int(batch.lengths.max()) * batch.n_episodes,
        "flops": flops,
        "gradient_distance": distance,
        **{f"{who}_flops_per_second": flops / times[who].median for who in WHO},
    }
    return Row(
        "mappo",
        what,
        "s",
        times[ours],
        times[theirs],
        ratio=times.ratio(theirs, ours),
        goal=goal,
        device=device,
        details=details,
    )
