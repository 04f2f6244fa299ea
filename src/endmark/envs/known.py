"""Everything that endmark knows about families of environments: one table, one entry per family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from endmark.envs import layouts
from endmark.envs.boards import foraging, warehouse
from endmark.envs.layouts import Layout
from endmark.envs.protocol import Picture


@dataclass(frozen=True)
class Family:
    """The environments of one package. An entry needs the first three fields; the rest have defaults.

    name: as shown to people.
    package: the module to import, which has the same name on PyPI.
    examples: ids for `make`.
    extra: the extra of endmark that installs the package; None if endmark itself depends on it.
    source: what pip installs the package from, where it is not on PyPI.
    extra_packages: further packages that this extra installs.
    bare_prefix, home: ids that start with `bare_prefix` are often given without `home` before them.
    scheme, maker: ids that begin with `scheme:` are made by the function `maker`, given as "module:function"
        and imported only then. It gets the rest of the id, the episode limit or None, and arguments for the
        environment's constructor, and returns an `Environment`. It raises `importing.unknown` for a name that
        it does not know.
    batched: whether `maker` returns a `BatchedEnvironment` of several environments. It then gets their number
        after the name.

    The other fields correct environments of one class and its subclasses. Their functions get the
    environment without its wrappers.

    env_class: the full name of the class, such as "rware.warehouse.Warehouse".
    step_limit: returns the environment's own step limit; None if it has none.
    mdp_ended: returns whether the MDP is over. Needed where an environment reports its own step limit as a
        termination: a reported termination that this function denies is a truncation.
    clear: called before every reset, to remove what the last episode left behind and the next one would
        depend on.
    picture: draws the environment. For those whose own pictures need a screen.
    layout: what the numbers of an observation mean; None for one that it does not know.
    action_names: a word for each action.
    """

    name: str
    package: str
    examples: tuple[str, ...]
    extra: str | None = None
    source: str | None = None
    extra_packages: tuple[str, ...] = ()
    bare_prefix: str | None = None
    home: str = ""
    scheme: str | None = None
    maker: str = ""
    batched: bool = False
    env_class: str | None = None
    step_limit: Callable[[Any], int | None] | None = None
    mdp_ended: Callable[[Any], bool] | None = None
    clear: Callable[[Any], None] | None = None
    picture: Callable[[Any], Picture] | None = None
    layout: Callable[[Any], Layout | None] | None = None
    action_names: tuple[str, ...] = ()

    @property
    def install(self) -> str:
        """The command that installs the package."""
        if self.source:
            return f"pip install {self.source}"
        return f'pip install "endmark[{self.extra}]"' if self.extra else "pip install endmark"

    @property
    def version(self) -> str | None:
        """The version of the package that is installed; None if it is not. Does not import it."""
        if find_spec(self.package) is None:
            return None
        try:
            return version(self.package)
        except PackageNotFoundError:
            return "unknown"  # on the import path, but not installed by pip

    @property
    def is_installed(self) -> bool:
        """Whether the package can be imported."""
        return self.version is not None


def _remove_players(env: Any) -> None:
    """Take the last episode's players off the field.

    A reset of Level-Based Foraging looks for free cells one player after another, while the players that
    have not moved yet still occupy theirs: 3 to 9 of 100 seeds started differently in a used environment.
    """
    for player in env.players:
        player.position = None


def _forget_actions(env: Any) -> None:
    """Forget the last episode's last actions, which SMAClite shows in the first state of the next one."""
    env.last_actions[:] = 0


FAMILIES = (
    Family(
        name="Gymnasium (one agent)",
        package="gymnasium",
        examples=("CartPole-v1", "Acrobot-v1", "FrozenLake-v1"),
    ),
    Family(
        name="Level-Based Foraging",
        package="lbforaging",
        examples=("lbforaging:Foraging-5x5-2p-1f-v3", "lbforaging:Foraging-8x8-2p-2f-coop-v3"),
        extra="lbf",
        bare_prefix="Foraging",
        home="lbforaging:",
        env_class="lbforaging.foraging.environment.ForagingEnv",
        step_limit=lambda env: env._max_episode_steps,
        mdp_ended=lambda env: not env.field.any(),  # no food is left
        clear=_remove_players,
        picture=foraging,
        layout=layouts.foraging,
        action_names=("stay", "north", "south", "west", "east", "load"),
    ),
    Family(
        name="Robotic Warehouse",
        package="rware",
        examples=("rware:rware-tiny-2ag-v2", "rware:rware-small-4ag-v2"),
        extra="rware",
        bare_prefix="rware",
        home="rware:",
        env_class="rware.warehouse.Warehouse",
        step_limit=lambda env: env.max_steps or None,  # 0 means no limit
        mdp_ended=lambda _: False,  # the warehouse never closes: its limit on idle steps is a cut too
        picture=warehouse,
        action_names=("stay", "forward", "left", "right", "load"),
    ),
    Family(
        name="Multi-Particle Environments (PettingZoo)",
        package="mpe2",
        examples=("mpe2.simple_spread_v3", "mpe2.simple_speaker_listener_v4", "mpe2.simple_tag_v3"),
        extra="pettingzoo",
        extra_packages=("pettingzoo",),
        bare_prefix="simple",
        home="mpe2.",
    ),
    Family(
        name="MaMuJoCo (robots whose joints are agents)",
        package="gymnasium_robotics",
        examples=("mamujoco:HalfCheetah-2x3", "mamujoco:Ant-2x4", "mamujoco:Walker2d-2x3"),
        extra="mamujoco",
        extra_packages=("mujoco",),
        scheme="mamujoco",
        maker="endmark.envs.mamujoco:make_mamujoco",
    ),
    Family(
        name="SMAX (StarCraft-like, JaxMARL)",
        package="jaxmarl",
        examples=("smax:3m", "smax:8m", "smax:2s3z", "smax:5m_vs_6m", "smax:smacv2_5_units"),
        extra="jaxmarl",
        scheme="smax",
        maker="endmark.envs.jaxmarl_adapter:smax",
        batched=True,
    ),
    Family(
        name="JaxMARL's other environments",
        package="jaxmarl",
        examples=("jaxmarl:overcooked", "jaxmarl:hanabi", "jaxmarl:MPE_simple_spread_v3"),
        extra="jaxmarl",
        scheme="jaxmarl",
        maker="endmark.envs.jaxmarl_adapter:jaxmarl_env",
        batched=True,
    ),
    Family(
        name="VMAS (physics in two dimensions)",
        package="vmas",
        examples=("vmas:balance", "vmas:transport", "vmas:navigation", "vmas:wheel", "vmas:simple_spread"),
        extra="vmas",
        scheme="vmas",
        maker="endmark.envs.vmas_adapter:vmas_env",
        batched=True,
    ),
    Family(
        name="StarCraft, and all with PyMARL's methods",
        package="smac",  # on PyPI, this name belongs to a tuner of hyperparameters
        examples=("pymarl:smac.env:StarCraft2Env",),
        source="git+https://github.com/oxwhirl/smac",
        scheme="pymarl",
        maker="endmark.envs.pymarl_adapter:make_pymarl",
    ),
    Family(
        name="SMAClite (in EPyMARL's wrapper)",
        package="smaclite",
        examples=("pymarl:envs.smaclite_wrapper:SMACliteWrapper",),
        source="git+https://github.com/uoe-agents/smaclite",
        env_class="smaclite.env.smaclite.SMACliteEnv",
        clear=_forget_actions,
    ),
    Family(
        name="Matrix games",
        package="endmark",
        examples=("matrix:climbing", "matrix:penalty", "matrix:two-step"),
        scheme="matrix",
        maker="endmark.envs.matrix_games:make_game",
    ),
    Family(
        name="Tasks that need memory",
        package="endmark",
        examples=("memory:t-maze",),
        scheme="memory",
        maker="endmark.envs.t_maze:make_memory",
    ),
)


def installed() -> list[Family]:
    """All families, whether installed or not: `is_installed` and `version` tell. Imports no package."""
    return list(FAMILIES)


def family_of(unwrapped: object) -> Family | None:
    """The family whose `env_class` is the class of this environment or one of its bases."""
    for base in type(unwrapped).__mro__:
        name = f"{base.__module__}.{base.__qualname__}"
        for family in FAMILIES:
            if family.env_class == name:
                return family
    return None


def family_of_scheme(scheme: str) -> Family | None:
    """The family whose ids begin with `scheme:`."""
    return next((family for family in FAMILIES if family.scheme == scheme), None)


def how_to_install(package: str) -> str:
    """What to do about a package that cannot be imported."""
    for family in FAMILIES:
        if package in (family.package, *family.extra_packages):
            return family.install
    # No command for an unknown name: misspelt, it may be somebody else's package on PyPI.
    return "install it, or start in the directory that holds it, or correct the name (see `endmark envs`)"
