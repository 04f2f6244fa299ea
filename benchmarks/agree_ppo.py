"""The check that endmark and the baseline of MAPPO compute the same. It comes before any timing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from benchmarks.agree import away_from, copies, move_apart, same, same_changes, same_gradients
from benchmarks.baseline_ppo import PPOBaselineLearner
from benchmarks.border import named_ppo_parameters, padded_batch, ppo_baseline_of
from endmark.algorithms.ppo import PPOLearner
from endmark.algorithms.proximal import balanced
from endmark.episodes import EpisodeBatch
from endmark.nets import CentralCritic, RecurrentAgent
from endmark.ops import linear

RATIOS = -0.5, -0.1, 0.1, 0.5
"""How far the checked policy's log-probabilities stand from those of the one that acted: half of the ratios
are clipped, at either end, and none is so near to the bounds 0.8 and 1.2 that rounding could decide it."""

Divisions = list[list[Tensor]] | None


def check_ppo(learner: PPOLearner, batch: EpisodeBatch) -> tuple[PPOBaselineLearner, float]:
    """Check that the learner and a baseline with its weights compute the same update of this batch.

    Returns the baseline, and the largest relative error of a gradient. The check covers the loss, every
    gradient, and the change of every parameter in a whole update, which takes the value targets into the
    running moments first. Disagreement if one of them differs.

    The learner's weights are perturbed first. Inputs at which rounding decides are removed from the batch
    that is checked. After the call both learners have made one update.
    """
    move_apart(learner.networks)
    baseline = ppo_baseline_of(learner)
    clear = acted(learner, away_from(lambda changed: _corners(learner, changed), batch), RATIOS)
    padded, log_prob = padded_batch(clear), clear.to_padded()["log_prob"]
    ours = learner.loss(clear)["loss"]
    theirs = baseline.loss(baseline.prepare(padded, log_prob, take_in=False))
    same("the loss", ours.detach(), theirs.detach())
    worst = same_gradients(ours, theirs, named_ppo_parameters(learner), baseline)
    before, divisions = copies(named_ppo_parameters(learner)), divisions_of(learner, clear)
    learner.update(clear)
    baseline.update(padded, log_prob, divisions)
    same_changes(before, named_ppo_parameters(learner), baseline)
    return baseline, worst


@torch.no_grad()
def acted(learner: PPOLearner, batch: EpisodeBatch, offsets: tuple[float, ...] = (0.0,)) -> EpisodeBatch:
    """The batch with what the learner's policy says of its actions: `log_prob`, less one of the offsets."""
    log_prob = learner.distribution.terms(learner.actor, batch)[0]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(offsets), log_prob.shape, generator=generator).to(batch.device)
    return batch.with_steps(log_prob=log_prob - torch.tensor(offsets, device=batch.device)[drawn])


def divisions_of(learner: PPOLearner, batch: EpisodeBatch) -> Divisions:
    """The rows of each minibatch of each epoch, as the learner's next update will draw them; None: all."""
    config = learner.config
    if config.minibatches == 1:
        return None
    generator = torch.Generator()
    generator.set_state(learner.state_dict()["generator"])
    return [
        [torch.tensor(part) for part in balanced(batch.lengths, config.minibatches, generator)]
        for _ in range(config.epochs)
    ]


@torch.no_grad()
def _corners(learner: PPOLearner, batch: EpisodeBatch) -> Iterator[Tensor]:
    """The inputs of each ReLU, one row a frame, in float64."""
    agent = cast(RecurrentAgent, learner.actor.agent)
    obs, one_hot = agent.inputs(batch.obs.double(), batch.last_actions)
    yield linear(copy.deepcopy(agent.encoder).double(), obs, one_hot=one_hot)
    trunk = cast(RecurrentAgent, cast(CentralCritic, learner.networks.critic).trunk)
    yield linear(copy.deepcopy(trunk.encoder).double(), batch.state.flatten(1).double())
