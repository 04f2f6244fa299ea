"""Learners that train in place, to audit: one as in PyMARL, and one that is a module."""

from __future__ import annotations

import copy
import io
import random
import time
from collections import OrderedDict, defaultdict, deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from endmark.audit import Case, Report, audit_learner, hard_batch
from endmark.audit.layout import view_of
from endmark.audit.learner import transition_data
from endmark.audit.view import View
from endmark.episodes import EpisodeSpec, step_mask

SPEC = EpisodeSpec.of(n_agents=2, n_actions=3, episode_limit=6, obs_shape=(4,))


class Batch:
    """Padded tensors behind an object, as PyMARL has them."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.data = SimpleNamespace(transition_data=tensors)
        self.batch_size, self.max_seq_length = tensors["filled"].shape[:2]
        self.scheme = {"obs": {"vshape": 4}}

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self.data.transition_data[name]
        return tensor


class Mac:
    """Networks, and the hidden state that they leave behind: the padded last column's, of no importance."""

    def __init__(self) -> None:
        self.agent = nn.ModuleDict({"rnn": nn.GRUCell(4, 6), "head": nn.Linear(6, 3)})
        self.hidden_states = torch.zeros(1)

    def q(self, batch: Batch) -> Tensor:
        b, t, n = batch["obs"].shape[:3]
        assert (b, t) == (batch.batch_size, batch.max_seq_length)
        self.hidden_states = torch.zeros(b * n, 6)
        outputs = []
        for i in range(t):
            self.hidden_states = self.agent["rnn"](batch["obs"][:, i].flatten(0, 1), self.hidden_states)
            outputs.append(self.agent["head"](self.hidden_states).view(b, n, 3))
        return torch.stack(outputs, 1)


class Logger:
    """With an open file, which can be neither copied nor restored, and a clock."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.stats: dict[str, list[float]] = defaultdict(list)
        self.last = time.perf_counter()

    def log_stat(self, name: str, value: float) -> None:
        self.stats[name].append(value)
        self.last = time.perf_counter()
        self.file.write(f"{name} {value}\n")


class Learner:
    """PyMARL's, in short; `leak` puts one bug in."""

    def __init__(self, leak: str = "") -> None:
        torch.manual_seed(0)
        self.mac, self.logger, self.leak = Mac(), Logger(), leak
        self.target_mac = copy.deepcopy(self.mac)
        with torch.no_grad():
            for parameter in self.target_mac.agent.parameters():
                parameter.add_(0.1)
        self.params = list(self.mac.agent.parameters())
        self.optimiser = torch.optim.Adam(self.params, lr=1e-2)
        self.reward_mean = torch.zeros(())
        self.numpy_mean = np.zeros(2)
        self.best_loss = float("inf")
        self.updates = 0
        self.losses: deque[float] = deque(maxlen=3)
        self.history: list[dict[str, float]] = []
        self.counts: OrderedDict[str, int] = OrderedDict(calls=0)
        self.seen_lengths: set[int] = set()
        self.generator = torch.Generator().manual_seed(3)
        self.rng = np.random.default_rng(3)
        self.dice = random.Random(3)

    def train(self, batch: Batch, t_env: int, episode: int) -> None:
        mask = step_mask(batch["filled"], batch["terminated"])
        if not mask.any():
            raise ValueError("nothing real")
        reward, actions = batch["reward"][:, :-1], batch["actions"][:, :-1]
        self.reward_mean += 0.1 * (reward if self.leak == "statistic" else reward[mask]).mean()
        self.numpy_mean += (reward if self.leak == "array" else reward[mask]).mean().item()
        q = self.mac.q(batch)
        chosen = q[:, :-1].gather(3, actions).squeeze(3).sum(2, keepdim=True)
        best = self.target_mac.q(batch)[:, 1:].max(3).values.sum(2, keepdim=True).detach()
        target = reward + torch.where(batch["terminated"][:, :-1] == 1, 0.0, 0.9 * best)
        errors = torch.where(mask, chosen - target, 0.0).square()
        loss = errors.mean() if self.leak == "gradient" else errors.sum() / mask.sum()
        noise = float(torch.rand((), generator=self.generator)) + self.rng.random() + self.dice.random()
        assert 0 <= noise + torch.rand(()).item() + np.random.rand() + random.random() <= 6  # noqa: NPY002
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(self.params, 1e-3)
        self.optimiser.step()
        self.updates += 1
        self.best_loss = min(self.best_loss, float("inf"))
        self.losses.append(loss.item())
        self.history.append({"t_env": t_env})
        self.counts["calls"] += 1
        self.seen_lengths.add(batch.max_seq_length)
        self.logger.log_stat("loss", loss.item())
        if self.leak == "crash":
            raise ZeroDivisionError("after the step")


def call(learner: Learner, batch: Batch) -> None:
    learner.train(batch, 0, 0)


def batch_of(seed: int = 0) -> Batch:
    tensors = hard_batch(SPEC, seed)
    del tensors["alive"]
    return Batch(tensors)


def report_on(leak: str = "", **options: Any) -> Report:
    return audit_learner(Learner(leak), batch_of(), call, **options)


def view_of_batch(batch: Batch) -> View:
    return view_of(Case(lambda _: torch.zeros(()), transition_data(batch)))


class ModuleLearner(nn.Module):
    """A learner that is a network itself, with statistics in a buffer."""

    mean: Tensor

    def __init__(self, *, leak: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.value = nn.Linear(4, 1)
        self.register_buffer("mean", torch.zeros(()))
        self.optimiser = torch.optim.SGD(self.parameters(), lr=0.1)
        self.leak = leak

    def fit(self, batch: Batch) -> dict[str, Tensor]:
        mask = step_mask(batch["filled"], batch["terminated"])
        reward = batch["reward"][:, :-1]
        seen = reward if self.leak else reward[mask]
        self.mean = 0.9 * self.mean + seen.mean()  # another tensor, not the same one written to
        errors = self.value(batch["obs"][:, :-1, 0]) - reward
        loss = torch.where(mask, errors, 0.0).square().sum() / mask.sum()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return {"loss": loss.detach()}
