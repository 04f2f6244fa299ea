"""TorchRL's estimators of values under its PPO loss: `endmark audit examples/audit_torchrl.py:gae`.

Install torchrl, which brings tensordict: `pip install torchrl`. `gae` and `td_lambda` have rows as a
collector leaves them, with several episodes each. `gae_split` and `td_lambda_split` have one trajectory
a row, as `split_trajectories` makes them of such rows: padded, with a mask. The estimator runs over the
padded rows, and the loss over the steps under the mask. A trajectory that the collector's last
column cuts is not done; in `gae_split_closed` and `td_lambda_split_closed` it is marked as truncated,
as with `set_truncated=True`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from torch import Tensor, nn
from torch.distributions import Categorical
from torchrl.collectors.utils import split_trajectories
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE, TDLambdaEstimator
from torchrl.objectives.value.advantages import ValueEstimatorBase

from endmark.audit import Case, Rows, nested_fields

ROWS, T = 4, 8
ENDS = [(2, 0), (5, 0), (4, 1), (7, 2), (3, 3)]  # (column, row) of an episode's last step
Estimator = Callable[..., ValueEstimatorBase]


def collected(*, closed: bool = False) -> TensorDict:
    """Rows (rows, T) as a collector leaves them; row 1 holds an episode that was truncated.

    closed: the last column is marked as truncated, as by a collector with `set_truncated=True`.
    """
    draw = torch.Generator().manual_seed(0)
    done, truncated = (torch.zeros(ROWS, T, 1, dtype=torch.bool) for _ in range(2))
    for t, row in ENDS:
        done[row, t] = True
    truncated[1, 4] = True
    if closed:
        truncated[:, -1] = ~done[:, -1]
        done = done | truncated
    number = done.long().cumsum(1).sub(done.long()).squeeze(2) + T * torch.arange(ROWS)[:, None]
    following = {
        "observation": torch.randn(ROWS, T, 6, generator=draw),
        "reward": torch.randn(ROWS, T, 1, generator=draw),
        "done": done,
        "truncated": truncated,
        "terminated": done & ~truncated,
    }
    fields = {
        "observation": torch.randn(ROWS, T, 6, generator=draw),
        "action": torch.randint(0, 5, (ROWS, T), generator=draw),
        "action_log_prob": -1.6 + 0.1 * torch.randn(ROWS, T, generator=draw),
        "collector": {"traj_ids": number},
        "next": following,
    }
    return TensorDict(fields, batch_size=[ROWS, T])


def nested(fields: Mapping[str, Tensor]) -> TensorDict:
    """A TensorDict of tensors by name, such as `next.reward`."""
    data = TensorDict({}, batch_size=fields["action"].shape[:2])
    for name, x in fields.items():
        data[tuple(name.split("."))] = x
    return data


def case(make: Estimator, batch: TensorDict, mask: str | None = None, **fields: Any) -> Case:
    torch.manual_seed(0)
    logits, value = (nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, n)) for n in (5, 1))
    actor = ProbabilisticTensorDictSequential(
        TensorDictModule(logits, in_keys=["observation"], out_keys=["logits"]),
        ProbabilisticTensorDictModule(
            in_keys=["logits"], out_keys=["action"], distribution_class=Categorical, return_log_prob=True
        ),
    )
    critic = TensorDictModule(value, in_keys=["observation"], out_keys=["state_value"])
    ppo, estimator = ClipPPOLoss(actor, critic), make(gamma=0.99, value_network=critic)

    def loss(fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        data = estimator(nested(fields))
        terms = ppo(data if mask is None else data[data[tuple(mask.split("."))]])
        total = terms["loss_objective"] + terms["loss_critic"] + terms["loss_entropy"]
        return {"loss": total, "kl_approx": terms["kl_approx"], "entropy": terms["entropy"]}

    return Case(
        loss,
        nested_fields(batch),
        [logits, value],
        frame_fields=["observation"],
        step_fields=["action", "action_log_prob", "next.observation", "next.reward"],
        mask=mask,
        reward="next.reward",
        **fields,
    )


def gae_of(**settings: Any) -> ValueEstimatorBase:
    return GAE(lmbda=0.95, **settings)


def td_lambda_of(**settings: Any) -> ValueEstimatorBase:
    return TDLambdaEstimator(lmbda=0.95, **settings)


def in_rows(make: Estimator) -> Case:
    rows = Rows(ends="next.done", cut="next.truncated", time_major=False)
    return case(make, collected(), rows=rows)


def split(make: Estimator, *, closed: bool = False) -> Case:
    batch = split_trajectories(collected(closed=closed), trajectory_key=("collector", "traj_ids"))
    return case(make, batch, "collector.mask")


def gae() -> Case:
    return in_rows(gae_of)


def td_lambda() -> Case:
    return in_rows(td_lambda_of)


def gae_split() -> Case:
    return split(gae_of)


def td_lambda_split() -> Case:
    return split(td_lambda_of)


def gae_split_closed() -> Case:
    return split(gae_of, closed=True)


def td_lambda_split_closed() -> Case:
    return split(td_lambda_of, closed=True)
