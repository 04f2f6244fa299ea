"""Rows that hold several episodes: how they are read, what the audit finds in them, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from endmark.audit import (
    DONES,
    EPISODE_STARTS,
    ON_POLICY,
    AuditError,
    Case,
    Rows,
    audit,
    audit_learner,
    buffer_fields,
    with_buffer_fields,
)
from endmark.audit.layout import view_of
from endmark.audit.rows import RowsView
from support.buffers import AGENTS, FIELDS, ROWS, Buffer, T, Trainer, ready, train


def view_of_buffer(**options: Any) -> RowsView:
    view = view_of(Case(lambda _: torch.zeros(()), buffer_fields(Buffer()), **{**FIELDS, **options}))
    assert isinstance(view, RowsView)
    return view


def test_cells_by_a_loop() -> None:
    """Each cell is a step, the frame that a row is cut off at, or a first frame that nobody acted on."""
    view, buffer = view_of_buffer(), Buffer()
    for row in range(ROWS):
        episode = 0
        for t in range(T + 1):
            begins = t > 0 and bool(buffer.masks[t, row, 0, 0] == 0)
            episode += begins
            assert int(view.segment[row, t]) == episode
            assert bool(view.steps[row, t]) == (t < T)
            assert bool(view.frames[row, t]) == (t < T or not begins)
            assert bool(view.cut[row, t]) == (t == T and not begins)
            truncated = t < T and buffer.masks[t + 1, row, 0, 0] == buffer.bad_masks[t + 1, row, 0, 0] == 0
            assert bool(view.optional[row, t]) == truncated
            assert view.alive is not None
            assert view.alive[row, t].tolist() == [bool(x) for x in buffer.active_masks[t, row, :, 0]]
    assert int(view.optional.sum()) == 1
    assert not view.terminal.any()


def test_the_batch_comes_back_as_it_was() -> None:
    """Arrays as arrays, of the same type and shape, and with the same content; never the same memory."""
    view, fields = view_of_buffer(), buffer_fields(Buffer())
    back = view.to_batch()
    assert {*back} == {*fields}
    for name, array in fields.items():
        assert type(back[name]) is type(array)
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)
    back["obs"][...] = 9
    assert not (view.to_batch()["obs"] == 9).any()
    two = view.select([2, 0]).to_batch()
    np.testing.assert_array_equal(two["returns"], fields["returns"][:, [2, 0]])
    np.testing.assert_array_equal(two["actions"], fields["actions"][:, [2, 0]])


def test_actions_are_disturbed_as_whole_numbers() -> None:
    view = view_of_buffer()
    assert view.tensors["actions"].dtype == torch.int64
    assert view.tensors["rewards"].is_floating_point()


@pytest.mark.parametrize(("seed", "normalise"), [(0, False), (1, False), (2, True)])
def test_a_right_learner_is_clean(seed: int, normalise: bool) -> None:
    report = ready(seed=seed, normalise=normalise)(quick=seed > 0)
    assert report.leaks == ()
    assert {finding.severity for finding in report.findings} <= {"coupling", "fragile"}
    assert report.missing_cases == ()
    assert report.left_alone == ("returns",)
    shared = "the rows share statistics, which hide what passes a seam: nothing could be tried"
    assert report.skipped.get("reset") == (shared if normalise else None)
    assert {*report.skipped} - {"reset"} == {"padding", "causality", "empty"}


@pytest.mark.parametrize(
    ("bug", "probe"), [("memory", "reset"), ("auto-reset", "reset"), ("end", "reset"), ("active", "agents")]
)
def test_bugs(bug: str, probe: str) -> None:
    report = ready(bug)(probes=[probe])
    assert probe in {finding.probe for finding in report.leaks}
    if probe == "reset":
        (finding,) = (finding for finding in report.leaks if finding.probe == "reset")
        seams = {(0, 2), (0, 5), (1, 4), (3, 3)}
        assert {*finding.cells} <= seams
        assert bug != "auto-reset" or finding.cells == ((1, 4),)


def test_truncated_steps_may_be_left_out_and_others_not() -> None:
    """Without the field `cut`, the audit asks why the step carries no weight."""
    learner, buffer = Trainer(), Buffer()
    options = {**FIELDS, "rows": replace(ON_POLICY, cut=None)}
    report = audit_learner(learner, buffer, train, probes=["weight"], **options)
    weightless = [finding for finding in report.leaks if finding.probe == "weight"]
    assert [finding.cells for finding in weightless] == [((1, 3),)]
    assert audit_learner(learner, buffer, train, probes=["weight"], **FIELDS).leaks == ()


# --- other layouts ---


def tensors_of(*, right: bool = True) -> tuple[dict[str, Tensor], nn.Module, Any]:
    """Tensors (T, rows) as CleanRL has them, and a loss of one-step targets inside the row."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Linear(3, 1)
    batch = {
        "obs": torch.randn(6, 3, 3, generator=generator),
        "rewards": torch.randn(6, 3, generator=generator),
        "dones": torch.zeros(6, 3),
    }
    batch["dones"][3, 0] = batch["dones"][2, 1] = batch["dones"][4, 2] = 1

    def loss(given: dict[str, Tensor]) -> Tensor:
        values = net(given["obs"])[..., 0]
        following = values[1:] if not right else torch.where(given["dones"][1:] == 1, 0.0, values[1:])
        target = given["rewards"][:-1] + 0.9 * following.detach()
        last = (values[-1] - given["rewards"][-1]).square()
        total: Tensor = ((target - values[:-1]).square().sum() + last.sum()) / values.numel()
        return total

    return batch, net, loss


@pytest.mark.parametrize("layout", ["dones", "starts", "ends"])
def test_layouts_of_tensors(layout: str) -> None:
    options: dict[str, Any] = {"frame_fields": ("obs",), "step_fields": ("rewards",), "reward": "rewards"}
    for right in (True, False):
        batch, net, loss = tensors_of(right=right)
        given = loss
        if layout == "dones":
            rows = DONES
        elif layout == "starts":
            rows = EPISODE_STARTS
            batch["episode_starts"] = batch.pop("dones")

            def given(b: dict[str, Tensor], loss: Any = loss) -> Any:
                return loss({**b, "dones": b["episode_starts"]})
        else:
            rows = Rows(ends="ended", time_major=False)
            ended = torch.cat([batch.pop("dones")[1:], torch.zeros(1, 3)])
            batch = {name: x.transpose(0, 1).contiguous() for name, x in {**batch, "ended": ended}.items()}

            def given(b: dict[str, Tensor], loss: Any = loss) -> Any:
                turned = {name: x.transpose(0, 1) for name, x in b.items()}
                return loss(
                    {**turned, "dones": torch.cat([torch.zeros(1, len(b["obs"])), turned["ended"][:-1]])}
                )

        report = audit(Case(given, batch, net, rows=rows, **options))
        assert {finding.probe for finding in report.leaks} == (set() if right else {"reset"})
        assert (report.findings == ()) == right


def test_what_cannot_be_read() -> None:
    def refusal(**options: Any) -> str:
        with pytest.raises(AuditError) as caught:
            view_of_buffer(**options)
        return str(caught.value)

    assert refusal(rows=Rows()) == "rows: given starts=None and ends=None, want one of the two"
    assert refusal(rows=Rows(starts="a", ends="b")).startswith("rows: given starts='a' and ends='b'")
    assert refusal(rows=DONES).startswith("rows: no field 'dones' in the batch; it has obs, actions, rewards")
    assert refusal(frame_fields=("image",)).startswith(
        "frame_fields: no field 'image' in the batch; it has obs"
    )
    assert refusal(rows=Rows(starts="actions", time_major=False)) == (
        f"field 'obs': given {T + 1} rows of {ROWS} columns, want {T} rows of {ROWS} or {ROWS - 1} columns, "
        "like 'actions'"
    )
    fields = buffer_fields(Buffer())
    fields["masks"][3, 0, 1] = 0
    with pytest.raises(AuditError, match="field 'masks': row 0, t 3: given different flags for its agents"):
        view_of(Case(lambda _: torch.zeros(()), fields, **FIELDS))


def test_several_episodes_in_a_row_without_a_layout_are_told() -> None:
    filled = torch.ones(2, 8, 1)
    terminated = torch.zeros(2, 8, 1)
    terminated[1, 2] = terminated[1, 6] = 1
    batch = {
        "obs": torch.randn(2, 8, 3),
        "reward": torch.randn(2, 8, 1),
        "filled": filled,
        "terminated": terminated,
    }
    with pytest.raises(AuditError) as caught:
        view_of(Case(lambda _: torch.zeros(()), batch))
    assert str(caught.value).startswith(
        "row 1: terminated at t 2 and again at t 6, all filled: several episodes"
    )
    assert "Case(rows=Rows(ends='terminated', time_major=False))" in str(caught.value)
    rows = Rows(ends="terminated", time_major=False)
    view = view_of(Case(lambda _: torch.zeros(()), batch, rows=rows))
    assert isinstance(view, RowsView)
    assert view.segment[1].tolist() == [0, 0, 0, 1, 1, 1, 1, 2]
    terminated[1, 6] = 0  # frames after the end that are still filled are no second episode
    view_of(Case(lambda _: torch.zeros(()), batch))
    with pytest.raises(AuditError, match="or rows= for a buffer of arrays"):
        audit_learner(Trainer(), Buffer(), train)


def test_buffers_of_several_parts() -> None:
    """A buffer for each agent and one for the critic, as HARL has."""
    parts = [Buffer(0), Buffer(1)]
    fields = buffer_fields(parts)
    assert {"0.obs", "1.obs"} <= {*fields}
    assert fields["1.obs"] is parts[1].obs
    other = with_buffer_fields(parts, {name: x[:, :2] for name, x in fields.items()})
    assert [part.n_rollout_threads for part in other] == [2, 2]
    assert [part.obs.shape for part in other] == [(T + 1, 2, AGENTS, 3)] * 2
    assert [part.n_rollout_threads for part in parts] == [ROWS, ROWS]
    np.testing.assert_array_equal(other[1].obs, parts[1].obs[:, :2])
