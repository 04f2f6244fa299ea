"""An episode, frame by frame, with its pictures: for people who want to see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from endmark.envs import End, Environment, Frame, Picture, picture_of
from endmark.envs.contract import check_frame, check_legal
from endmark.envs.errors import located
from endmark.episodes import Seen, no_action
from endmark.nets import Actor
from endmark.policies import ActorMemory, Policy
from endmark.rollout.checked import Checked


class Scene(NamedTuple):
    """One frame of an episode, and what was done there. N agents, A actions.

    t: its number, from 0. picture: of the frame. alive [N], avail_actions [N, A]: the agents that take part,
    and their legal actions, None where actions are vectors.
    actions: [N] or [N, D], what was done there; None at the final frame.
    outputs: [N, A], what the actor's head gives there; None at the final frame, or without an actor.
    total: the team's reward so far; with partners, that of the learner's agents. end: how the episode ended;
    None before its final frame.
    """

    t: int
    picture: Picture
    alive: npt.NDArray[np.bool_]
    avail_actions: npt.NDArray[np.bool_] | None
    actions: npt.NDArray[np.int64] | npt.NDArray[np.float32] | None
    outputs: npt.NDArray[np.float32] | None
    total: float
    end: End | None


def scenes(env: Environment, policy: Policy, seed: int, actor: Actor | None = None) -> Iterator[Scene]:
    """Play the episode of this seed, one frame after the other, the final one included.

    policy: for one environment. actor: what the policy acts by, to be asked for its outputs; it does so by a
    memory of its own, and the policy is left alone.
    `EnvError` if the environment fails, breaks its contract, or draws no picture.
    """
    spec, env_here = env.spec, Checked(env, 0)
    memory = None if actor is None else ActorMemory(actor, 1)
    frame, end, total, t = env_here.reset(seed=seed), None, 0.0, 0
    field = spec.fields["actions"]
    actions = torch.zeros((1, *field.shape), dtype=field.dtype)
    actions[:] = no_action(actions)
    while True:
        where = f"{env_here.episode}, frame {t}"
        check_frame(frame, spec, where)
        picture = _picture(env, where)
        alive = frame.alive.copy()
        avail_actions = None if frame.avail_actions is None else frame.avail_actions.copy()
        if end is not None:
            yield Scene(t, picture, alive, avail_actions, None, None, total, end)
            return
        check_legal(frame, where)
        seen = _seen(frame, actions, seed, first=t == 0)
        given = policy.act(seen)
        actions = given["actions"].cpu()
        outputs = None
        if memory is not None:
            with torch.inference_mode():
                features = memory.features(seen.to(memory.device))
                outputs = memory.actor.head.outputs(features)[0].cpu().float().numpy()
        chosen = actions[0].numpy()
        yield Scene(t, picture, alive, avail_actions, chosen, outputs, total, None)
        frame, reward, end, _ = env_here.step(chosen)
        if np.ndim(reward) and "learns" in given:  # as `episode_returns` has it
            reward = np.where(given["learns"][0].cpu().numpy(), reward, 0)
        total += float(np.sum(reward))
        t += 1


def _picture(env: Environment, where: str) -> Picture:
    try:
        return picture_of(env)
    except (Exception, SystemExit) as error:
        raise located(error, where) from error


def _seen(frame: Frame, last_actions: Tensor, seed: int, *, first: bool) -> Seen:
    """The frame as the only environment's, copied."""
    obs, avail_actions, alive, state = (
        None if array is None else torch.from_numpy(np.array(array)[None]) for array in frame
    )
    assert obs is not None
    assert alive is not None
    return Seen(obs, avail_actions, alive, state, torch.tensor([first]), last_actions, torch.tensor([seed]))
