"""What one learner sees of a game with partners: its own seat, and what the others did.

The same `View` is made of whole episodes, where R = F frames, and of one frame of K environments, with R = K.
So networks that read it cannot tell learning from acting.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from endmark.algorithms.distributions import check_numbered
from endmark.episodes import NO_ACTION, EpisodeBatch, EpisodeSpec, Seen

GoalOf = Literal["obs", "state"]


class View(NamedTuple):
    """R rows, each a frame as the learner sees it. N agents of the team, A actions.

    obs: its observation, and the number of its seat as one-hot. own_last: its last action.
    goal_obs: what goals are made of, its observation or the state.
    others: which other agents take part. others_last, others_now: what these did before and do now;
    `NO_ACTION` at first frames and, of what they do now, at final frames, and in the places of the rest.
    others_obs: what they observe; zeros elsewhere. partner: the pool's members, -1 in its place.
    """

    obs: Float[Tensor, "R I"]
    goal_obs: Float[Tensor, "R S"]
    alive: Bool[Tensor, " R"]
    avail_actions: Bool[Tensor, "R A"]
    own_last: Int[Tensor, " R"]
    others_last: Int[Tensor, "R N"]
    others_now: Int[Tensor, "R N"]
    others_obs: Float[Tensor, "R N O"]
    others: Bool[Tensor, "R N"]
    partner: Int[Tensor, "R N"]


def check_spec(spec: EpisodeSpec, goal_of: GoalOf) -> None:
    """ValueError, unless a learner that models its partners can play this."""
    if "learns" not in spec.fields:
        raise ValueError("partners: given none, want some, as the learner is to model them")
    check_numbered(spec)
    for name in {"obs", goal_of} & spec.fields.keys():
        per_agent = 1 if name == "obs" else 0
        if len(shape := spec.fields[name].shape[per_agent:]) != 1:
            raise ValueError(f"field '{name}': given shape {shape}, want a vector: images are not modelled")
        if not (dtype := spec.fields[name].dtype).is_floating_point:
            raise ValueError(f"field '{name}': given {dtype}, want float32")


def sizes(spec: EpisodeSpec, goal_of: GoalOf) -> tuple[int, int]:
    """I and S of a `View`."""
    n_obs = spec.fields["obs"].shape[1]
    if goal_of == "obs":
        n_goal = n_obs
    else:
        n_goal = spec.fields["state"].shape[0] if "state" in spec.fields else spec.n_agents * n_obs
    return n_obs + spec.n_agents, n_goal


def of_batch(batch: EpisodeBatch, goal_of: GoalOf) -> View:
    """The learner's view of every frame. ValueError unless it has one agent in each episode."""
    first = batch.first_frames.repeat_interleave(batch.lengths.to(batch.device) + 1)
    learns, partner = batch["learns"][first], batch["partner"][first]  # seats last for an episode
    if (wrong := learns.sum(1) != 1).any():
        raise ValueError(f"learners: given {int(learns.sum(1)[wrong][0])}, want 1: it models all others")
    return _view(
        learns,
        partner,
        batch.obs,
        None if goal_of == "obs" else batch.state,
        batch.alive,
        batch.avail_actions,
        batch.last_actions,
        batch.actions_taken,
    )


def of_seen(seen: Seen, goal_of: GoalOf) -> View:
    """The learner's view of this frame; nonsense in environments where it acts for no agent.

    ValueError where it acts for several agents.
    """
    assert seen.seats is not None, "seats: want a policy that sits at a table (`Seated`)"
    if (seen.seats.learns.sum(1) > 1).any():
        raise ValueError("learners: given several, want 1: a policy that models the others has one agent")
    state = None
    if goal_of == "state":
        state = seen.state
        if state is None:  # as `EpisodeBatch.state` has it
            state = torch.where(seen.alive[..., None], seen.obs, 0.0).flatten(1)
    learns, partner, now = seen.seats
    return _view(learns, partner, seen.obs, state, seen.alive, seen.legal, seen.last_actions, now)


def seat_at(batch: EpisodeBatch) -> Int[Tensor, "S 1"]:
    """Which agent is the learner's, at each step."""
    return batch.steps("learns").int().argmax(1, keepdim=True)


def taken_at(batch: EpisodeBatch) -> Int[Tensor, " S"]:
    """What the learner did at each step."""
    return batch.steps("actions").gather(1, seat_at(batch))[:, 0]


def learning_at(batch: EpisodeBatch) -> Bool[Tensor, " S"]:
    """Whether the learner takes part in each step."""
    return batch.learning[batch.step_frames].any(1)


def _view(
    learns: Bool[Tensor, "R N"],
    partner: Int[Tensor, "R N"],
    obs: Float[Tensor, "R N O"],
    state: Float[Tensor, "R S"] | None,
    alive: Bool[Tensor, "R N"],
    avail_actions: Bool[Tensor, "R N A"],
    last: Int[Tensor, "R N"],
    now: Int[Tensor, "R N"],
) -> View:
    others = alive & ~learns
    rows, seat = torch.arange(len(learns), device=learns.device), learns.int().argmax(1)
    own = obs[rows, seat]
    place = one_hot(seat, learns.shape[1]).to(own.dtype)
    return View(
        obs=torch.cat([own, place], 1),
        goal_obs=own if state is None else state,
        alive=alive[rows, seat],
        avail_actions=avail_actions[rows, seat],
        own_last=last[rows, seat],
        others_last=torch.where(others, last, NO_ACTION),
        others_now=torch.where(others, now, NO_ACTION),
        others_obs=torch.where(others[..., None], obs, 0.0),
        others=others,
        partner=torch.where(learns, NO_ACTION, partner),
    )


def as_one_hot(actions: Int[Tensor, "R *N"], n_actions: int) -> Float[Tensor, "R _"]:
    """One-hot actions side by side; zeros for `NO_ACTION`."""
    shifted = one_hot(actions + 1, n_actions + 1)[..., 1:]
    return shifted.flatten(1).float()
