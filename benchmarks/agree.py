"""Checks that endmark and the baseline compute the same results. They come before any timing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from benchmarks.baseline import BaselineLearner, PaddedBatch
from benchmarks.border import baseline_of, named_parameters, padded_batch
from endmark.algorithms import QLearner
from endmark.episodes import EpisodeBatch
from endmark.nets import QMIXMixer, RecurrentAgent
from endmark.ops import linear

TOLERANCE = 1e-5
"""Relative error allowed in a loss or a gradient: float32 sums in a different order."""
STEP_TOLERANCE = 1e-2
"""Relative error allowed in an update's change of a parameter. Adam divides by the gradient's size, which
magnifies rounding errors of small gradients."""
MARGIN = 1e-4
"""If two action values are closer than this, rounding may decide which one is greedy."""
CORNER = 5e-6
"""If the input of a ReLU or an absolute value is closer to 0 than this, rounding may decide its sign."""


class Disagreement(ValueError):
    """endmark and the baseline compute different results, so no time is reported."""


def same(
    what: str, given: Tensor, want: Tensor, tolerance: float = TOLERANCE, *, least: float = 1e-30
) -> float:
    """The relative error |given - want| / |want|; Disagreement if it exceeds the tolerance or is NaN.

    least: a lower bound for the denominator.
    """
    if given.shape != want.shape:
        raise Disagreement(f"{what}: shapes {tuple(given.shape)} and {tuple(want.shape)} differ")
    given, want = given.double(), want.double()
    distance = float((given - want).norm() / want.norm().clamp(min=least))
    if not distance <= tolerance:
        raise Disagreement(
            f"{what} differs by {distance:.1e} of its norm, want at most {tolerance:.0e}; not timed"
        )
    return distance


def check_update(learner: QLearner, batch: EpisodeBatch) -> tuple[BaselineLearner, PaddedBatch, float]:
    """Check that the learner and a baseline with its weights compute the same update of this batch.

    Returns the baseline, the batch padded for it, and the largest relative error of a gradient. The check
    covers the loss, every gradient, and the change of every parameter in one update, target networks
    included. Disagreement if one of them differs.

    The learner's weights are perturbed first, so that target and online networks differ. Inputs at which
    rounding decides (`without_corners`, `without_ties`) are removed from the batch that is checked. After
    the call both learners have made one update.
    """
    move_apart(learner.networks)
    baseline = baseline_of(learner)
    clear = without_ties(learner, without_corners(learner, batch))
    padded = padded_batch(clear)
    ours, theirs = learner.loss(clear)["loss"], baseline.loss(padded)
    same("the loss", ours.detach(), theirs.detach())
    worst = same_gradients(ours, theirs, named_parameters(learner), baseline)
    _check_step(learner, baseline, clear, padded)
    return baseline, padded_batch(batch), worst


def same_gradients(
    ours: Tensor, theirs: Tensor, parameters: Iterable[tuple[str, Tensor]], baseline: nn.Module
) -> float:
    """The largest relative error of a gradient of these losses; Disagreement if one is too large.

    parameters: the learner's, by the names that the baseline's have.
    """
    named = {name: parameter for name, parameter in parameters if parameter.requires_grad}
    gradients = torch.autograd.grad(ours, list(named.values()))
    wanted = torch.autograd.grad(theirs, [baseline.get_parameter(name) for name in named])
    # The terms of a gradient may nearly cancel, as those of the last bias do. Rounding errors scale with the
    # terms, not with their sum; hence the lower bound.
    least = 0.1 * float(torch.stack([want.norm() for want in wanted]).norm())
    return max(
        same(f"the gradient of {name}", given, want, least=least)
        for name, given, want in zip(named, gradients, wanted, strict=True)
    )


def without_corners(learner: QLearner, batch: EpisodeBatch) -> EpisodeBatch:
    """The batch `away_from` the corners of the learner's online networks."""
    return away_from(lambda changed: _corners(learner, changed), batch)


def away_from(corners: Callable[[EpisodeBatch], Iterable[Tensor]], batch: EpisodeBatch) -> EpisodeBatch:
    """The batch with noise on the observations and states of frames at a corner.

    A corner is an input of a ReLU or an absolute value within `CORNER` of 0. Rounding decides its sign, and
    one wrong sign can change a gradient by more than the tolerance.
    """
    generator = torch.Generator().manual_seed(0)
    names = [name for name in ("obs", "state") if name in batch.fields]
    for _ in range(100):
        near = torch.stack([(x.abs() < CORNER).flatten(1).any(1) for x in corners(batch)]).any(0)
        if not near.any():
            return batch
        changed = dict(batch.fields)
        for name in names:
            noise = 0.1 * torch.randn(batch[name].shape, generator=generator).to(batch.device)
            changed[name] = torch.where(
                near.view(-1, *(1,) * (noise.ndim - 1)), batch[name] + noise, batch[name]
            )
        batch = replace(batch, fields=changed, checked=True)
    raise Disagreement("no batch without corners was found; not timed")


@torch.no_grad()
def _corners(learner: QLearner, batch: EpisodeBatch) -> Iterator[Tensor]:
    """The inputs of each ReLU and absolute value of the online networks, one row a frame, in float64."""
    agent = cast(RecurrentAgent, learner.actor.agent)
    obs, one_hot = agent.inputs(batch.obs.double(), batch.last_actions)
    yield linear(copy.deepcopy(agent.encoder).double(), obs, one_hot=one_hot)
    state, mixer = batch.state.flatten(1).double(), copy.deepcopy(learner.online["mixer"]).double()
    if isinstance(mixer, QMIXMixer):
        for network in (mixer.weight_1, mixer.weight_2):
            yield network[0](state)
            yield network(state)
        yield mixer.bias_2[0](state)


def without_ties(learner: QLearner, batch: EpisodeBatch) -> EpisodeBatch:
    """The batch with fewer legal actions: none is within `MARGIN` of the best action's value.

    Rounding would decide which of two such actions is greedy, and one different choice can change a gradient
    by more than the tolerance.
    """
    actor = learner.online["actor"] if learner.config.double_q else learner.target["actor"]
    with torch.no_grad():
        q = torch.where(batch.avail_actions, actor(batch), -torch.inf)
    best = q.max(-1, keepdim=True)
    is_best = torch.zeros_like(batch.avail_actions).scatter(-1, best.indices, True)
    legal = batch.avail_actions & (is_best | (q < best.values - MARGIN))
    return replace(batch, fields={**batch.fields, "avail_actions": legal}, checked=True)


def same_fields(what: str, given: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
    """Check that all fields are equal bit for bit; Disagreement otherwise."""
    for name, tensor in want.items():
        if not torch.equal(given[name], tensor):
            raise Disagreement(f"{what}: field '{name}' differs; not timed")


def _check_step(
    learner: QLearner, baseline: BaselineLearner, batch: EpisodeBatch, padded: PaddedBatch
) -> None:
    """Make one update with each learner and compare the changes of all parameters."""
    before = copies(named_parameters(learner))
    learner.update(batch)
    baseline.update(padded)
    same_changes(before, named_parameters(learner), baseline)


def same_changes(
    before: Mapping[str, Tensor], after: Iterable[tuple[str, Tensor]], baseline: nn.Module
) -> None:
    """Compare the changes of all parameters in an update; Disagreement if one differs."""
    for name, parameter in after:
        want = baseline.get_parameter(name).detach() - before[name]
        same(f"an update of {name}", parameter.detach() - before[name], want, STEP_TOLERANCE)


@torch.no_grad()
def move_apart(networks: nn.Module) -> None:
    """Add noise to every parameter, so that target networks are not copies of the online ones."""
    generator = torch.Generator().manual_seed(0)
    for parameter in networks.parameters():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
        parameter.add_(noise, alpha=0.02)


def copies(parameters: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The parameters' values now."""
    return {name: parameter.detach().clone() for name, parameter in parameters}
