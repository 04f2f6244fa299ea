"""Likely causes of a finding, the likeliest first, and what the repaired line looks like."""

from __future__ import annotations

_ADVICE: dict[str, tuple[tuple[str, ...], str]] = {
    "poison: padding": (
        (
            "a mean, a sum or a statistic over the padded tensor",
            "a recursion, a hidden state or a window that begins in padding",
            "a mask that is applied after numbers were mixed across time",
        ),
        "loss = td_error[step_mask(filled, terminated)[..., 0]].square().mean()",
    ),
    "poison: after the end": (
        (
            "the usual three lines, whose shift hides one step after the end only",
            "a mask made of `filled` alone",
        ),
        "mask = step_mask(filled, terminated)   # no step after the first terminal one",
    ),
    "poison: final frame": (
        (
            "an episode that was cut early counts its final frame as a step (a phantom step)",
            "`terminated` shifted by one, or a mask of frames used for steps",
            "a mean, a sum or a statistic over the padded tensor",
        ),
        "mask = step_mask(filled, terminated)   # (B, T, 1): frames with a step, not all that are filled",
    ),
    "poison: nan": (
        (
            "masking by multiplication: nan * 0 is nan",
            "a network that is fed padding: its weights' gradient multiplies by it even under a right mask",
        ),
        "loss = torch.where(mask, x, 0).sum() / mask.sum()   # and torch.where on inputs that may be NaN",
    ),
    "padding": (
        (
            "a denominator that counts padded cells: `.mean()`, B * T, or x.numel()",
            "a recursion that starts in the last column",
            "a hidden state that is read at the last column",
        ),
        "loss = torch.where(mask, x, 0).sum() / mask.sum()",
    ),
    "weight: nothing": (
        (
            "a mask of `1 - terminated`, which drops the terminal step",
            "a slice that leaves out an episode's last step",
            "advantages or other numbers in place of the mask",
        ),
        "mask = step_mask(filled, terminated)   # the step that terminates is real",
    ),
    "weight: sum": (
        ("the loss is summed, not averaged",),
        "loss = torch.where(mask, x, 0).sum() / mask.sum()",
    ),
    "weight: episodes": (
        ("a mean over time for each episode, and then over episodes",),
        "loss = torch.where(mask, x, 0).sum() / mask.sum()   # over all steps at once",
    ),
    "weight: positions": (
        ("the mask of what holds data in the denominator, and that of what counts in the numerator",),
        "loss = torch.where(step_mask, x, 0).sum() / step_mask.sum()",
    ),
    "weight: twice": (
        ("a denominator that is not the number of real steps", "statistics that depend on the batch's size"),
        "loss = torch.where(mask, x, 0).sum() / mask.sum()",
    ),
    "bootstrap: terminal": (
        (
            "a termination treated as a truncation: its successor's value is added",
            "flags shifted by one",
            "validity (`filled`, the mask) used in place of not-terminated",
        ),
        "target = reward + gamma * (1 - terminated) * next_value   # terminated at the very step",
    ),
    "bootstrap: cut": (
        (
            "a truncation treated as a termination: `done = terminated | truncated`",
            "the value of the reset observation, the next episode's first, in place of the final one's",
            "values that end one column too early",
            "a loss that bootstraps from nothing: then say so by Case(bootstraps=False)",
        ),
        "target = reward + gamma * (1 - terminated) * value[:, t + 1]   # truncated steps bootstrap",
    ),
    "company: order": (
        (
            "a hidden state carried over the seam between two episodes",
            "a recursion, a window or a shift over flattened rows",
        ),
        "hidden = zeros for every episode; recursions restart at each episode's last step",
    ),
    "company: coupling": (
        (
            "normalisation over the batch: advantages, rewards, BatchNorm",
            "an episode mean of means, or a denominator that mixes episodes",
        ),
        "meant? then nothing; else use statistics that do not come from this batch",
    ),
    "causality": (
        ("attention without a causal mask", "a bidirectional network", "a window over the wrong frames"),
        "scaled_dot_product_attention(q, k, v, is_causal=True)",
    ),
    "purity": (
        ("an in-place operation on a view: `.float()` of a float32 tensor is no copy",),
        "mask = filled[:, :-1].float().clone()",
    ),
    "purity: twice": (
        (
            "random numbers that are not seeded inside the loss",
            "a hidden state or a statistic that is kept between calls outside of the case's modules",
        ),
        "seed what is random inside the loss; start every call from zeros; keep statistics in buffers",
    ),
    "empty": (
        ("0 / 0: a mean over nothing",),
        "loss = torch.where(mask, x, 0).sum() / mask.sum().clamp(min=1)",
    ),
    "agents": (
        (
            "a per-agent mask that was dropped, or broadcast over agents",
            "a mixer or a sum that still takes in agents that have left",
        ),
        "q = torch.where(alive, q, 0)   # before mixing; and a mean over alive (step, agent) pairs",
    ),
}


def advice(topic: str) -> tuple[tuple[str, ...], str]:
    """Causes and repair for a kind of finding."""
    return _ADVICE[topic]
