from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch

from endmark.episodes import EpisodeBatch, EpisodeSpec, Field
from support.helpers import EXTRA, make_spec, random_batch


def test_standard_fields() -> None:
    spec = make_spec(n_agents=3, n_actions=4, limit=7)
    assert dict(spec.fields) == {
        "obs": Field((3, 5), torch.float32),
        "avail_actions": Field((3, 4), torch.bool),
        "alive": Field((3,), torch.bool),
        "actions": Field((3,), torch.int64, per="step"),
        "reward": Field((), torch.float32, per="step"),
        "state": Field((4,), torch.float32),
    }
    assert not spec.reward_per_agent
    assert (spec.n_agents, spec.n_actions, spec.episode_limit) == (3, 4, 7)


def test_options() -> None:
    spec = make_spec(state=False, reward_per_agent=True, extra=True)
    assert "state" not in spec.fields
    assert spec.fields["reward"].shape == (3,)
    assert spec.reward_per_agent
    assert spec.fields["goal"] == EXTRA["goal"]
    assert spec.frame_fields.keys() == {"obs", "avail_actions", "alive", "goal"}
    assert spec.step_fields.keys() == {"actions", "reward", "log_prob"}
    assert spec.outcomes == ("win",)


def test_equal_by_content() -> None:
    spec = make_spec()
    same = EpisodeSpec(3, 4, 7, dict(reversed(list(spec.fields.items()))))
    assert spec == same
    assert hash(spec) == hash(same)
    others = [
        make_spec(n_agents=2),
        make_spec(n_actions=5),
        make_spec(limit=8),
        make_spec(state=False),
        make_spec(reward_per_agent=True),
        make_spec(extra=True),
        make_spec(obs_dtype=torch.float64),
    ]
    assert all(spec != other for other in others)
    assert len({spec, same, *others}) == 1 + len(others)
    assert spec != "spec"


def test_frozen() -> None:
    fields = dict(make_spec().fields)
    spec = EpisodeSpec(3, 4, 7, fields)
    with pytest.raises(FrozenInstanceError):
        spec.n_agents = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        spec.fields["more"] = Field((), torch.bool)  # type: ignore[index]
    fields.clear()
    assert spec == make_spec()


def test_copies_and_pickles() -> None:
    spec = make_spec(extra=True)
    for other in (copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert other == spec
        assert other is not spec


@pytest.mark.parametrize("name", ["n_agents", "n_actions", "episode_limit"])
@pytest.mark.parametrize("given", [0, -1])
def test_counts_start_at_one(name: str, given: int) -> None:
    changed: dict[str, Any] = {name: given}
    with pytest.raises(ValueError, match=f"{name}: given {given}, want at least 1"):
        replace(make_spec(), **changed)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("avail_actions", Field((3, 4), torch.uint8)),
        ("avail_actions", Field((4, 3), torch.bool)),
        ("alive", Field((2,), torch.bool)),
        ("alive", Field((3,), torch.bool, per="step")),
        ("actions", Field((3,), torch.int32, per="step")),
        ("actions", Field((3, 1), torch.int64, per="step")),
        ("actions", Field((3,), torch.int64)),
        ("obs", Field((4, 3), torch.float32)),
        ("obs", Field((), torch.float32)),
        ("reward", Field((2,), torch.float32, per="step")),
        ("avail_actions", None),
        ("alive", None),
        ("actions", None),
        ("obs", None),
        ("reward", None),
    ],
)
def test_standard_fields_are_what_they_are(name: str, field: Field | None) -> None:
    fields = dict(make_spec().fields)
    del fields[name]
    if field is not None:
        fields[name] = field
    with pytest.raises(ValueError, match=f"field '{name}': given .*, want"):
        EpisodeSpec(3, 4, 7, fields)


@pytest.mark.parametrize("name", ["obs", "reward", "state"])
def test_an_extra_field_may_not_replace_a_standard_one(name: str) -> None:
    options: dict[str, Any] = {"n_agents": 2, "n_actions": 2, "episode_limit": 3, "obs_shape": (1,)}
    with pytest.raises(ValueError, match=f"extra field '{name}': this name is taken"):
        EpisodeSpec.of(**options, state_shape=(2,), extra={name: Field((), torch.float32)})


def test_outcomes() -> None:
    options: dict[str, Any] = {"n_agents": 2, "n_actions": 2, "episode_limit": 3, "obs_shape": (1,)}
    spec = EpisodeSpec.of(**options, outcomes=("win", "score"))
    assert spec.outcomes == ("win", "score")
    assert spec.fields["win"] == Field((), torch.float32, per="end")
    assert {"win", "score"}.isdisjoint({*spec.frame_fields, *spec.step_fields})
    assert pickle.loads(pickle.dumps(spec)).outcomes == ("win", "score")
    assert spec.agent().outcomes == EpisodeSpec.of(**options).outcomes == ()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"outcomes": ["reward"]}, "outcome 'reward': this name is taken by a standard field"),
        ({"outcomes": ["win", "win"]}, "outcome 'win': this name is taken by an outcome"),
        (
            {"outcomes": ["win"], "extra": {"win": Field((), torch.int64)}},
            "extra field 'win': this name is taken by an outcome",
        ),
        ({"outcomes": ["return"]}, "outcome 'return': every episode has one of this name, want another"),
        ({"outcomes": ["mask"]}, "field 'mask': this name has a meaning of its own"),
        (
            {"extra": {"win": Field((2,), torch.float32, per="end")}},
            "field 'win': given .*one number an episode",
        ),
        ({"extra": {"win": Field((), torch.bool, per="end")}}, "field 'win': given .*one number an episode"),
    ],
)
def test_an_outcome_is_one_number_under_a_name_of_its_own(changed: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"n_agents": 2, "n_actions": 2, "episode_limit": 3, "obs_shape": (1,)}
    with pytest.raises(ValueError, match=message):
        EpisodeSpec.of(**(options | changed))


@pytest.mark.parametrize("name", ["filled", "terminated", "truncated", "mask", "actions_onehot"])
def test_a_field_may_not_have_the_name_of_a_padded_flag(name: str) -> None:
    """`to_padded` would overwrite it."""
    with pytest.raises(ValueError, match=f"field '{name}': this name has a meaning of its own"):
        replace(make_spec(), fields={**make_spec().fields, name: Field((1,), torch.bool)})


def test_extend_adds_fields() -> None:
    spec, advantage = make_spec(extra=True), Field((3,), torch.float32, per="step")
    more = spec.extend(advantage=advantage, weather=Field((), torch.int64))
    assert dict(more.fields) == {
        **spec.fields,
        "advantage": advantage,
        "weather": Field((), torch.int64),
    }
    assert (more.n_agents, more.n_actions, more.episode_limit) == (3, 4, 7)
    assert "advantage" not in spec.fields
    assert spec.extend() == spec


@pytest.mark.parametrize("name", ["obs", "reward", "state", "log_prob"])
def test_extend_refuses_a_name_that_is_taken(name: str) -> None:
    spec = make_spec(extra=True)
    with pytest.raises(ValueError, match=f"field '{name}': the spec has a field of this name already"):
        spec.extend(**{name: spec.fields[name]})
    with pytest.raises(ValueError, match="field 'filled': this name has a meaning of its own"):
        spec.extend(filled=Field((), torch.bool))


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("reward_per_agent", [False, True])
@pytest.mark.parametrize("n_agents", [1, 3])
def test_one_agent_alone(n_agents: int, reward_per_agent: bool, state: bool) -> None:
    """The state and a shared reward are the team's; further fields are left out."""
    team = make_spec(n_agents=n_agents, state=state, reward_per_agent=reward_per_agent, extra=True)
    assert team.agent() == make_spec(n_agents=1, state=state, reward_per_agent=reward_per_agent)


def test_one_agent_keeps_dtypes() -> None:
    spec = make_spec(obs_dtype=torch.float64)
    spec = replace(spec, fields={**spec.fields, "state": Field((4,), torch.float16)})
    assert spec.agent().fields["obs"] == Field((1, 5), torch.float64)
    assert spec.agent().fields["state"] == Field((4,), torch.float16)


# --- kinds ---


def test_kinds_are_numbered_in_the_order_in_which_they_stand_there() -> None:
    options: dict[str, Any] = {"n_agents": 4, "n_actions": 2, "episode_limit": 3, "obs_shape": (1,)}
    spec = EpisodeSpec.of(kinds=["zealot", "stalker", "zealot", 7], **options)
    assert spec.kinds == (0, 1, 0, 2)
    assert EpisodeSpec.of(kinds=(5, 3, 5, 4), **options) == spec
    assert EpisodeSpec.of(**options).kinds == (0, 0, 0, 0)
    assert EpisodeSpec.of(**options) != spec
    assert copy.deepcopy(spec) == pickle.loads(pickle.dumps(spec)) == spec
    assert spec.extend(log_prob=Field((4,), torch.float32, per="step")).kinds == spec.kinds
    assert spec.agents((1, 2, 3)).kinds == (0, 1, 2)
    assert spec.agent(3).kinds == (0,)
    with pytest.raises(ValueError, match="kinds: given 2 agents, want 4"):
        EpisodeSpec.of(kinds=(0, 1), **options)


@pytest.mark.parametrize("which", [(0,), (1, 2), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("vectors", [False, True])
def test_some_agents_alone(which: tuple[int, ...], vectors: bool) -> None:
    batch = random_batch(1, spec=make_spec(vectors=vectors, kinds=(0, 1, 0)))
    some = batch.agents(which)
    EpisodeBatch(some.spec, some.fields, some.lengths, some.terminated)  # which validates
    assert some.spec.n_agents == len(which)
    for place, n in enumerate(which):
        for name in ("obs", "alive"):
            assert torch.equal(some[name][:, place], batch[name][:, n])
        assert torch.equal(some.steps("actions")[:, place], batch.steps("actions")[:, n])
    assert torch.equal(some.state, batch.state)
    assert torch.equal(some.steps("reward"), batch.steps("reward"))
