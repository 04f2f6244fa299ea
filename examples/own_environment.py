"""Your own environment in, a trained policy out, without the command line: about ten seconds on one core."""

from itertools import islice

import numpy as np
import torch

from endmark.algorithms import QMIXConfig
from endmark.envs import Frame, Step, check
from endmark.episodes import EpisodeSpec
from endmark.policies import Policy, RandomPolicy
from endmark.rollout import EpisodeSeeds, InProcess, Lockstep, play, summarise


class Rendezvous:
    """Two agents on a ring of nine places, each seeing its own; they win once both stand on place 0."""

    spec = EpisodeSpec.of(n_agents=2, n_actions=3, episode_limit=12, obs_shape=(9,))

    def reset(self, seed: int | None = None) -> Frame:
        self.places, self.steps = np.random.default_rng(seed).integers(1, 9, size=2), 0
        return self.frame()

    def step(self, actions: np.ndarray) -> Step:
        self.places, self.steps = (self.places + actions - 1) % 9, self.steps + 1  # left, stay, right
        if not self.places.any():
            return Step(self.frame(), np.float32(1), "terminated")
        return Step(self.frame(), np.float32(0), "truncated" if self.steps == 12 else None)

    def frame(self) -> Frame:
        return Frame(np.eye(9, dtype=np.float32)[self.places], np.ones((2, 3), bool), np.ones(2, bool))

    def close(self) -> None:
        pass


print(check(Rendezvous))  # raises an error if the environment breaks the contract
torch.manual_seed(0)
torch.set_num_threads(1)  # small networks are fastest so
generator = torch.Generator().manual_seed(0)
config = QMIXConfig(gamma=0.95, lr=1e-3, epsilon_steps=6_000)
learner = config.learner(Rendezvous.spec, torch.device("cpu"))
store = config.store(learner.spec, generator, None)
policy = learner.policy(learner.actor, 8, generator)
rollout = Lockstep(InProcess([Rendezvous() for _ in range(8)]), EpisodeSeeds(0), learner.spec)
while rollout.env_steps < 12_000:
    policy.schedule(rollout.env_steps)
    store.add(rollout.collect(policy))
    for batch in store.due():
        learner.update(batch)
policies: dict[str, Policy] = {"trained": learner.greedy_policy(8), "random": RandomPolicy(generator)}
for name, tried in policies.items():
    envs = InProcess([Rendezvous() for _ in range(8)])
    summary = summarise(play(envs, tried, islice(EpisodeSeeds(1), 100)))
    print(f"{name}: return {summary.return_mean:.2f} in {summary.length_mean:.1f} steps")
