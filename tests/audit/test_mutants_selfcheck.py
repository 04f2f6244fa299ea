"""The mutants run, their twins are right, and the two differ: checked without the audit, by plain loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from endmark.audit import Case
from support.mutants import MUTANTS, Mutant

Batch = dict[str, Tensor]
PROBES = (
    "poison",
    "padding",
    "weight",
    "bootstrap",
    "company",
    "seams",
    "causality",
    "purity",
    "empty",
    "agents",
)
SEEDS = range(10)
FEW_SEEDS = range(3)

each_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


def batch_of(case: Case) -> Batch:
    assert isinstance(case.batch, Mapping)
    return {name: tensor.clone() for name, tensor in case.batch.items()}


# What may matter, cell by cell.


def real_steps(batch: Batch) -> list[list[bool]]:
    """By the rule of the design page, for `filled` and `terminated`."""
    rows = []
    for filled, terminated in zip(batch["filled"][..., 0], batch["terminated"][..., 0], strict=True):
        rows.append(
            [
                not terminated[:t].any()
                and bool((filled[: t + 1] != 0).all())
                and bool(filled[t + 1] or terminated[t])
                for t in range(len(filled) - 1)
            ]
        )
    return rows


def cells(case: Case) -> tuple[Tensor, Tensor]:
    """Frames that may matter and columns that carry a step that counts, both (B, columns)."""
    batch = batch_of(case)
    if case.mask is not None or case.lengths is not None:
        if case.mask is not None:
            frames = batch[case.mask] != 0
        else:
            assert case.lengths is not None
            columns = batch[case.frame_fields[0]].shape[1]
            frames = torch.arange(columns) < batch[case.lengths][:, None]
        return frames, batch[case.step_mask] != 0 if case.step_mask else frames
    steps = torch.zeros(batch["filled"].shape[:2], dtype=torch.bool)
    frames = torch.zeros_like(steps)
    for row, real in enumerate(real_steps(batch)):
        for t, is_real in enumerate(real):
            steps[row, t] = frames[row, t] = is_real
        if any(real):
            last = max(t for t, is_real in enumerate(real) if is_real)
            frames[row, last + 1] = case.bootstraps and not batch["terminated"][row, last]
    return frames, steps


def overwrite(x: Tensor, keep: Tensor, generator: torch.Generator) -> Tensor:
    """Other finite values wherever `keep` (B, columns) is not set; integers within the range of its own."""
    if x.dtype == torch.bool:
        other = torch.rand(x.shape, generator=generator) < 0.5
    elif x.is_floating_point():
        other = 3 * torch.randn(x.shape, generator=generator)
    else:
        low, high = int(x.min()), int(x.max())
        other = torch.randint(low, high + 1, x.shape, generator=generator).to(x.dtype)
    return torch.where(keep.view(*keep.shape, *[1] * (x.ndim - 2)), x, other)


def poisoned(case: Case, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    frames, steps = cells(case)
    batch = batch_of(case)
    for name in batch:
        if name in case.frame_fields:
            batch[name] = overwrite(batch[name], frames, generator)
        elif name in case.step_fields:
            batch[name] = overwrite(batch[name], steps, generator)
    return batch


def buried(case: Case, seed: int) -> Batch:
    """Other values for what the dead observe and do."""
    batch = batch_of(case)
    if "alive" in batch:
        generator = torch.Generator().manual_seed(seed)
        for name in {"obs", "actions"} & batch.keys():
            keep = batch["alive"].flatten(0, 1)
            other = overwrite(batch[name].flatten(0, 1), keep, generator)
            batch[name] = other.view_as(batch[name])
    return batch


def more_columns(case: Case, seed: int) -> Batch:
    columns = cells(case)[0].shape[1]
    return {
        name: torch.cat([x, torch.zeros_like(x[:, :3])], 1) if x.shape[1:2] == (columns,) else x
        for name, x in batch_of(case).items()
    }


def more_rows(case: Case, seed: int) -> Batch:
    return {name: torch.cat([x, torch.zeros_like(x[:2])]) for name, x in batch_of(case).items()}


def twice(case: Case, seed: int) -> Batch:
    return {name: torch.cat([x, x]) for name, x in batch_of(case).items()}


def permuted(case: Case, seed: int) -> Batch:
    return {name: x.flip(0) for name, x in batch_of(case).items()}


def emptied(case: Case, seed: int) -> Batch:
    flags = ("filled", "terminated", "truncated", case.mask, case.lengths, case.step_mask)
    return {name: torch.zeros_like(x) if name in flags else x for name, x in batch_of(case).items()}


DISTURBANCES: tuple[Callable[[Case, int], Batch], ...] = (
    poisoned,
    buried,
    more_columns,
    more_rows,
    twice,
    permuted,
)


NO_PADDING = {"more_columns", "more_rows"}  # its batches never have any
BY_PLACE = {"twice", "permuted"}  # its noise is drawn for each cell

MINDS: Mapping[str, set[str]] = {
    "sarsa_with_a_mask_of_frames": {
        "poisoned"
    },  # the next action at a cut, which the table lists as a step's
    "coma_next_action_after_the_end": {"poisoned"},
    "returns_added_in_the_buffer": {*NO_PADDING, "emptied", "written"},  # GAE's way, the same at every call
    "window_over_rows_of_a_rollout": {*NO_PADDING, "emptied"},
    "episode_lengths_as_denominators": {"more_rows"},  # a constant number of rows
    "action_codes_as_floats": {"poisoned"},  # refuses fractions
    "stored_probabilities": {"poisoned"},  # refuses what does not sum to one
    "padded_size_under_dropout": {*BY_PLACE, "more_columns"},
    "seam_under_dropout": BY_PLACE,
    "episode_means_under_gumbel_noise": {*BY_PLACE, "more_columns"},
}
"""What a right twin minds by design, and does mind: disturbances, `emptied`, and whether it writes."""

# What a loss does with a batch.


@dataclass
class Seen:
    loss: Tensor
    metrics: dict[str, Tensor]
    gradients: list[Tensor]
    buffers: list[Tensor]
    batch: Batch

    def same(self, other: Seen) -> bool:
        """All but the batch, which may have been disturbed, and the terms of its steps."""
        pairs = [(self.loss, other.loss), *zip(self.gradients, other.gradients, strict=True)]
        pairs += zip(self.buffers, other.buffers, strict=True)
        pairs += [(x, other.metrics[name]) for name, x in self.metrics.items() if name != "per_step"]
        return all(torch.allclose(x, y, rtol=1e-4, atol=1e-6, equal_nan=True) for x, y in pairs)


def run(case: Case, batch: Batch, calls: int = 1) -> Seen:
    """The last of so many calls."""
    modules = [case.modules] if isinstance(case.modules, nn.Module) else list(case.modules)
    parameters = [p for module in modules for p in module.parameters()]
    for _ in range(calls):
        torch.manual_seed(0)  # for losses that draw
        result = case.loss(batch)
    metrics = dict(result) if isinstance(result, Mapping) else {"loss": result}
    loss = metrics.pop("loss")
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return Seen(
        loss.detach(),
        {name: x.detach() for name, x in metrics.items()},
        [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)],
        [b.clone() for module in modules for b in module.buffers()],
        batch,
    )


def run_empty(case: Case, batch: Batch) -> Seen | None:
    try:
        return run(case, batch)
    except ValueError as error:
        assert "no real step" in str(error)  # noqa: PT017 - None is the answer, an error is not demanded
        return None


# The tests.


def test_there_are_enough_with_names_and_probes_of_their_own() -> None:
    assert len(MUTANTS) >= 26
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {probe for mutant in MUTANTS for probe in mutant.probes} == set(PROBES)


@each_mutant
def test_both_run_on_the_batch_as_it_is(mutant: Mutant) -> None:
    for seed in FEW_SEEDS:
        right, wrong = mutant.make(True, seed), mutant.make(False, seed)
        a, b = batch_of(right), batch_of(wrong)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
        assert {*a} >= {*right.step_fields} - {"actions_onehot", "reward", "actions"}
        seen, seen_wrong = run(right, a), run(wrong, b)
        assert seen.loss.isfinite()
        assert seen_wrong.loss.isfinite()
        assert any(g.any() for g in seen.gradients)


@each_mutant
def test_the_twin_minds_nothing_that_must_not_matter(mutant: Mutant) -> None:
    """But for what it minds by design, which it does mind."""
    minded = set()
    for seed in FEW_SEEDS:
        case = mutant.make(True, seed)
        before = run(case, batch_of(case))
        for disturb in DISTURBANCES:
            again = mutant.make(True, seed)  # with the buffers that it had
            try:
                same = before.same(run(again, disturb(again, seed)))
            except ValueError:  # it refuses what is not in its field's domain
                same = False
            if not same:
                minded.add(disturb.__name__)
    assert minded == MINDS.get(mutant.name, set()) - {"emptied", "written"}


@each_mutant
def test_the_twin_minds_what_must_matter(mutant: Mutant) -> None:
    for seed in FEW_SEEDS:
        case = mutant.make(True, seed)
        batch = batch_of(case)
        before = run(case, batch)
        frames, steps = cells(case)
        if case.reward in batch:
            for row, t in steps.nonzero().tolist():
                changed = batch_of(case)
                changed[case.reward][row, t] += 0.5
                assert not run(mutant.make(True, seed), changed).same(before), (seed, row, t)
        final = frames & ~(steps if steps.shape == frames.shape else frames)
        if case.bootstraps:
            for row, t in final.nonzero().tolist():
                changed = batch_of(case)
                changed["obs"][row, t] += 0.5
                assert not run(mutant.make(True, seed), changed).same(before), (seed, row, t)


@each_mutant
def test_the_twin_is_pure_and_takes_or_refuses_nothing(mutant: Mutant) -> None:
    minds = MINDS.get(mutant.name, set())
    for seed in FEW_SEEDS:
        case = mutant.make(True, seed)
        once, twice = (run(mutant.make(True, seed), batch_of(case), calls).batch for calls in (1, 2))
        assert all(torch.equal(x, twice[name]) for name, x in once.items())
        written = not all(torch.equal(x, once[name]) for name, x in batch_of(case).items())
        assert written == ("written" in minds)
        empty = run_empty(mutant.make(True, seed), emptied(case, seed))
        is_nothing = empty is None or (empty.loss.isfinite() and not any(g.any() for g in empty.gradients))
        assert is_nothing == ("emptied" not in minds)


@each_mutant
def test_the_mutant_differs_somewhere(mutant: Mutant) -> None:
    """On the batch as it is, disturbed, called twice, or emptied."""
    assert any(differs(mutant, seed) for seed in SEEDS)


def differs(mutant: Mutant, seed: int) -> bool:
    def both(change: Callable[[Case, int], Batch], calls: int = 1) -> bool:
        cases = [mutant.make(right, seed) for right in (True, False)]
        right, wrong = [run(case, change(case, seed), calls) for case in cases]
        return not right.same(wrong)

    def untouched(case: Case, seed: int) -> Batch:
        return batch_of(case)

    if any(both(change) for change in (untouched, *DISTURBANCES)) or both(untouched, calls=2):
        return True
    written = [
        run(case, batch_of(case)).batch for case in (mutant.make(True, seed), mutant.make(False, seed))
    ]
    if any(not torch.equal(x, written[1][name]) for name, x in written[0].items()):
        return True
    cases = [mutant.make(right, seed) for right in (True, False)]
    empty = [run_empty(case, emptied(case, seed)) for case in cases]
    return empty[0] is not None and empty[1] is not None and not empty[0].same(empty[1])
