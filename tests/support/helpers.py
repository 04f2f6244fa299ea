"""Random ragged batches with every kind of end, and garbage wherever the layout leaves a value undefined."""

from __future__ import annotations

import itertools
import random
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from endmark.episodes import Bounds, EpisodeBatch, EpisodeSpec, Field

EXTRA = {
    "goal": Field((2,), torch.int16),
    "log_prob": Field((3,), torch.float32, per="step"),
    "win": Field((), torch.float32, per="end"),
}


def make_spec(
    *,
    n_agents: int = 3,
    n_actions: int = 4,
    limit: int = 7,
    state: bool = True,
    reward_per_agent: bool = False,
    extra: bool = False,
    obs_shape: tuple[int, ...] = (5,),
    obs_dtype: torch.dtype = torch.float32,
    vectors: bool = False,
    kinds: Sequence[int] = (),
) -> EpisodeSpec:
    """vectors: of actions, with other bounds for each agent, the last of which has a number less."""
    return EpisodeSpec.of(
        n_agents=n_agents,
        n_actions=0 if vectors else n_actions,
        bounds=make_bounds(n_agents) if vectors else None,
        episode_limit=limit,
        obs_shape=obs_shape,
        obs_dtype=obs_dtype,
        state_shape=(4,) if state else None,
        reward_per_agent=reward_per_agent,
        extra=EXTRA if extra else None,
        kinds=kinds,
    )


def make_bounds(n_agents: int, size: int = 3) -> Bounds:
    low = [[-1.0 - n, -0.5, 0.0][:size] for n in range(n_agents)]
    high = [[2.0, 0.5 + n, 4.0][:size] for n in range(n_agents)]
    if n_agents > 1:
        low[-1][-1] = high[-1][-1] = 0.0
    return Bounds(tuple(map(tuple, low)), tuple(map(tuple, high)))


def make_batch(
    spec: EpisodeSpec, lengths: Sequence[int], terminated: Sequence[bool], *, seed: int = 0
) -> EpisodeBatch:
    """Episodes of these lengths and ends with random content; agents leave at random frames.

    Step fields hold garbage on final frames, and outcomes on all frames but those of last steps: NaN and
    infinities, actions that do not exist.
    """
    generator = torch.Generator().manual_seed(seed)
    n_frames = sum(lengths) + len(lengths)
    n_agents = spec.n_agents
    fields = {
        name: _random(field.dtype, (n_frames, *field.shape), generator) for name, field in spec.fields.items()
    }
    if spec.bounds is not None:
        fields["actions"] = vectors_within(spec.bounds, fields["actions"], generator)
    else:
        fields["actions"] = torch.randint(0, spec.n_actions, (n_frames, n_agents), generator=generator)
        legal = torch.randint(0, spec.n_actions, (n_frames, n_agents, 1), generator=generator)
        fields["avail_actions"] = fields["avail_actions"].scatter(2, legal, True)
    alive = []
    for length in lengths:  # some leave at a frame of the episode, some stay to its end; agent 0 always does
        leaves = torch.randint(1, 2 * length + 2, (n_agents,), generator=generator)
        leaves[0] = length + 1
        alive.append(torch.arange(length + 1)[:, None] < leaves)
    fields["alive"] = torch.cat(alive)
    batch = EpisodeBatch(spec, fields, torch.tensor(lengths), torch.tensor(terminated))
    return with_garbage(batch, seed)


def vectors_within(bounds: Bounds, like: Tensor, generator: torch.Generator) -> Tensor:
    """Vectors within bounds, a fifth of whose numbers are at one of them."""
    low, high = bounds.tensors()
    share = torch.rand(like.shape, generator=generator)
    at = torch.rand(like.shape, generator=generator)
    vectors = torch.where(at < 0.1, low, torch.where(at < 0.2, high, low + share * (high - low)))
    return vectors.clamp(low, high)


def with_garbage(batch: EpisodeBatch, seed: int) -> EpisodeBatch:
    """The same episodes with other garbage where step fields and outcomes are undefined."""
    generator = torch.Generator().manual_seed(seed)
    final = final_frames(batch)
    fields = dict(batch.fields)
    for name in batch.spec.step_fields:
        fields[name] = fields[name].clone()
        fields[name][final] = garbage(fields[name][final], generator)
    for name in batch.spec.outcomes:
        kept, fields[name] = fields[name][final - 1], garbage(fields[name], generator)
        fields[name][final - 1] = kept
    return replace(batch, fields=fields, checked=True)


def garbage(like: Tensor, generator: torch.Generator) -> Tensor:
    """NaN, infinities and huge numbers, as far as the dtype has them."""
    if like.dtype == torch.bool:
        return torch.randint(0, 2, like.shape, generator=generator).bool()
    worst: list[float]
    if like.is_floating_point():
        worst = [float("nan"), float("inf"), float("-inf"), 1e30, -3.0]
    else:
        info = torch.iinfo(like.dtype)
        worst = [info.max, info.min, 77]
    choice = torch.randint(0, len(worst), like.shape, generator=generator)
    return torch.tensor(worst, dtype=like.dtype)[choice]


def final_frames(batch: EpisodeBatch) -> Tensor:
    """By a loop, so that it owes nothing to the index arithmetic under test."""
    frames, start = [], 0
    for length in batch.lengths.tolist():
        frames.append(start + length)
        start += length + 1
    return torch.tensor(frames)


def random_batch(
    seed: int, *, n_episodes: int = 6, spec: EpisodeSpec | None = None, **spec_options: Any
) -> EpisodeBatch:
    """Episodes in random order; five or more show every kind of end."""
    spec = spec or make_spec(**spec_options)
    limit = spec.episode_limit
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    kinds = [
        (1, bool(draw(0, 1))),
        (limit, False),
        (limit, True),
        (draw(1, max(1, limit - 1)), True),
        (draw(1, max(1, limit - 1)), False),
    ]
    kinds += [(draw(1, limit), bool(draw(0, 1))) for _ in range(n_episodes)]
    kinds = kinds[:n_episodes]
    order = torch.randperm(n_episodes, generator=generator).tolist()
    lengths, terminated = zip(*[kinds[i] for i in order], strict=True)
    return make_batch(spec, lengths, terminated, seed=seed + 1)


@st.composite
def batches(
    draw: st.DrawFn, /, *, max_episodes: int = 5, vectors: bool | None = False, **spec_options: Any
) -> EpisodeBatch:
    """Any ragged batch: the ends shrink, the content comes from a seed. vectors: None for either kind."""
    options: dict[str, Any] = {
        "n_agents": draw(st.integers(1, 3)),
        "n_actions": draw(st.integers(1, 3)),
        "limit": draw(st.integers(1, 8)),
        "state": draw(st.booleans()),
        "reward_per_agent": draw(st.booleans()),
        "extra": draw(st.booleans()),
        "vectors": draw(st.booleans()) if vectors is None else vectors,
    }
    with _random_kept():
        spec = make_spec(**(options | spec_options))
    ends = st.tuples(st.integers(1, spec.episode_limit), st.booleans())
    episodes = draw(st.lists(ends, min_size=1, max_size=max_episodes))
    lengths, terminated = zip(*episodes, strict=True)
    seed = draw(st.integers(0, 1000))
    with _random_kept():
        return make_batch(spec, lengths, terminated, seed=seed)


def assert_same_episodes(given: EpisodeBatch, want: EpisodeBatch, *, final_frames: bool = True) -> None:
    """Bit for bit in everything that is defined."""
    assert given.spec == want.spec
    assert given.lengths.tolist() == want.lengths.tolist()
    assert given.terminated.tolist() == want.terminated.tolist()
    assert given.fields.keys() == want.fields.keys()
    for name, field in want.spec.fields.items():
        assert given[name].dtype == want[name].dtype, name
        if field.per == "end":
            assert torch.equal(given.outcome(name), want.outcome(name)), name
        elif field.per == "step" or not final_frames:
            assert torch.equal(given.steps(name), want.steps(name)), name
        else:
            assert torch.equal(given[name], want[name]), name


def bits(*rows: str, dtype: torch.dtype = torch.int64) -> Tensor:
    """Padded flags (B, T+1, 1) from rows like "1110"."""
    return torch.tensor([[[int(bit)] for bit in row] for row in rows]).to(dtype)


def all_patterns(n_columns: int, n_flags: int = 2) -> list[Tensor]:
    """Every combination of 0/1 flags: `n_flags` tensors (B, n_columns, 1)."""
    rows = torch.tensor(list(itertools.product([0, 1], repeat=n_columns)))
    index = torch.cartesian_prod(*[torch.arange(len(rows))] * n_flags)
    return [rows[index[:, flag]][..., None] for flag in range(n_flags)]


@contextmanager
def _random_kept() -> Iterator[None]:
    """Beartype draws which items of a container it checks, and hypothesis minds that in a strategy."""
    state = random.getstate()
    yield
    random.setstate(state)


def _random(dtype: torch.dtype, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    high = 256 if dtype == torch.uint8 else 2  # colours
    return torch.randint(0, high, shape, generator=generator).to(dtype)


def relative_error(given: Tensor, want: Tensor) -> float:
    """The size of the difference, as a share of what is wanted; both in float64."""
    given, want = given.detach().double(), want.detach().double()
    return float((given - want).norm() / want.norm().clamp(min=1e-30))


@contextmanager
def files_limited_to(n_bytes: int) -> Iterator[None]:
    """As if the disk were full: a file of this process that would become longer cannot be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
