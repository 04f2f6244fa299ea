"""Operations of an update, and the machine's own speed at matrix products and copies."""

from __future__ import annotations

import torch

from benchmarks.measure import Effort, Work, measure
from benchmarks.results import Floor
from benchmarks.shapes import Shape


def forward_flops(shape: Shape, n_frames: int, n_steps: int) -> tuple[int, int]:
    """Floating-point operations of one network's forward pass: in all layers, and in the first layers alone.

    Each multiply-add of a matrix product counts as two; nothing else is counted. With F frames, S steps, N
    agents, A actions, H hidden units, M mixing units, Y hypernetwork units, observations of size O and states
    of size D:

        encoder            2 F N O H             first
        GRU, from input    2 F N H 3H
        GRU, recurrent     2 F N H 3H
        head               2 F N H A
        hypernetworks      2 S D (2Y + 2M)       first
                           2 S (Y N M + Y M + M)
        mixing             2 S (N M + M)

    One-hot inputs (last action, agent id) count as lookups, even if an implementation multiplies them.
    Padding is not counted.
    """
    n, h, m, y = shape.n_agents, shape.hidden_size, shape.embed_size, shape.hyper_size
    rows = n_frames * n
    encoder = 2 * rows * shape.obs_size * h
    agent = 2 * rows * (2 * h * 3 * h + h * shape.n_actions)
    hyper_first = 2 * n_steps * shape.state_size * (2 * y + 2 * m)
    mixer = 2 * n_steps * (y * n * m + y * m + m + n * m + m)
    return encoder + agent + hyper_first + mixer, encoder + hyper_first


def update_flops(shape: Shape, n_frames: int, n_steps: int) -> int:
    """Floating-point operations of an update: two networks forward, one backward.

    Backward, each product needs two: the gradient of its weight and the gradient of its input. Inputs of the
    first layers are data, whose gradient is not needed. In sum: 2 f + f + (f - first) = 4 f - first.
    """
    forward, first = forward_flops(shape, n_frames, n_steps)
    return 4 * forward - first


def ppo_flops(shape: Shape, n_frames: int, n_steps: int, epochs: int) -> int:
    """Floating-point operations of MAPPO's whole update, counted as in `forward_flops`.

    The actor sees S steps of N agents, the critic S states: forward and backward in every epoch, and the
    critic once more forward on F frames, for the advantages.
    """
    h, rows = shape.hidden_size, n_steps * shape.n_agents
    first = 2 * rows * shape.obs_size * h + 2 * n_steps * shape.state_size * h
    actor = 2 * rows * h * (shape.obs_size + 6 * h + shape.n_actions)
    critic = 2 * h * (shape.state_size + 6 * h + 1)  # a state
    return epochs * (3 * (actor + n_steps * critic) - first) + n_frames * critic


def measure_floor(shape: Shape, effort: Effort, *, quick: bool, device: str = "cpu") -> Floor:
    """torch's speed at matrix products and copies, on this device and with the current number of threads."""
    size = 64 if quick else 2048 if device == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device) for _ in range(2))
    out = torch.empty_like(left)
    own, own_flops = _own_products(shape, device)
    megabytes = 1 if quick else 256 if device == "cpu" else 4096
    source = torch.zeros(megabytes * 2**18, device=device)
    target = torch.ones_like(source)
    work: dict[str, Work] = {
        "gemm": lambda: torch.mm(left, right, out=out),
        "own": own,
        "copy": lambda: target.copy_(source),
    }
    times = measure(work, effort, device=device)
    return Floor(
        gemm=times["gemm"].rate(2 * size**3),
        gemm_own=times["own"].rate(own_flops),
        copy=times["copy"].rate(2 * source.numel() * 4),
    )


def _own_products(shape: Shape, device: str) -> tuple[Work, int]:
    """The large matrix products of one forward pass at full length, and their number of operations."""
    n_frames, h = shape.batch_size * (shape.limit + 1), shape.hidden_size
    rows = n_frames * shape.n_agents
    per_step = shape.batch_size * shape.n_agents
    sizes = [
        (1, rows, shape.obs_size, h),
        (1, rows, h, 3 * h),
        (shape.limit + 1, per_step, h, 3 * h),
        (1, rows, h, shape.n_actions),
    ]
    products = [
        (
            n,
            torch.randn(a, b, device=device),
            torch.randn(b, c, device=device),
            torch.empty(a, c, device=device),
        )
        for n, a, b, c in sizes
    ]

    def run() -> None:
        for n, left, right, out in products:
            for _ in range(n):
                torch.mm(left, right, out=out)

    return run, sum(2 * n * a * b * c for n, a, b, c in sizes)
