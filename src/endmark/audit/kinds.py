"""The kinds of findings: how severe each is, its likely causes, and the repaired line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from endmark.audit.compare import Change
from endmark.audit.findings import Evidence, Finding, Severity


@dataclass(frozen=True)
class Kind:
    """causes: the likely bugs, the likeliest first. repair: the repaired line, as code."""

    severity: Severity
    causes: tuple[str, ...]
    repair: str


def finding(
    kind: str, what: str, changes: Sequence[Change] = (), evidence: Evidence | None = None
) -> Finding:
    """A finding of a kind of `KINDS`, by the probe that the kind's name begins with.

    what: a sentence. changes: the numbers that changed. evidence: where; None if the finding has no place.
    A leak is called less if it moves nothing but metrics, or if the loss only fails where it was disturbed.
    """
    known, at = KINDS[kind], evidence or Evidence()
    severity = known.severity
    if severity == "leak" and changes:
        if all(change.what.startswith("metric ") for change in changes):
            severity = "metric"
        elif kind in _DRAWN and not any(math.isfinite(change.by) for change in changes):
            severity = "fragile"
    return Finding(
        probe=kind.partition(":")[0],
        severity=severity,
        what=what,
        field=", ".join(at.fields) or None,
        cells=at.cells,
        moved=tuple(changes[:6]),
        causes=known.causes,
        repair=known.repair,
        reproducer=at.reproducer,
    )


_DRAWN = frozenset(
    {
        "poison: padding",
        "poison: after the end",
        "poison: final frame",
        "poison: phantom",
        "padding",
        "bootstrap: terminal",
        "agents",
    }
)
"""The kinds that come of values drawn for the fields, or of padding: a loss may refuse them, and be right."""

_MEAN = "loss = torch.where(mask, x, 0).sum() / mask.sum()"
_NAN = (
    (
        "masking by multiplication: nan * 0 is nan",
        "a network that is fed padding: its weights' gradient multiplies by it, even under a right mask",
    ),
    "loss = torch.where(mask, x, 0).sum() / mask.sum()   # and torch.where on inputs that may be NaN",
)
_UNSTEADY = (
    (
        "random numbers that are not seeded inside the loss",
        "a hidden state or a statistic that is kept between calls outside of the case's modules",
    ),
    "seed what is random inside the loss; start every call from zeros; keep statistics in buffers",
)

KINDS: dict[str, Kind] = {
    "poison: padding": Kind(
        "leak",
        (
            "a mean, a sum or a statistic over the padded tensor",
            "a recursion, a hidden state or a window that begins in padding",
            "a mask that is applied after numbers were mixed across time",
        ),
        "loss = td_error[step_mask(filled, terminated)[..., 0]].square().mean()",
    ),
    "poison: after the end": Kind(
        "leak",
        (
            "the usual three lines: their shift hides only one step after the end",
            "a mask made of `filled` alone",
        ),
        "mask = step_mask(filled, terminated)   # no step after the first terminal one",
    ),
    "poison: final frame": Kind(
        "leak",
        (
            "`terminated` shifted by one, or a mask of frames used for steps",
            "a mean, a sum or a statistic over the padded tensor",
        ),
        "mask = step_mask(filled, terminated)   # (B, T, 1): frames with a step, not all that are filled",
    ),
    "poison: phantom": Kind(
        "leak",
        (
            "the usual three lines (`filled`, shifted by `terminated`): no flag hides the frame after a cut",
            "a mask of `filled` for episodes that end without `terminated`",
        ),
        "mask = step_mask(filled, terminated)   # a step needs a frame after it",
    ),
    "poison: next action": Kind(
        "advice",
        ("a bootstrap by the action that is taken next, as in SARSA or COMA",),
        'Case(frame_fields=[..., "actions"])   # the field is defined on final frames, too',
    ),
    "poison: nan": Kind("fragile", *_NAN),
    "poison: not finite": Kind("leak", *_NAN),
    "padding": Kind(
        "leak",
        (
            "a denominator that counts padded cells: `.mean()`, B * T, or x.numel()",
            "a recursion that starts in the last column",
            "a hidden state that is read at the last column",
        ),
        _MEAN,
    ),
    "weight: nothing": Kind(
        "leak",
        (
            "a mask of `1 - terminated`, which drops the terminal step",
            "a slice that leaves out an episode's last step",
            "advantages or other numbers in place of the mask",
        ),
        "mask = step_mask(filled, terminated)   # the step that terminates is real",
    ),
    "weight: unused": Kind(
        "advice",
        ("the loss does not use the reward", "the loss uses another field: a return, an advantage"),
        "Case(reward=None), or the name of that field",
    ),
    "weight: sum": Kind("fragile", ("the loss is summed, not averaged",), _MEAN),
    "weight: episodes": Kind(
        "weighting",
        ("a mean over time for each episode, and then a mean over episodes",),
        f"{_MEAN}   # over all steps at once",
    ),
    "weight: positions": Kind(
        "leak",
        ("the denominator sums the mask of positions with data, the numerator that of positions that count",),
        "loss = torch.where(step_mask, x, 0).sum() / step_mask.sum()",
    ),
    "weight: twice": Kind(
        "leak",
        ("a denominator that is not the number of real steps", "statistics that depend on the batch's size"),
        _MEAN,
    ),
    "bootstrap: terminal": Kind(
        "leak",
        (
            "a termination treated as a truncation: its successor's value is added",
            "flags shifted by one",
            "validity (`filled`, the mask) used in place of not-terminated",
        ),
        "target = reward + gamma * (1 - terminated) * next_value   # terminated at the very step",
    ),
    "bootstrap: cut": Kind(
        "leak",
        (
            "a truncation treated as a termination: `done = terminated | truncated`",
            "the value of the next episode's first observation in place of the final one's (auto-reset)",
            "values that end one column too early",
            "a loss without bootstrapping: then say so by Case(bootstraps=False)",
        ),
        "target = reward + gamma * (1 - terminated) * value[:, t + 1]   # truncated steps bootstrap",
    ),
    "company: order": Kind(
        "leak",
        (
            "a hidden state carried over the seam between two episodes",
            "a recursion, a window or a shift over flattened rows",
        ),
        "hidden = zeros for every episode; recursions restart at each episode's last step",
    ),
    "company: coupling": Kind(
        "coupling",
        (
            "normalisation over the batch: advantages, rewards, BatchNorm",
            "a mean of episode means, or a denominator that mixes episodes",
        ),
        "nothing, if intended; else use statistics that do not come from this batch",
    ),
    "seams": Kind(
        "leak",
        (
            "recurrent chunks of a flattened batch that run over the seam between two agents or episodes",
            "a window or a shift over flattened rows",
        ),
        "cut each (episode, agent) into chunks by itself, and pad the last one",
    ),
    "reset": Kind(
        "leak",
        (
            "a hidden state or a recursion that is not reset where the next episode begins",
            "a truncated end that bootstraps from the first frame of the next episode (auto-reset)",
            "a window, or the last actions, over the seam",
        ),
        "hidden = where(starts[t], 0, hidden)   # and no value of frame t + 1 where it starts an episode",
    ),
    "causality": Kind(
        "leak",
        ("attention without a causal mask", "a bidirectional network", "a window over the wrong frames"),
        "scaled_dot_product_attention(q, k, v, is_causal=True)",
    ),
    "purity": Kind(
        "leak",
        ("an in-place operation on a view: `.float()` of a float32 tensor makes no copy",),
        "mask = filled[:, :-1].float().clone()",
    ),
    "purity: twice": Kind("leak", *_UNSTEADY),
    "purity: metric": Kind("fragile", *_UNSTEADY),
    "empty": Kind("fragile", ("0 / 0: a mean over nothing",), f"{_MEAN}.clamp(min=1)"),
    "empty: error": Kind(
        "fragile",
        ("the code expects a step: a division by their number, perhaps only in a line that logs",),
        "if not mask.any(): return",
    ),
    "agents: return": Kind(
        "advice",
        (
            "a team's return that the dead contribute to: right",
            "a loss for each agent that goes on after it has left: wrong",
        ),
        "nothing, if it is a team's; else torch.where(alive, x, 0)",
    ),
    "agents": Kind(
        "leak",
        (
            "a per-agent mask that was dropped, or broadcast over agents",
            "a mixer or a sum that still includes agents that have left",
        ),
        "q = torch.where(alive, q, 0)   # before mixing; and a mean over alive (step, agent) pairs",
    ),
}
