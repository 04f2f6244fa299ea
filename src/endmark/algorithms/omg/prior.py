"""The space of subgoals: a variational autoencoder of what a learner sees, fitted first, then frozen.

    loss = mean over features of (s - decoded(g))² + weight * sum over the code of KL(N(μ(s), σ(s)²), N(0, 1))

Kingma & Welling (2014), arXiv:1312.6114; eq. (10) of Yu et al. (2024). The weight is meant with a mean over
features: with a sum it keeps more of the code, and with more weight the code collapses.
"""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from endmark.algorithms.omg.view import GoalOf
from endmark.disk import replacing
from endmark.episodes.files import FileError, own_tensors
from endmark.wording import joined, shortened

FILE = "prior.safetensors"
FORMAT = "endmark-prior-1"
ACTIVE = 0.01
"""A number of the code is active if its mean varies by more than this over the data (Burda et al. 2016)."""


class Prior(nn.Module):
    """From what is seen to a Gaussian over codes, and back. Features are standardised as where it was fitted.

    goal_of: what is seen, the learner's observation or the state.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int, code_size: int, hidden_size: int, goal_of: GoalOf) -> None:
        super().__init__()
        self.n_features, self.code_size = n_features, code_size
        self.hidden_size, self.goal_of = hidden_size, goal_of
        self.encoder = nn.Sequential(
            nn.Linear(n_features, hidden_size),
            nn.LeakyReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.LeakyReLU(),
        )
        self.gaussian = nn.Linear(hidden_size, 2 * code_size)
        self.decoder = nn.Sequential(
            nn.Linear(code_size, hidden_size),
            nn.LeakyReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.LeakyReLU(),
            nn.Linear(hidden_size, n_features),
        )
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def standardised(self, seen: Float[Tensor, "*R S"]) -> Float[Tensor, "*R S"]:
        """Features in units of their deviation."""
        return (seen - self.mean) / self.scale

    def encode(self, seen: Float[Tensor, "*R S"]) -> tuple[Float[Tensor, "*R D"], Float[Tensor, "*R D"]]:
        """Mean and log-variance of the code."""
        mean, log_var = self.gaussian(self.encoder(self.standardised(seen))).chunk(2, -1)
        return mean, log_var.clamp(-10.0, 10.0)

    def decode(self, code: Float[Tensor, "*R D"]) -> Float[Tensor, "*R S"]:
        """What the code stands for, in the units that are seen."""
        decoded: Tensor = self.decoder(code)
        return decoded * self.scale + self.mean

    def loss(
        self, seen: Float[Tensor, "R S"], kl_weight: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """`loss`, and its parts `reconstruction` and `kl`, in nats."""
        mean, log_var = self.encode(seen)
        error = self.decoder(sample(mean, log_var, generator)) - self.standardised(seen)
        reconstruction, kl = error.square().mean(), standard_kl(mean, log_var).mean()
        return {"loss": reconstruction + kl_weight * kl, "reconstruction": reconstruction, "kl": kl}


def sample(
    mean: Float[Tensor, "*R D"], log_var: Float[Tensor, "*R D"], generator: torch.Generator
) -> Float[Tensor, "*R D"]:
    """A draw from the Gaussian, with its gradient (reparametrised). The numbers are drawn on the CPU."""
    noise = torch.randn(mean.shape, generator=generator).to(mean.device)
    return mean + noise * (0.5 * log_var).exp()


def standard_kl(mean: Float[Tensor, "*R D"], log_var: Float[Tensor, "*R D"]) -> Float[Tensor, "*R"]:
    """KL(N(mean, exp(log_var)), N(0, 1)), summed over the code."""
    return gaussian_kl(mean, log_var, torch.zeros_like(mean), torch.zeros_like(log_var))


def gaussian_kl(
    mean: Float[Tensor, "*R D"],
    log_var: Float[Tensor, "*R D"],
    other_mean: Float[Tensor, "*R D"],
    other_log_var: Float[Tensor, "*R D"],
) -> Float[Tensor, "*R"]:
    """KL of the first diagonal Gaussian from the second, summed over the code, in nats."""
    variances = (log_var - other_log_var).exp() + (mean - other_mean).square() / other_log_var.exp()
    return 0.5 * (other_log_var - log_var + variances - 1).sum(-1)


def active_units(prior: Prior, seen: Float[Tensor, "R S"]) -> int:
    """How many numbers of the code say anything about what is seen."""
    return int((prior.encode(seen)[0].var(0) > ACTIVE).sum())


def save_prior(prior: Prior, directory: Path) -> None:
    """Write the weights, and the sizes that they have. OSError if the disk is full."""
    shape = {name: getattr(prior, name) for name in ("n_features", "code_size", "hidden_size", "goal_of")}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in prior.state_dict().items()}
    with replacing(directory / FILE) as unfinished:
        save_file(tensors, unfinished, {FORMAT: json.dumps(shape)})


def load_prior(directory: str | Path, n_features: int, goal_of: GoalOf) -> Prior:
    """The prior in this directory, frozen. FileError if it is none, or was fitted to something else."""
    path = Path(directory) / FILE
    where = f"prior {path}"
    try:
        with safetensors.safe_open(path, "pt") as file:
            shape, tensors = json.loads((file.metadata() or {})[FORMAT]), own_tensors(file)
        with torch.device("meta"):  # so that a size in the file takes no memory before the weights confirm it
            prior = Prior(**shape)
        prior.load_state_dict(tensors, assign=True)
    except FileNotFoundError:
        raise FileError(f"{where}: no such file; `endmark fit-prior` makes one") from None
    except Exception as error:  # a file from outside may hold anything
        raise FileError(f"{where}: not a prior: {shortened(joined(error))}") from None
    for name, tensor in prior.state_dict().items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise FileError(f"{where}: '{name}': given {tensor.dtype} or not finite, want finite float32")
    if prior.goal_of != goal_of:
        raise FileError(f"{where}: fitted to goal_of {prior.goal_of!r}, want {goal_of!r}")
    if prior.n_features != n_features:
        given = prior.n_features
        raise FileError(f"{where}: fitted to {given} features, want {n_features}: another environment")
    return prior.requires_grad_(False)
