"""The attention agent: a causal Transformer over the agent's own episode."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from endmark.episodes import EpisodeBatch, Seen
from endmark.episodes.ragged import TimeMajor
from endmark.nets.agents import Inputs, Memory
from endmark.ops import linear, ragged_attention
from endmark.ops.attention import angles, rotated


class AttentionOptions(NamedTuple):
    """The size of an attention agent beside its width.

    heads: of each layer; the width is a multiple of twice as many. window: the frames that a frame attends to
    in each layer, itself among them.
    """

    heads: int = 4
    layers: int = 2
    window: int = 128

    def within(self, episode_limit: int) -> AttentionOptions:
        """The same, with a window no longer than an episode: one frame more than it has steps."""
        return self._replace(window=min(self.window, episode_limit + 1))


class AttentionAgent(nn.Module):
    """Linear, then layers of attention and MLP, with one set of parameters for all agents. An `Agent`.

    A frame reads the frames of its own agent in its own episode, up to itself (`endmark.ops.attention`).
    Layers are pre-norm (Xiong et al. 2020, arXiv:2002.04745); their MLP is twice as wide, with ReLU. Features
    are the last layer's outputs, normalised.

    ValueError if `hidden_size` is not a multiple of 2 * heads.
    """

    def __init__(
        self, inputs: Inputs, hidden_size: int, options: AttentionOptions = AttentionOptions()
    ) -> None:
        if hidden_size % (2 * options.heads):
            raise ValueError(
                f"hidden_size: given {hidden_size}, want a multiple of {2 * options.heads}, twice the heads"
            )
        super().__init__()
        self.inputs, self.n_features, self.options = inputs, hidden_size, options
        self.encoder = nn.Linear(inputs.size, hidden_size)
        self.layers = nn.ModuleList(Layer(hidden_size) for _ in range(options.layers))
        self.norm = nn.LayerNorm(hidden_size)

    def start(self, n_rows: int) -> Memory:
        """No frames yet.

        keys.0, values.0, and so on for each layer: [K, N, heads, window, D], those of frame t at t % window.
        time: [K, N] int64, the frames so far. Only the places that `time` counts are ever read.
        """
        n_agents, heads, weight = self.inputs.n_agents, self.options.heads, self.encoder.weight
        shape = n_rows, n_agents, heads, self.options.window, self.n_features // heads
        names = [f"{part}.{layer}" for layer in range(self.options.layers) for part in ("keys", "values")]
        time = torch.zeros(n_rows, n_agents, dtype=torch.int64, device=weight.device)
        return {name: weight.new_zeros(shape) for name in names} | {"time": time}

    def step(
        self, seen: Seen, last_actions: Real[Tensor, "K N *D"], memory: Memory
    ) -> tuple[Float[Tensor, "K N H"], Memory]:
        """Features at one frame of K episodes, and the memory with this frame in it.

        Where no gradient is recorded, the frame is written into the tensors of `memory` itself: they are
        large, and a copy at each step would take longer than the rest. The frames that `memory` counts stay
        as they were, but for the one that leaves the window.
        """
        return self.advance(seen.obs, last_actions, memory)

    def advance(
        self, obs: Real[Tensor, "K N ..."], last_actions: Real[Tensor, "K N *D"], memory: Memory
    ) -> tuple[Float[Tensor, "K N H"], Memory]:
        """`step` from these observations."""
        memory, time = dict(memory), memory["time"]
        flat, one_hot = self.inputs(obs, last_actions)
        x = linear(self.encoder, flat, one_hot=one_hot)
        heads, window, size = self.options.heads, self.options.window, self.n_features // self.options.heads
        cos, sin = (part[..., None, :] for part in angles(time, size, x.dtype))
        place = (time % window)[..., None, None, None].expand(*time.shape, heads, 1, size)
        used = min(int(time.max()) + 1, window)
        n_rows = time.numel() * heads  # one for each head of each agent
        unused = torch.arange(used, device=time.device) > time[..., None, None]  # none in a full window
        unused = unused.expand(*time.shape, heads, used).reshape(n_rows, 1, used)
        for i, layer in enumerate(self._layers()):
            q, k, v = layer.qkv_of(x).view(*time.shape, 3, heads, -1).unbind(2)  # [K, N, heads, D] each
            q, k = rotated(q, cos, sin), rotated(k, cos, sin)
            for name, new in ((f"keys.{i}", k), (f"values.{i}", v)):
                kept = memory[name].clone() if torch.is_grad_enabled() else memory[name]
                memory[name] = kept.scatter_(3, place, new[..., None, :])
            keys, values = (
                memory[name].reshape(n_rows, window, size)[:, :used] for name in (f"keys.{i}", f"values.{i}")
            )
            score = (q.reshape(n_rows, 1, size) / size**0.5) @ keys.transpose(1, 2)
            weight = torch.where(unused, -torch.inf, score).softmax(-1)
            x = layer.finish(x, (weight @ values).view_as(x))
        return self._normed(x), memory | {"time": time + 1}

    def features(self, batch: EpisodeBatch) -> Float[Tensor, "F N H"]:
        """Features at every frame of every episode."""
        return self.unroll(batch.obs, batch.last_actions, batch.time_major)

    def unroll(
        self, obs: Real[Tensor, "F N ..."], last_actions: Real[Tensor, "F N *D"], packing: TimeMajor
    ) -> Float[Tensor, "F N H"]:
        """`features` of these observations and last actions, for ragged frames packed by `packing`."""
        flat, one_hot = self.inputs(obs, last_actions)
        x = linear(self.encoder, flat, one_hot=one_hot)
        heads, window = self.options.heads, self.options.window
        for layer in self._layers():
            mixed = ragged_attention(layer.qkv_of(x), packing, heads=heads, window=window)
            x = layer.finish(x, mixed)
        return self._normed(x)

    def _normed(self, x: Float[Tensor, "K N H"]) -> Float[Tensor, "K N H"]:
        features: Tensor = self.norm(x)
        return features

    def _layers(self) -> list[Layer]:
        return list(self.layers)  # type: ignore[arg-type]


class Layer(nn.Module):
    """The parameters of one layer, and all of it but attention itself: what acts row by row."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.up, self.down = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)

    def qkv_of(self, x: Float[Tensor, "K N H"]) -> Float[Tensor, "K N C"]:
        """Queries, keys and values, C = 3 H."""
        return linear(self.qkv, self.attention_norm(x))

    def finish(self, x: Float[Tensor, "K N H"], mixed: Float[Tensor, "K N H"]) -> Float[Tensor, "K N H"]:
        """The layer's output from its input and what attention gave."""
        x = x + linear(self.out, mixed)
        return x + linear(self.down, linear(self.up, self.mlp_norm(x), relu=True))
