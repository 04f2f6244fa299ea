"""The environment families that endmark is tested with, and which of them are installed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


@dataclass(frozen=True)
class Family:
    """Some environments that come in one package.

    package: to import, and as it is called on PyPI.
    install: the command that gets it.
    examples: ids for `make`.
    version: of the package as it is installed; None where it is not.
    """

    name: str
    package: str
    install: str
    examples: tuple[str, ...]
    version: str | None = None

    @property
    def is_installed(self) -> bool:
        """Whether the package can be imported."""
        return self.version is not None


FAMILIES = (
    Family(
        "Gymnasium (one agent)",
        "gymnasium",
        "pip install endmark",
        ("CartPole-v1", "Acrobot-v1", "FrozenLake-v1"),
    ),
    Family(
        "Level-Based Foraging",
        "lbforaging",
        'pip install "endmark[lbf]"',
        ("lbforaging:Foraging-5x5-2p-1f-v3", "lbforaging:Foraging-8x8-2p-2f-coop-v3"),
    ),
    Family(
        "Robotic Warehouse",
        "rware",
        'pip install "endmark[rware]"',
        ("rware:rware-tiny-2ag-v2", "rware:rware-small-4ag-v2"),
    ),
    Family(
        "Multi-Particle Environments (PettingZoo)",
        "mpe2",
        'pip install "endmark[pettingzoo]"',
        ("mpe2.simple_spread_v3", "mpe2.simple_speaker_listener_v4", "mpe2.simple_tag_v3"),
    ),
)


def installed() -> list[Family]:
    """The families, each with its version here. Imports none of them."""
    return [replace(family, version=_version(family.package)) for family in FAMILIES]


def how_to_install(package: str) -> str:
    """What to do about a package that cannot be imported."""
    commands = {family.package: family.install for family in FAMILIES}
    commands["pettingzoo"] = commands["mpe2"]  # one extra holds both
    # No command for an unknown name: it may be misspelt, and somebody else's package on PyPI.
    return commands.get(package, "install it, or mend the name; `endmark envs` shows what endmark knows")


def _version(package: str) -> str | None:
    if find_spec(package) is None:
        return None
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"  # on the path, but not installed by pip
