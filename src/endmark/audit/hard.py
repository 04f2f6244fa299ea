"""A padded batch with every case that masks get wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from endmark.episodes import EpisodeBatch, EpisodeSpec

CASES = {
    "one step": "an episode of a single step",
    "full, truncated": "an episode as long as the batch, cut off at the limit",
    "full, terminated": "an episode as long as the batch that terminated in its last step",
    "early, terminated": "an episode that terminated before the last column",
    "early, truncated": "an episode that was cut off before the last column",
    "an agent left": "an agent that left while others went on",
    "lengths differ": "no two episodes of the same length, except full ones",
}
"""What masks get wrong, by name. A report says which of these a batch lacks."""


def hard_batch(spec: EpisodeSpec, seed: int) -> dict[str, Tensor]:
    """Seven random episodes with every case of `CASES`, padded with zeros: (B, T+1, ...).

    T is `spec.episode_limit`; ValueError if it is less than 6. In episodes of more than two steps, the last
    agent leaves half-way, if there are several.
    """
    limit = spec.episode_limit
    if limit < 6:
        raise ValueError(f"episode_limit: given {limit}, want at least 6, to hold every case")
    generator = torch.Generator().manual_seed(seed)
    middle = (torch.randperm(limit - 2, generator=generator) + 2)[:4].tolist()
    ends = [(limit, False), (limit, True), (1, True), *zip(middle, (True, False, True, False), strict=True)]
    order = torch.randperm(len(ends), generator=generator).tolist()
    lengths, terminated = zip(*(ends[i] for i in order), strict=True)
    episodes = torch.tensor(lengths)
    n_frames = int(episodes.sum()) + len(episodes)
    fields = {}
    for name, field in spec.fields.items():
        shape = (n_frames, *field.shape)
        if field.dtype == torch.bool:
            fields[name] = torch.rand(shape, generator=generator) < 0.7
        elif field.dtype.is_floating_point:
            fields[name] = torch.randn(shape, generator=generator, dtype=field.dtype)
        else:
            most = spec.n_actions if name == "actions" else 256 if field.dtype == torch.uint8 else 5
            fields[name] = torch.randint(most, shape, generator=generator, dtype=field.dtype)
    if spec.bounds is None:
        fields["avail_actions"].scatter_(2, fields["actions"][..., None], True)  # the action taken was legal
    else:
        low, high = spec.bounds.tensors()
        share = torch.rand(fields["actions"].shape, generator=generator)
        fields["actions"] = low + (high - low) * share
    alive = torch.ones_like(fields["alive"])
    start = 0
    for length in lengths:
        if spec.n_agents > 1 and length > 2:
            alive[start + (length + 1) // 2 : start + length + 1, -1] = False
        start += length + 1
    fields["alive"] = alive
    return EpisodeBatch(spec, fields, episodes, torch.tensor(terminated)).to_padded()
