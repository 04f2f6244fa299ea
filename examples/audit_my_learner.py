"""A learner that trains in place, audited as it is, repaired, and audited again: `endmark audit` in a script.

The learner is written as in research code: a batch of padded tensors behind an object, a `train` method that
steps its optimiser, and a line that standardises the rewards. That line includes padding.
"""

import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
from rich.console import Console
from torch import Tensor, nn

from endmark.audit import Report, audit_learner, hard_batch, report_text
from endmark.episodes import EpisodeSpec, step_mask


class Batch:
    """Padded tensors behind an object, as research code has them."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.data = SimpleNamespace(transition_data=tensors)
        self.batch_size, self.max_seq_length = tensors["filled"].shape[:2]

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self.data.transition_data[name]
        return tensor


class Learner:
    def __init__(self, obs_size: int, n_actions: int, *, repaired: bool) -> None:
        self.encoder = nn.Linear(obs_size, 16)
        self.rnn = nn.GRUCell(16, 16)
        self.head = nn.Linear(16, n_actions)
        self.networks = nn.ModuleList([self.encoder, self.rnn, self.head])
        self.optimiser = torch.optim.Adam(self.networks.parameters(), lr=5e-4)
        self.repaired = repaired
        self.trained = 0

    def train(self, batch: Batch, t_env: int, episode: int) -> None:  # noqa: ARG002
        reward, actions = batch["reward"][:, :-1], batch["actions"][:, :-1]
        terminated = batch["terminated"][:, :-1].float()
        mask = step_mask(batch["filled"], batch["terminated"])  # (B, T, 1)
        if not mask.any():
            raise ValueError("the batch holds no real step")

        # The bug: the mean and the deviation are over all columns, padding included.
        rewards = reward[mask] if self.repaired else reward
        reward = (reward - rewards.mean()) / (rewards.std(correction=0) + 1e-5)

        q = self.values(batch)  # (B, T+1, N, A)
        taken = q[:, :-1].gather(3, actions).squeeze(3).sum(2, keepdim=True)
        following = (
            q.detach().masked_fill(~batch["avail_actions"], -1e9)[:, 1:].max(3).values.sum(2, keepdim=True)
        )
        target = reward + 0.99 * torch.where(terminated == 1, 0.0, following)
        loss = torch.where(mask, taken - target, 0.0).square().sum() / mask.sum().clamp(min=1)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.networks.parameters(), 10.0)
        self.optimiser.step()
        self.trained += 1

    def values(self, batch: Batch) -> Tensor:
        n_agents = batch["obs"].shape[2]
        hidden = torch.zeros(batch.batch_size * n_agents, 16)
        outputs = []
        for t in range(batch.max_seq_length):
            hidden = self.rnn(torch.relu(self.encoder(batch["obs"][:, t].flatten(0, 1))), hidden)
            outputs.append(self.head(hidden).view(batch.batch_size, n_agents, -1))
        return torch.stack(outputs, dim=1)


def case(*, repaired: bool = False) -> Callable[..., Report]:
    """The audit, ready to run: what `endmark audit examples/audit_my_learner.py:case` calls."""
    torch.manual_seed(0)
    spec = EpisodeSpec.of(n_agents=2, n_actions=5, episode_limit=8, obs_shape=(6,))
    tensors = hard_batch(spec, seed=0)
    del tensors["alive"]  # in this learner's environment no agent leaves
    learner = Learner(6, 5, repaired=repaired)
    return partial(audit_learner, learner, Batch(tensors), lambda it, batch: it.train(batch, 0, 0))


def main() -> None:
    console = Console()
    console.rule("as it is")
    before = case()()
    console.print(report_text(before))
    console.rule("repaired: statistics of real steps only")
    after = case(repaired=True)()
    console.print(report_text(after))
    sys.exit(0 if before.leaks and not after.leaks else 1)


if __name__ == "__main__":
    main()
