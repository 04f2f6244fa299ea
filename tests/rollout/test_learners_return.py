"""With partners, returns and what is shown of an episode are those of the learner's agents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from endmark.policies import EpsilonGreedy, Member, Partners, Scripted, Seated, Seating, with_seats
from endmark.rollout import InProcess, episode_returns, play, scenes, summarise
from support.actors import make_actor
from support.helpers import make_spec
from support.seated import seated_batch
from support.tables import Tables, wishes


@pytest.mark.parametrize("reward_per_agent", [True, False])
def test_the_return_is_that_of_the_learners_agents(reward_per_agent: bool) -> None:
    """Of the team where the reward is shared. A partner's own may be NaN."""
    batch = seated_batch(3, learners=2, spec=make_spec(reward_per_agent=reward_per_agent))
    reward = batch["reward"].clone()
    if reward_per_agent:
        reward[~batch["learns"]] = torch.nan
    batch = replace(batch, fields={**batch.fields, "reward": reward}, checked=True)
    want = []
    for episode in batch.split():
        agents = [n for n in range(3) if episode["learns"][0, n]]
        steps = episode["reward"][: int(episode.lengths[0])]
        paid = [float(step[n]) for step in steps for n in agents] if reward_per_agent else steps.tolist()
        want.append(sum(paid))
    assert episode_returns(batch) == pytest.approx(want, rel=1e-5)
    assert summarise(batch).return_mean == pytest.approx(sum(want) / len(want), rel=1e-5)


class Drawn(Tables):
    """With pictures."""

    def render(self) -> npt.NDArray[np.uint8]:
        return np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize("reward_per_agent", [True, False])
def test_the_total_of_a_scene_is_the_return(reward_per_agent: bool) -> None:
    env, seeds = Drawn(reward_per_agent=reward_per_agent), [4, 7, 12]
    actor = make_actor(env.spec)
    pool = [Member("script", lambda _, generator: Scripted(wishes, generator))]
    partners = Partners(pool, Seating(4, 1, learners=2))

    def seated() -> Seated:
        return partners.seat(EpsilonGreedy(actor, 1, torch.Generator()), 1, torch.Generator())

    batch = play(InProcess([env]), seated(), seeds, with_seats(env.spec))
    policy = seated()
    totals = [[*scenes(env, policy, seed)][-1].total for seed in seeds]
    assert totals == pytest.approx(episode_returns(batch), rel=1e-5)
    everybody = batch.steps("reward").sum() if reward_per_agent else None
    assert everybody is None or float(everybody) != pytest.approx(sum(totals), rel=1e-3)
