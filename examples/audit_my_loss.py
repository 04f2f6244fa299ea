"""A loss of one's own in a test suite: copy this file, and put your loss and network in.

endmark audit examples/audit_my_loss.py:case
endmark audit examples/audit_my_loss.py:repaired
python -m pytest examples/audit_my_loss.py
"""

import torch
from torch import Tensor, nn

from endmark.audit import Case, assert_no_leaks, hard_batch
from endmark.episodes import EpisodeSpec, step_mask


class Values(nn.Module):
    def __init__(self, obs_size: int, n_actions: int) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(obs_size, 16, batch_first=True), nn.Linear(16, n_actions)

    def forward(self, obs: Tensor) -> Tensor:
        """(B, T+1, obs) to (B, T+1, actions)."""
        values: Tensor = self.head(self.gru(obs)[0])
        return values


def td_loss(values: nn.Module, batch: dict[str, Tensor], *, right: bool) -> Tensor:
    """One agent's Q-learning on padded episodes, with the usual three lines, or with the exact mask."""
    obs = batch["obs"].flatten(2)
    terminated = batch["terminated"][:, :-1].float()
    q: Tensor = values(obs)
    taken = q[:, :-1].gather(2, batch["actions"][:, :-1].flatten(2))
    best = q[:, 1:].max(2, keepdim=True).values.detach()
    error = taken - batch["reward"][:, :-1] - 0.99 * (1 - terminated) * best
    if right:
        return error[step_mask(batch["filled"], batch["terminated"])].square().mean()
    mask = batch["filled"][:, :-1].float()
    mask[:, 1:] = mask[:, 1:] * (1 - terminated[:, :-1])
    return (error * mask).square().sum() / mask.sum()


def case(*, right: bool = False) -> Case:
    torch.manual_seed(0)
    values = Values(obs_size=5, n_actions=3)
    # hard_batch has every case that masks get wrong, in PyMARL's shapes: obs (B, T+1, N, obs), actions
    # (B, T+1, N, 1), reward (B, T+1, 1). Or a batch of your own: tensors by name, with filled and terminated
    # (B, T+1, 1).
    spec = EpisodeSpec.of(n_agents=1, n_actions=3, episode_limit=8, obs_shape=(5,))
    return Case(lambda batch: td_loss(values, batch, right=right), hard_batch(spec, seed=0), values)


def repaired() -> Case:
    return case(right=True)


def test_my_loss() -> None:
    assert_no_leaks(repaired())
