"""Whether two ways compute the same. Nothing is timed before that is known."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.baseline import BaselineLearner, PaddedBatch
from benchmarks.border import baseline_of, padded_batch
from endmark.algorithms import QLearner
from endmark.episodes import EpisodeBatch
from endmark.nets import QMIXMixer
from endmark.ops import linear

TOLERANCE = 1e-5
"""Of a gradient, relative to its norm; of a loss, to its size: float32 in another order of sums."""
STEP_TOLERANCE = 1e-2
"""Of what an update changes. Adam divides by the gradient's own size, so rounding shows."""
MARGIN = 1e-4
"""Two actions whose values are closer than this may be ranked by rounding alone."""
CORNER = 5e-6
"""What goes into a ReLU or an absolute value, and is closer to 0, may be on either side by rounding alone."""


class Disagreement(ValueError):
    """Two ways that should compute the same do not, so no time is reported."""


def same(
    what: str, given: Tensor, want: Tensor, tolerance: float = TOLERANCE, *, least: float = 1e-30
) -> float:
    """The distance over the norm of `want`; Disagreement if it is beyond the tolerance, or not a number.

    least: what the norm is taken for where it is smaller.
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
    """The baseline with the learner's weights, its batch, and the largest relative distance of a gradient.

    Compared are the loss, every gradient, and what one update does to every parameter, the target networks'
    too. The learner's weights are moved apart first, so that no two networks are alike; corners and ties
    between actions are taken out of the batch; both learners have made one update afterwards.
    """
    _move_apart(learner)
    baseline = baseline_of(learner)
    clear = without_ties(learner, without_corners(learner, batch))
    padded = padded_batch(clear)
    ours, theirs = learner.loss(clear)["loss"], baseline.loss(padded)
    same("the loss", ours.detach(), theirs.detach())
    worst = 0.0
    names = [name for name, parameter in learner.named_parameters() if parameter.requires_grad]
    parameters = [learner.get_parameter(name) for name in names]
    gradients = torch.autograd.grad(ours, parameters)
    wanted = torch.autograd.grad(theirs, [baseline.get_parameter(name) for name in names])
    # The terms of a gradient may nearly cancel, as those of the last bias do; rounding is that of the terms.
    least = 0.1 * float(torch.stack([want.norm() for want in wanted]).norm())
    for name, given, want in zip(names, gradients, wanted, strict=True):
        worst = max(worst, same(f"the gradient of {name}", given, want, least=least))
    _check_step(learner, baseline, clear, padded)
    return baseline, padded_batch(batch), worst


def without_corners(learner: QLearner, batch: EpisodeBatch) -> EpisodeBatch:
    """The batch with other observations and states where a gradient would be for rounding to say.

    That is where what goes into a ReLU or an absolute value is within `CORNER` of 0: one unit of one row on
    the other side of it can move a gradient by more than the tolerance.
    """
    generator = torch.Generator().manual_seed(0)
    names = [name for name in ("obs", "state") if name in batch.fields]
    for _ in range(100):
        near = torch.stack([(x.abs() < CORNER).flatten(1).any(1) for x in _corners(learner, batch)]).any(0)
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
    """What goes into each ReLU and absolute value of the online networks, a row a frame; in float64."""
    obs, one_hot = learner.agent.inputs(batch.obs.double(), batch.last_actions)
    yield linear(copy.deepcopy(learner.agent.encoder).double(), obs, one_hot=one_hot)
    if isinstance(learner.mixer, QMIXMixer):
        state, mixer = batch.state.flatten(1).double(), copy.deepcopy(learner.mixer).double()
        for network in (mixer.weight_1, mixer.weight_2):
            yield network[0](state)
            yield network(state)
        yield mixer.bias_2[0](state)


def without_ties(learner: QLearner, batch: EpisodeBatch) -> EpisodeBatch:
    """The batch without the legal actions whose value is within `MARGIN` of the best one's.

    Which of two such actions is greedy would be for rounding to say, and one choice moves a gradient by more
    than the tolerance.
    """
    agent = learner.agent if learner.config.double_q else learner.target_agent
    with torch.no_grad():
        q = torch.where(batch.avail_actions, agent.unroll(batch), -torch.inf)
    best = q.max(-1, keepdim=True)
    is_best = torch.zeros_like(batch.avail_actions).scatter(-1, best.indices, True)
    legal = batch.avail_actions & (is_best | (q < best.values - MARGIN))
    return replace(batch, fields={**batch.fields, "avail_actions": legal}, checked=True)


def same_fields(what: str, given: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
    """Bit for bit; Disagreement otherwise."""
    for name, tensor in want.items():
        if not torch.equal(given[name], tensor):
            raise Disagreement(f"{what}: field '{name}' differs; not timed")


def _check_step(
    learner: QLearner, baseline: BaselineLearner, batch: EpisodeBatch, padded: PaddedBatch
) -> None:
    """One update each; what changed has to agree."""
    before = _copies(learner.named_parameters())
    learner.update(batch)
    baseline.update(padded)
    for name, parameter in learner.named_parameters():
        want = baseline.get_parameter(name).detach() - before[name]
        same(f"an update of {name}", parameter.detach() - before[name], want, STEP_TOLERANCE)


@torch.no_grad()
def _move_apart(learner: QLearner) -> None:
    """Noise on every parameter, so that the target networks are not copies of the online ones."""
    generator = torch.Generator().manual_seed(0)
    for parameter in learner.parameters():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
        parameter.add_(noise, alpha=0.02)


def _copies(parameters: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters}
