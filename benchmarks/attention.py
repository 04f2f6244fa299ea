"""Forward and backward of the attention agent, ragged beside padded with an exact mask: time and memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from benchmarks.agree import same
from benchmarks.measure import Spread, measure
from benchmarks.padded_attention import PaddedAttention, exact_mask, inputs_of
from benchmarks.results import Detail, Goal, Row
from benchmarks.setting import Setting, draw
from benchmarks.shapes import EIGHT_MARINES, TINY, Lengths, Shape, full, straggler, uniform
from endmark.episodes import EpisodeBatch
from endmark.nets import Actor, AttentionAgent
from endmark.ops.native import keep_memory

GOALS = {"full": Goal(1.5), "uniform": Goal(3.0), "straggler": Goal(6.0)}
MIXES: dict[str, Lengths] = {"full": full, "uniform": uniform, "straggler": straggler}
SHAPES = {shape.name: shape for shape in (EIGHT_MARINES, TINY)}

Gradients = tuple[Tensor, ...]
Work = dict[str, Callable[[], object]]


def attention(setting: Setting) -> Iterator[Row]:
    """A row of time and one of peak memory for each mix of lengths; on the CPU."""
    for mix, goal in GOALS.items():
        work, details = pair(setting.shape, mix)
        times = measure(work, setting.effort)
        yield Row(
            "attention",
            f"forward and backward, {mix}",
            "s",
            times["endmark"],
            times["baseline"],
            times.ratio("baseline", "endmark"),
            goal,
            details=details,
        )
    for mix in ("straggler",) if setting.quick else GOALS:
        ours, theirs = (peak_of(setting.shape, mix, who) for who in ("endmark", "baseline"))
        ratio = Spread.of([theirs.median / ours.median])
        yield Row("attention", f"peak memory of it, {mix}", "bytes", ours, theirs, ratio)


def pair(shape: Shape, mix: str) -> tuple[Work, dict[str, Detail]]:
    """Both ways to the gradients of a mean over real frames, after checking that they agree.

    The check is in float64, in which no rounding decides a ReLU. Disagreement if they do not agree.
    """
    batch = draw(shape, MIXES[mix], shape.batch_size)
    agent, baseline = _networks(shape)
    few = batch.select(range(min(8, batch.n_episodes)))
    distance = _check(agent, baseline, few)
    work: Work = {**_work(agent, baseline, batch)}
    return work, {
        "n_episodes": batch.n_episodes,
        "n_frames": batch.n_frames,
        "padded_frames": batch.n_episodes * (int(batch.lengths.max()) + 1),
        "gradient_distance": distance,
    }


def _networks(shape: Shape) -> tuple[AttentionAgent, PaddedAttention]:
    torch.manual_seed(0)
    actor = Actor.of(shape.spec(), n_outputs=1, hidden_size=shape.hidden_size, kind="attention")
    agent = cast(AttentionAgent, actor.agent)
    baseline = PaddedAttention(
        agent.inputs.size, shape.hidden_size, agent.options.heads, agent.options.layers
    )
    baseline.load_state_dict(agent.state_dict())
    return agent, baseline


def _work(
    agent: AttentionAgent, baseline: PaddedAttention, batch: EpisodeBatch
) -> dict[str, Callable[[], Gradients]]:
    dtype = next(agent.parameters()).dtype
    n_agents, n_actions = batch.spec.n_agents, batch.spec.n_actions
    obs, lengths = batch.obs.to(dtype), batch.lengths
    filled = torch.arange(int(lengths.max()) + 1) <= lengths[:, None]
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(*obs.shape[:2], agent.n_features, generator=generator, dtype=dtype)
    direction /= batch.n_frames

    def padded(ragged: Tensor) -> Tensor:
        out = ragged.new_zeros(*filled.shape, *ragged.shape[1:])
        out[filled] = ragged
        return out

    padded_obs, padded_last = padded(obs), padded(batch.last_actions + 1) - 1
    padded_direction = padded(direction).transpose(1, 2).contiguous()  # 0 at padding
    ours, theirs = list(agent.parameters()), list(baseline.parameters())

    def endmark() -> Gradients:
        features = agent.unroll(obs, batch.last_actions, batch.time_major)
        return torch.autograd.grad((features * direction).sum(), ours)

    def reference() -> Gradients:
        inputs = inputs_of(padded_obs, padded_last, n_actions)
        features = baseline(inputs, exact_mask(filled, n_agents, dtype))
        return torch.autograd.grad((features * padded_direction).sum(), theirs)

    return {"endmark": endmark, "baseline": reference}


def _check(agent: AttentionAgent, baseline: PaddedAttention, batch: EpisodeBatch) -> float:
    """The largest relative error of a gradient."""
    work = _work(agent.double(), baseline.double(), batch)
    names = [name for name, _ in agent.named_parameters()]
    results = zip(names, work["endmark"](), work["baseline"](), strict=True)
    worst = max(same(f"the gradient of {name}", a, b, 1e-6, least=1e-9) for name, a, b in results)
    agent.float(), baseline.float()
    return worst


def peak_of(shape: Shape, mix: str, who: str) -> Spread:
    """Bytes that one forward and backward pass needs at its peak, in a process of its own (Linux)."""
    command = [sys.executable, "-m", "benchmarks.attention", shape.name, mix, who]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Spread.of([max(1.0, float(done.stdout))])


def _peak(shape: Shape, mix: str, who: str) -> int:
    """The peak of the resident memory over what it was before."""
    torch.set_num_threads(1)
    keep_memory()
    batch = draw(shape, MIXES[mix], shape.batch_size)
    small = draw(replace(shape, batch_size=2), straggler, 2, seed=5).select([0])
    networks = _networks(shape)
    _work(*networks, small)[who]()  # what torch keeps for good
    run = _work(*networks, batch)[who]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _memory("VmRSS")
    run()
    return _memory("VmHWM") - before


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    print(_peak(SHAPES[sys.argv[1]], sys.argv[2], sys.argv[3]))
