"""What a run is made of: its configuration, from and to the JSON of a run directory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from endmark.algorithms import AlgorithmConfig
from endmark.algorithms.named import config_class, name_of
from endmark.envs import arguments
from endmark.wording import shown

A = TypeVar("A", bound=AlgorithmConfig)


@dataclass(frozen=True)
class TrainConfig(Generic[A]):
    """What to train, on what, and for how long."""

    algorithm: Annotated[A, tyro.conf.arg(name="")]
    """The algorithm's settings."""
    env: str
    """An id as `endmark envs` shows them, such as lbforaging:Foraging-5x5-2p-1f-v3, or module:Class."""
    env_arg: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An argument of the environment's constructor, as key=value; the value is JSON, or else a string."""
    partners: tuple[str, ...] = ()
    """Frozen policies that act for the other agents: run directories, folders of them, or module:function.
    Who sits where in an episode is drawn from its seed."""
    learners: int = 1
    """With partners: agents of an episode that the learner acts for, and learns from."""
    learner_agents: tuple[int, ...] | None = None
    """With partners: agents that the learner may act for; None: any."""
    together: int | None = None
    """With partners: how many of the other agents follow one partner, where each of the rest follows one of
    its own; None: all."""
    steps: int = 100_000
    """Environment steps to train for."""
    seed: int = 0
    """Seed of everything; on a CPU, the same seed gives the same run bit for bit."""
    n_envs: int = 8
    """Environments that are played side by side."""
    workers: int = 0
    """Processes that step the environments; 0: in this process. For slow environments."""
    worker_timeout: float = 60.0
    """Seconds until a process that does not answer is replaced."""
    ray_actors: int = 0
    """Processes on a Ray cluster that play whole episodes, each with its share of the environments and a copy
    of the policy; 0: none."""
    ray_address: str | None = None
    """With Ray actors: the cluster, as `auto` or HOST:PORT; None: one of this run's own, on this machine."""
    weights_every: int = 1
    """With Ray actors: updates until an actor gets new weights, with its next request."""
    overlap: bool = False
    """Collect the next episodes, with the last weights, while updates run; as reproducible as in turn."""
    log_every: int = 1_000
    """Environment steps between two lines of training metrics."""
    eval_every: int = 5_000
    """Environment steps between two greedy evaluations, each of which ends in a checkpoint."""
    save_every: float = 300.0
    """Seconds between two states from which `endmark resume` goes on; one is also saved when the run ends."""
    eval_episodes: int = 32
    """Episodes of such an evaluation, always from the same seeds."""
    final_episodes: int = 100
    """Episodes of the evaluation at the end, greedy beside random."""
    episode_limit: int | None = None
    """Cut episodes after this many steps; needed only for an environment without a limit of its own."""
    store_replay: bool = True
    """Store the episodes that are held for learning at the end, for `endmark inspect`."""
    log_to: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Trackers of metrics beside TensorBoard, which is used where it is installed."""
    device: str = "auto"
    """Where the networks are: auto (a GPU if torch sees one), cpu, cuda, cuda:1, ..."""
    threads: int = 1
    """Threads of torch on the CPU. Few agents and small networks are fastest with one."""

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "n_envs",
            "log_every",
            "eval_every",
            "eval_episodes",
            "final_episodes",
            "threads",
            "weights_every",
        ):
            if (given := getattr(self, name)) < 1:
                raise ValueError(f"{name}: given {given}, want at least 1")
        for name in ("save_every", "worker_timeout"):
            if not 0 < (given := getattr(self, name)) < math.inf:  # JSON, which keeps it, has no infinity
                raise ValueError(f"{name}: given {given}, want more than 0 seconds, and finite")
        for name in ("workers", "ray_actors"):
            if (given := getattr(self, name)) < 0:
                raise ValueError(f"{name}: given {given}, want at least 0")
            if given > 0 and self.n_envs % given != 0:
                raise ValueError(f"n_envs: given {self.n_envs}, want a multiple of {given}, the {name}")
        if self.workers and self.ray_actors:
            raise ValueError(f"workers: given {self.workers} beside ray_actors, want one of them")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: given {self.seed}, want 0 <= seed < 2**63")
        for name, needs, alone in [
            ("learners", "partners", 1),
            ("learner_agents", "partners", None),
            ("together", "partners", None),
            ("ray_address", "ray_actors", None),
            ("weights_every", "ray_actors", 1),
        ]:
            if (given := getattr(self, name)) != alone and not getattr(self, needs):
                raise ValueError(f"{name}: given {given} without {needs}, want {needs} beside it")
        _ = self.env_args

    @property
    def name(self) -> str:
        """The algorithm's name."""
        return name_of(self.algorithm)

    @property
    def env_args(self) -> dict[str, Any]:
        """`env_arg` as keyword arguments."""
        return arguments(self.env_arg)

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON has it: the algorithm's settings under `algorithm`, beside its name."""
        return dataclasses.asdict(self) | {
            "algorithm": {"name": self.name, **dataclasses.asdict(self.algorithm)}  # type: ignore[call-overload]
        }


def from_json(raw: Mapping[str, Any]) -> TrainConfig[Any]:
    """The configuration that `to_json` wrote; ValueError, which names the setting, if it is none.

    A setting that is missing has its default: an older version may not have had it.
    """
    algorithm = raw.get("algorithm")
    if not isinstance(algorithm, Mapping) or not isinstance(algorithm.get("name"), str):
        raise ValueError("algorithm: want an object with the algorithm's name and settings")
    kind = config_class(algorithm["name"])
    settings = _settings(kind, _renewed(kind, algorithm), "algorithm.")
    own = _settings(TrainConfig, {k: v for k, v in raw.items() if k != "algorithm"})
    if "env" not in own:
        raise ValueError("env: missing, want an environment's id")
    try:
        made = kind(**settings)
    except ValueError as error:
        raise ValueError(f"algorithm.{error}") from None
    return TrainConfig(algorithm=made, **own)


def _renewed(kind: type[Any], algorithm: Mapping[str, Any]) -> dict[str, Any]:
    """An algorithm's settings without its name, and by their present names: `share_parameters` is old."""
    settings = {name: value for name, value in algorithm.items() if name != "name"}
    has = {field.name for field in dataclasses.fields(kind)}
    old = settings.get("share_parameters")
    if isinstance(old, bool) and "share" in has and "share_parameters" not in has:
        del settings["share_parameters"]
        settings = {"share": "all" if old else "none"} | settings
    return settings


def _settings(kind: type[Any], raw: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values as `kind` takes them; ValueError for one that it has not, or of another type."""
    types = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    settings = {}
    for name, value in raw.items():
        if name not in names:
            known = ", ".join(names)
            raise ValueError(f"{prefix}{shown(name)}: no such setting, want one of {known}")
        settings[name] = _value(f"{prefix}{name}", value, types[name])
    return settings


def _value(name: str, value: Any, kind: Any) -> Any:
    """A value from JSON as this type has it; True is no number, and 3 is a float, too."""
    origin, choices = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in choices:
            return None
        (kind,) = [choice for choice in choices if choice is not NoneType]
        return _value(name, value, kind)
    if origin is Literal and value in choices and isinstance(value, type(choices[0])):
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_value(f"{name}[{i}]", item, choices[0]) for i, item in enumerate(value))
    if kind is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    is_small = not isinstance(value, int) or abs(value) < 2**63
    if isinstance(kind, type) and type(value) is kind and is_small:
        return value
    wants = {
        Literal: f"one of {', '.join(map(str, choices))}",
        tuple: "a list",
        int: "an integer below 2**63",
    }
    want = wants.get(origin or kind) or getattr(kind, "__name__", str(kind))
    raise ValueError(f"{name}: given {shown(value)}, want {want}")
