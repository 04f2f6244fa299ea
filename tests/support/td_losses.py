"""Small TD(0) losses for the tests of the probes: a right one, and one bug each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from endmark.audit import Case, Report, hard_batch
from endmark.episodes import EpisodeSpec, step_mask

Batch = Mapping[str, Tensor]


SPEC = EpisodeSpec.of(n_agents=2, n_actions=3, episode_limit=7, obs_shape=(4,))


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def hard(seed: int = 0, *, without: Sequence[str] = ()) -> dict[str, Tensor]:
    return {name: x for name, x in hard_batch(SPEC, seed).items() if name not in without}


def td_loss(
    batch: Batch,
    net: nn.Module,
    *,
    terminated: Tensor | None = None,
    values: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Squared errors (B, T) of a team's TD(0) values, right unless told otherwise, and the real steps."""
    steps = step_mask(batch["filled"], batch["terminated"])[..., 0]
    alive = batch["alive"] if "alive" in batch else torch.ones_like(batch["obs"][..., 0]).bool()
    obs = torch.where(alive[..., None], batch["obs"], 0.0)
    seen = torch.nan_to_num(obs, 0.0, 0.0, 0.0)
    value = torch.where(alive, net(seen)[..., 0], 0.0).sum(2) if values is None else values
    ends = (batch["terminated"] if terminated is None else terminated)[:, :-1, 0] != 0
    target = batch["reward"][:, :-1, 0] + torch.where(ends, 0.0, 0.9 * value[:, 1:].detach())
    return torch.where(steps, value[:, :-1] - target, 0.0).square(), steps


def right(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        return errors.sum() / steps.sum().clamp(min=1)

    return loss


def case_of(loss: Callable[[Batch], Any], net: nn.Module, **options: Any) -> Case:
    return Case(loss, options.pop("batch", None) or hard(), net, **options)


def probes_of(report: Report) -> set[tuple[str, str]]:
    return {(finding.probe, finding.severity) for finding in report.findings}


def nan_through_a_product(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        return (errors.sum() + (batch["reward"][:, :-1, 0] * ~steps * 0.0).sum()) / steps.sum().clamp(min=1)

    return loss


def divided_by_the_padded_size(net: nn.Module) -> Callable[[Batch], Tensor]:
    return lambda batch: td_loss(batch, net)[0].mean()


def last_steps_dropped(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        last = batch["terminated"][:, :-1, 0] != 0
        return torch.where(last, 0.0, errors).sum() / steps.sum().clamp(min=1)

    return loss


def mean_of_means(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        return (errors.sum(1) / steps.sum(1).clamp(min=1)).mean()

    return loss


def nothing_terminates(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net, terminated=torch.zeros_like(batch["terminated"]))
        return errors.sum() / steps.sum().clamp(min=1)

    return loss


def everything_terminates(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        steps = step_mask(batch["filled"], batch["terminated"])[..., 0]
        last = steps & ~nn.functional.pad(steps[:, 1:], (0, 1))
        errors, _ = td_loss(batch, net, terminated=nn.functional.pad(last, (0, 1))[..., None])
        return errors.sum() / steps.sum().clamp(min=1)

    return loss


def weighted_by_row(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        rows = 1 + torch.arange(len(errors))[:, None]
        return (errors * rows).sum() / (steps * rows).sum().clamp(min=1)

    return loss


def over_its_root(net: nn.Module) -> Callable[[Batch], Tensor]:
    """Episodes share a statistic over real steps."""

    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        mean = errors.sum() / steps.sum().clamp(min=1)
        return mean / (mean.detach() + 1).sqrt()

    return loss


def written_in_place(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        batch["filled"].float()  # a copy: no harm
        batch["obs"][0, 0] += 1
        return errors.sum() / steps.sum().clamp(min=1)

    return loss


def mean_over_nothing(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        errors, steps = td_loss(batch, net)
        return errors.sum() / steps.sum()

    return loss


def the_dead_are_seen(net: nn.Module) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        steps = step_mask(batch["filled"], batch["terminated"])[..., 0]
        padded = torch.where(nn.functional.pad(steps, (1, 0), value=True)[..., None, None], batch["obs"], 0.0)
        errors, steps = td_loss(batch, net, values=net(padded)[..., 0].sum(2))
        return errors.sum() / steps.sum().clamp(min=1)

    return loss


def summed(net: nn.Module) -> Callable[[Batch], Tensor]:
    return lambda batch: td_loss(batch, net)[0].sum()
