"""The errors of this package."""

from __future__ import annotations

from endmark.wording import one_line


class EnvError(ValueError):
    """An environment cannot be made, fails, or breaks its contract. The message is one line."""


class ContractError(EnvError):
    """An environment breaks its contract, so that playing it again will not help."""


class EnvWarning(UserWarning):
    """An environment could not be closed, or cannot be seeded."""


def located(error: BaseException, where: str) -> EnvError:
    """The error as one that begins with this place."""
    if isinstance(error, ContractError):  # its message begins with a place, which goes on from this one
        return ContractError(f"{where}, {error}")
    return EnvError(f"{where}: {error if isinstance(error, EnvError) else one_line(error)}")
