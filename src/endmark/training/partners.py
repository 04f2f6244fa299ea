"""A run's partners: frozen policies, named on the command line, that act for the agents that do not learn."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from endmark.episodes import EpisodeSpec
from endmark.policies import Member, Partners, Policy, Scripted, Seating
from endmark.run import CONFIG, WEIGHTS, RunError
from endmark.training.config import TrainConfig
from endmark.training.load import load, load_config
from endmark.wording import joined, one_line

PIN = "@sha256:"
"""Between a run directory and the hash of its weights, as in a run's config."""


class Source(NamedTuple):
    """Where a member comes from: the directory and checkpoint of a run, or `module:function`.

    role: what an error calls it.
    """

    name: str
    directory: Path | None
    checkpoint: str
    sha256: str | None
    role: str = "partner"


def pinned(config: TrainConfig[Any]) -> TrainConfig[Any]:
    """The config with its partners one by one, each run by its absolute path and the hash of its weights.

    RunError for one that is none, or that has other weights than its hash says.
    """
    return replace(config, partners=tuple(map(pin, sources(config.partners))))


def pin(source: Source) -> str:
    """The source by its absolute path and the hash of its weights; `module:function` as it is.

    RunError where there are no weights, or others than its hash says.
    """
    if source.directory is None:
        return source.name
    path = source.directory.resolve()
    path = path if source.checkpoint == WEIGHTS else path / source.checkpoint
    return f"{path}{PIN}{_hash(source)}"


def load_partners(config: TrainConfig[Any], spec: EpisodeSpec) -> Partners | None:
    """The run's partners, for environments of this spec; None without.

    RunError for a partner that is none, or that was trained on another environment or with other shapes.
    Loading sets torch's seed, as loading a run does.
    """
    if not config.partners:
        return None
    if spec.n_agents == 1:
        raise RunError(f"partners: given some, want none: {config.env} has a single agent")
    named = sources(config.partners)
    try:
        seating = Seating(
            spec.n_agents,
            len(named),
            learners=config.learners,
            learner_agents=config.learner_agents,
            together=config.together,
        )
    except ValueError as error:
        raise RunError(str(error)) from None
    members = [load_member(source, config, spec)[0] for source in named]
    torch.set_num_threads(config.threads)  # rather than those of the last member's run
    return Partners(members, seating)


def sources_of(partners: tuple[str, ...]) -> list[str]:
    """The names of the members, one by one."""
    return [source.name for source in sources(partners)]


def sources(given: Iterable[str], role: str = "partner") -> list[Source]:
    """The members that these words of the command line name, one by one.

    RunError for a word that names none.
    """
    return [source._replace(role=role) for word in given for source in _expanded(word, role)]


def _expanded(given: str, role: str) -> list[Source]:
    """The members that one word of the command line names: a script, a run, or a folder of runs."""
    name, _, sha256 = given.partition(PIN)
    path = Path(name)
    if ":" in name and not path.exists():
        return [Source(name, None, "", None)]
    checkpoint = WEIGHTS
    if path.suffix == ".safetensors":
        path, checkpoint = path.parent, path.name
    if (path / CONFIG).exists():
        return [Source(name, path, checkpoint, sha256 or None)]
    if not path.is_dir():
        raise RunError(f"{role} {name}: no such directory, want a run, a folder of runs, or module:function")
    if checkpoint != WEIGHTS or sha256:
        raise RunError(f"{role} {name}: no run directory, as it holds no {CONFIG}")
    runs = sorted(run for run in path.iterdir() if (run / CONFIG).exists())
    if not runs:
        raise RunError(f"{role} {name}: neither a run directory nor a folder with runs in it")
    return [Source(str(run), run, WEIGHTS, None) for run in runs]


def _hash(source: Source) -> str:
    assert source.directory is not None
    try:
        content = (source.directory / source.checkpoint).read_bytes()
    except OSError as error:
        raise RunError(f"{source.role} {source.name}: no weights in it: {joined(error)}") from None
    sha256 = hashlib.sha256(content).hexdigest()
    if source.sha256 not in (None, sha256):
        raise RunError(f"{source.role} {source.name}: its weights are not those that this run began with")
    return sha256


def load_member(
    source: Source, config: TrainConfig[Any], spec: EpisodeSpec
) -> tuple[Member, TrainConfig[Any] | None]:
    """The member for `config`'s environments, which have this spec, and the configuration of its run.

    RunError for one that is none, or that was trained on another environment or with other shapes. The
    networks are on `config`'s device; torch's seed and threads are set as loading a run sets them.
    """
    if source.directory is None:
        return _script(source), None
    _hash(source)
    theirs = load_config(source.directory)
    if theirs.env != config.env:
        raise RunError(f"{source.role} {source.name}: trained on {theirs.env}, want {config.env}")
    try:
        its_config, learner = load(source.directory, source.checkpoint, device=config.device)
    except ValueError as error:  # of the run, its environment or its algorithm
        raise RunError(f"{source.role} {source.name}: {joined(error)}") from None
    for name, field in spec.fields.items():
        if (given := learner.spec.fields.get(name)) != field:
            what = "nothing" if given is None else f"shape {given.shape}"
            raise RunError(
                f"{source.role} {source.name}: field '{name}': given {what}, want shape {field.shape}"
            )
    if learner.spec.n_actions != spec.n_actions:
        given_actions = learner.spec.n_actions
        raise RunError(f"{source.role} {source.name}: given {given_actions} actions, want {spec.n_actions}")
    if learner.spec.bounds != spec.bounds:
        raise RunError(f"{source.role} {source.name}: given actions within other bounds than here")
    learner.networks.requires_grad_(False)

    def policy(n_envs: int, generator: torch.Generator) -> Policy:  # noqa: ARG001 - it is greedy
        return learner.greedy_policy(n_envs)

    return Member(source.name, policy), its_config


def _script(source: Source) -> Member:
    role, name = source.role, source.name
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a foreign module may raise anything
        said = one_line(error) if isinstance(error, SystemExit) else joined(error) or type(error).__name__
        raise RunError(f"{role} {name}: cannot import '{module_name}': {said}") from error
    script = getattr(module, function_name, None)
    if not callable(script):
        raise RunError(f"{role} {name}: the module '{module_name}' has no function '{function_name}'")

    def policy(n_envs: int, generator: torch.Generator) -> Policy:  # noqa: ARG001 - it remembers nothing
        return Scripted(script, generator, name)

    return Member(name, policy)
