"""Collecting on SMAX 8m beside the bare environment: `make smax-speed` prints the table of docs/results.md.

Bare is JaxMARL's own use: one compiled step that resets by itself, under random legal actions drawn in it.
Collecting is a rollout with QMIX's recurrent agents, all actions random so that both play the same game:
frames seen, actions chosen, everything stored, whole episodes cut out. Both are timed in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.agree import Disagreement
from endmark.algorithms import QMIXConfig
from endmark.envs import BatchedEnvironment, make, make_batched
from endmark.envs.jaxmarl_adapter import game
from endmark.rollout import Batched, EpisodeSeeds

LIMIT = 119


def check(envs: BatchedEnvironment, rollout: Batched, policy: Any) -> None:
    """An episode of the batch is the one that its seed and actions give alone, but for rounding."""
    episodes, seed = rollout.collect(policy), rollout.ended_seeds[0]
    episode = episodes.select([0])
    alone = make("smax:8m", max_steps=LIMIT)
    frames = [alone.reset(seed=seed)]
    frames += [alone.step(actions).frame for actions in episode.steps("actions").numpy()]
    for name in ("obs", "avail_actions", "alive", "state"):
        given, want = episode[name].numpy(), np.stack([getattr(frame, name) for frame in frames])
        if not np.allclose(given, want, atol=1e-4):
            raise Disagreement(f"{envs.n_envs} environments: '{name}' of seed {seed} differs; not timed")


def bare(n_envs: int) -> Any:
    """A function that takes so many steps in so many environments of JaxMARL, and nothing else."""
    env = game("smax:8m", {"max_steps": LIMIT})

    def one(key: Any, state: Any) -> tuple[Any, Any]:
        legal = env.get_avail_actions(state)
        keys = jax.random.split(key, len(env.agents) + 1)
        actions = {
            agent: jax.random.categorical(keys[n], jnp.where(legal[agent] > 0, 0.0, -jnp.inf))
            for n, agent in enumerate(env.agents)
        }
        _, state, reward, _, _ = env.step(keys[-1], state, actions)
        return state, reward[env.agents[0]]

    step = jax.jit(jax.vmap(one))
    keys = jax.random.split(jax.random.key(0), n_envs)
    state = jax.vmap(env.reset)(keys)[1]
    state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)
    state = step(keys, state)[0]  # compiles

    def run(steps: int) -> None:
        nonlocal state
        for t in range(steps):
            state, reward = step(jax.random.split(jax.random.key(t), n_envs), state)
            reward.block_until_ready()

    return run


def row(n_envs: int, rounds: int) -> str:
    """A line of the table."""
    envs = make_batched("smax:8m", n_envs, max_steps=LIMIT)
    assert envs is not None
    learner = QMIXConfig(epsilon_end=1.0).learner(envs.spec, torch.device("cpu"))
    policy = learner.policy(learner.actor, n_envs, torch.Generator().manual_seed(0))
    policy.schedule(0)
    begin = time.perf_counter()
    rollout = Batched(envs, EpisodeSeeds(0), learner.spec)  # whose first reset compiles
    seconds = time.perf_counter() - begin
    check(envs, rollout, policy)
    run, steps = bare(n_envs), max(100, 4000 // n_envs)
    rates: dict[str, list[float]] = {"bare": [], "collect": []}
    for _ in range(rounds):
        begin = time.perf_counter()
        run(steps)
        rates["bare"].append(steps * n_envs / (time.perf_counter() - begin))
        before, begin = rollout.env_steps, time.perf_counter()
        while rollout.env_steps - before < steps * n_envs:
            rollout.collect(policy)
        rates["collect"].append((rollout.env_steps - before) / (time.perf_counter() - begin))
    shares = [given / of for given, of in zip(rates["collect"], rates["bare"], strict=True)]
    middle = {name: statistics.median(values) for name, values in rates.items()}
    share = f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
    return f"| {n_envs} | {middle['bare']:,.0f} | {middle['collect']:,.0f} | {share} | {seconds:.1f} s |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-envs", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| environments | bare, steps/s | collecting, steps/s | share | compiled in |",
        "|---:" * 5 + "|",
        sep="\n",
    )
    for n_envs in options.n_envs:
        print(row(n_envs, options.rounds), flush=True)


if __name__ == "__main__":
    main()
