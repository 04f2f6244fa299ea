"""How long an audit of QMIX takes at the shape of StarCraft's 8m: 32 episodes of 20 to 100 steps.

    python -m benchmarks.audit_8m [--padded] [--threads 2]

Prints the seconds of one loss with its gradient, of a default audit and of a quick audit, and the findings.
`--padded` audits a loss that takes padded tensors and converts them itself.
"""

from __future__ import annotations

import argparse
import itertools
import time
from functools import partial

import torch

from endmark.algorithms import QLearner, QMIXConfig
from endmark.audit import Case, audit
from endmark.episodes import EpisodeBatch, EpisodeSpec

SPEC = EpisodeSpec.of(n_agents=8, n_actions=14, episode_limit=120, obs_shape=(80,), state_shape=(168,))


def episodes(n_episodes: int = 32, *, seed: int = 0) -> EpisodeBatch:
    """Random episodes of 20 to 100 steps. Every other one is truncated; agents 6 and 7 leave early."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(20, 101, (n_episodes,), generator=generator)
    n_frames, n, a = int(lengths.sum()) + n_episodes, SPEC.n_agents, SPEC.n_actions
    actions = torch.randint(a, (n_frames, n), generator=generator)
    avail = torch.rand(n_frames, n, a, generator=generator) < 0.5
    alive = torch.cat(
        [torch.arange(length + 1)[:, None] < torch.tensor([length + 1] * 6 + [length // 2] * 2) for length in
         lengths.tolist()]
    )  # fmt: skip
    fields = {
        "obs": torch.randn(n_frames, n, 80, generator=generator),
        "state": torch.randn(n_frames, 168, generator=generator),
        "avail_actions": avail.scatter(2, actions[..., None], True),
        "alive": alive,
        "actions": actions,
        "reward": torch.randn(n_frames, generator=generator),
    }
    return EpisodeBatch(SPEC, fields, lengths, torch.arange(n_episodes) % 2 == 0)


def _note(times: list[tuple[str, float]], probe: str, _done: int, _total: int) -> None:
    times.append((probe, time.perf_counter()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--padded", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    learner = QLearner(SPEC, QMIXConfig(normalise_reward="none"))
    batch = episodes()
    if options.padded:
        padded = batch.to_padded(SPEC.episode_limit)
        case = Case(lambda b: learner.loss(EpisodeBatch.from_padded(b, SPEC)), padded, learner.networks)
    else:
        case = Case(learner.loss, batch, learner.networks)
    torch.autograd.grad(learner.loss(batch)["loss"], list(learner.actor.parameters()))  # warm-up
    began = time.perf_counter()
    torch.autograd.grad(learner.loss(batch)["loss"], list(learner.actor.parameters()))
    print(f"{batch.n_episodes} episodes, {batch.n_steps} steps, {options.threads} threads")
    print(f"the loss and its gradient once: {time.perf_counter() - began:.2f} s")
    for quick in (False, True):
        times: list[tuple[str, float]] = []
        began = time.perf_counter()
        report = audit(case, quick=quick, on_progress=partial(_note, times))
        total = time.perf_counter() - began
        spans = itertools.pairwise(times)
        by_probe = ", ".join(f"{name} {end - start:.1f}" for (name, start), (_, end) in spans)
        print(f"{'quick' if quick else 'default'}: {total:.1f} s ({by_probe})")
        for finding in report.findings:
            print(f"  {finding.severity} [{finding.probe}] {finding.what}")


if __name__ == "__main__":
    main()
