"""Worker processes play what one process plays, and survive what environments do to them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial

import pytest
import torch

from endmark.envs import ContractError, Environment
from endmark.episodes import EpisodeBatch
from endmark.policies import Policy, RandomPolicy
from endmark.rollout import InProcess, Lockstep, VectorEnv, WorkerError, Workers, WorkerWarning, play
from support.scripted import ByObservation, Scripted, length_of
from support.troubled import (
    InConstructor,
    InReset,
    InStep,
    KeepsActions,
    Trouble,
    workers_alive,
)

SPEC = Scripted().spec
LONG = 7  # the seed of an episode of 9 steps


@contextmanager
def rollout_of(
    make_env: Callable[[], Environment],
    seeds: Iterable[int],
    workers: int = 1,
    envs_per_worker: int = 1,
    timeout: float = 60.0,
) -> Iterator[Lockstep]:
    envs = Workers(make_env, SPEC, workers=workers, envs_per_worker=envs_per_worker, timeout=timeout)
    with closing(envs):
        yield Lockstep(envs, seeds)


def here_of(make_env: Callable[[], Environment], n_envs: int, seeds: Iterable[int]) -> Lockstep:
    return Lockstep(InProcess([make_env() for _ in range(n_envs)]), seeds)


def collect_all(rollout: Lockstep, policy: Policy) -> list[EpisodeBatch]:
    episodes = []
    while rollout.running:
        episodes += rollout.collect(policy).split()
    return episodes


def seeds_of(episodes: Iterable[EpisodeBatch]) -> list[int]:
    return [int(episode.state[0, 0]) for episode in episodes]


def assert_same(given: EpisodeBatch, want: EpisodeBatch) -> None:
    assert given.spec == want.spec
    assert torch.equal(given.lengths, want.lengths)
    assert torch.equal(given.terminated, want.terminated)
    for name in want.fields:
        assert given[name].dtype == want[name].dtype
        assert torch.equal(given[name], want[name]), name


def assert_whole(episodes: Iterable[EpisodeBatch]) -> None:
    """Each is what one environment alone gives for its seed."""
    for episode in episodes:
        assert_same(episode, play(InProcess([Scripted()]), ByObservation(), seeds_of([episode])))


# --- what they play ---


@pytest.mark.parametrize(("workers", "envs_per_worker"), [(1, 1), (2, 3), (4, 1)])
@pytest.mark.parametrize("reward_per_agent", [False, True])
def test_episodes_are_those_of_one_process(
    workers: int, envs_per_worker: int, reward_per_agent: bool
) -> None:
    """Bit for bit and hand-over by hand-over, with a policy whose random numbers depend on the order."""
    make_env = partial(Scripted, reward_per_agent=reward_per_agent)
    seeds, spec = range(3, 60), make_env().spec
    here = here_of(make_env, workers * envs_per_worker, seeds)
    policies = [RandomPolicy(torch.Generator().manual_seed(4)) for _ in range(2)]
    envs = Workers(make_env, spec, workers=workers, envs_per_worker=envs_per_worker)
    assert isinstance(envs, VectorEnv)
    with closing(envs):
        there = Lockstep(envs, seeds)
        while here.running:
            want, given = here.collect(policies[0]).split(), there.collect(policies[1]).split()
            assert len(given) == len(want)
            for one, other in zip(given, want, strict=True):
                assert_same(one, other)
            assert (there.env_steps, there.episodes) == (here.env_steps, here.episodes)
            assert there.running == here.running
        with pytest.raises(RuntimeError, match="no episode is running"):
            there.collect(policies[1])


def test_a_policy_sees_the_same() -> None:
    seeds, here, there = range(3, 30), ByObservation(), ByObservation()
    collect_all(here_of(Scripted, 4, seeds), here)
    with rollout_of(Scripted, seeds, workers=2, envs_per_worker=2) as rollout:
        collect_all(rollout, there)
    assert torch.equal(torch.stack(there.first), torch.stack(here.first))
    assert torch.equal(torch.stack(there.obs), torch.stack(here.obs))


def test_an_environment_may_keep_what_it_is_given() -> None:
    seeds = range(3, 30)
    want = collect_all(here_of(KeepsActions, 2, seeds), ByObservation())
    with rollout_of(KeepsActions, seeds, workers=2) as rollout:
        for one, other in zip(collect_all(rollout, ByObservation()), want, strict=True):
            assert_same(one, other)


def test_environments_fall_idle_when_the_seeds_are_used_up() -> None:
    with rollout_of(Scripted, [1, 2, 4], workers=2, envs_per_worker=2) as rollout:  # lengths 6, 2, 3
        policy = ByObservation()
        assert [seeds_of(rollout.collect(policy).split()) for _ in range(3)] == [[2], [4], [1]]
        assert not rollout.running
    with rollout_of(Scripted, []) as rollout:
        assert not rollout.running
        with pytest.raises(RuntimeError, match="no episode is running"):
            rollout.collect(ByObservation())


# --- trouble ---

REASONS: dict[Trouble, str] = {
    "kill": "killed by SIGKILL",
    "exit": r"environment 0, seed 7, step 3: SystemExit: the game is gone \(.*troubled\.py:\d+, in \w+\)",
    "raise": r"environment 0, seed \d, .*: RuntimeError: the game is broken \(.*\.py:\d+, in \w+\)",
    "hang": "no answer within 2 s",
}


@pytest.mark.parametrize("trouble", REASONS)
def test_trouble_in_a_step_costs_the_episode_and_no_more(trouble: Trouble) -> None:
    seeds = range(3, 20)
    make_env = partial(InStep, trouble, frozenset([LONG]))
    timeout = 2.0 if trouble == "hang" else 60.0
    said = (
        rf"^worker 0 \(environments 0 to 0\): {REASONS[trouble]}; its running episodes are lost, "
        r"and it was started anew \(its failures so far: 1\)$"
    )
    with rollout_of(make_env, seeds, timeout=timeout) as rollout:
        with pytest.warns(WorkerWarning, match=said) as warned:
            episodes = collect_all(rollout, ByObservation())
        assert len(warned) == 1
        assert seeds_of(episodes) == [seed for seed in seeds if seed != LONG]
        assert_whole(episodes)
        # The three steps before the trouble were taken, too.
        assert rollout.env_steps == sum(episode.n_steps for episode in episodes) + 3
        assert rollout.episodes == len(episodes)


@pytest.mark.parametrize("trouble", ["kill", "raise"])
def test_trouble_when_an_episode_begins(trouble: Trouble) -> None:
    seeds = range(3, 20)
    with rollout_of(partial(InReset, trouble, frozenset([3, LONG])), seeds) as rollout:
        with pytest.warns(WorkerWarning, match=REASONS[trouble]) as warned:
            episodes = collect_all(rollout, ByObservation())
        assert len(warned) == 2
        assert seeds_of(episodes) == [seed for seed in seeds if seed not in (3, LONG)]
        assert_whole(episodes)
        assert rollout.env_steps == sum(episode.n_steps for episode in episodes)


@pytest.mark.parametrize("make_env", [InStep, InReset])
def test_the_other_workers_play_on(make_env: type[InStep | InReset]) -> None:
    """Only what ran in the same worker is lost."""
    seeds = range(3, 60)
    trouble = partial(make_env, "kill", frozenset([LONG, 34]))
    with rollout_of(trouble, seeds, workers=2, envs_per_worker=2) as rollout:
        with pytest.warns(WorkerWarning, match=r"worker [01] \(environments (0 to 1|2 to 3)\)") as warned:
            episodes = collect_all(rollout, ByObservation())
        assert len(warned) == 2
        assert_whole(episodes)
        lost = set(seeds) - set(seeds_of(episodes))
        assert {LONG, 34} <= lost
        assert len(lost) <= 4
        assert len(episodes) == len(seeds) - len(lost)
        assert not rollout.running


def test_a_kill_from_outside_between_two_steps() -> None:
    with rollout_of(Scripted, range(3, 40), workers=2, envs_per_worker=2) as rollout:
        episodes = rollout.collect(ByObservation()).split()
        (victim,) = (c for c in multiprocessing.active_children() if c.name == "endmark worker 1")
        victim.kill()
        victim.join()
        with pytest.warns(WorkerWarning, match="worker 1 .*: killed by SIGKILL"):
            episodes += collect_all(rollout, ByObservation())
        assert_whole(episodes)
        assert len(episodes) >= len(range(3, 40)) - 2


def test_trouble_that_repeats_with_ends_in_between_is_borne() -> None:
    seeds = [LONG, LONG, 3, LONG, LONG, 3]
    with rollout_of(partial(InStep, "raise", frozenset([LONG])), seeds) as rollout:
        with pytest.warns(WorkerWarning) as warned:
            episodes = collect_all(rollout, ByObservation())
        assert len(warned) == 4
        assert seeds_of(episodes) == [3, 3]
        assert rollout.env_steps == 4 * 3 + 2 * length_of(3)


@pytest.mark.parametrize(
    ("make_env", "why"),
    [
        (partial(InReset, "raise", frozenset(range(100))), "RuntimeError: the game is broken"),
        (partial(InReset, "kill", frozenset(range(100))), "killed by SIGKILL"),
        (InConstructor, r"OSError: no game is installed \(.*troubled.py:\d+, in __init__\)"),
    ],
    ids=["raise", "kill", "constructor"],
)
def test_trouble_without_an_end_is_an_error(make_env: Callable[[], Environment], why: str) -> None:
    with rollout_of(make_env, range(100)) as rollout:
        with (
            pytest.warns(WorkerWarning) as warned,
            pytest.raises(
                WorkerError,
                match=r"^worker 0 \(environments 0 to 0\) failed 3 times without the end of an episode in "
                rf"between: .*{why}",
            ) as error,
        ):
            rollout.collect(ByObservation())
        assert len(warned) == 2
        assert "\n" not in str(error.value)
    assert workers_alive() == []


def test_environments_of_another_spec_are_an_error_at_once() -> None:
    said = r"^environment 0: given EpisodeSpec.*, want EpisodeSpec"
    with (
        rollout_of(partial(Scripted, reward_per_agent=True), range(100)) as rollout,
        pytest.raises(ContractError, match=said),
    ):
        rollout.collect(ByObservation())
    assert workers_alive() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers: given 0, want at least 1"),
        ({"envs_per_worker": -1}, "envs_per_worker: given -1, want at least 1"),
        ({"timeout": 0.0}, "timeout: given 0.0, want more than 0 seconds"),
        ({"make_env": lambda: Scripted()}, "make_env: given <function .*, which cannot be pickled: "),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    defaults: dict[str, object] = {"make_env": Scripted, "workers": 1, "envs_per_worker": 1, "timeout": 60.0}
    with pytest.raises(ValueError, match=message):
        Workers(spec=SPEC, **defaults | options)  # type: ignore[arg-type]
    assert workers_alive() == []
