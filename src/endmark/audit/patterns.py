"""Lines that often hide a masking bug, as patterns over Python's syntax tree. A match is a hint, no finding.

A name means what it says here: `mask`, `filled` and the like hold a mask, `terminated` and `done` an end.
Attributes, and keys such as that of `batch["filled"]`, are names, too.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

MASKS = ("mask", "filled", "valid", "active")
ENDS = ("terminated", "terminal", "done", "ended")
STATISTICS = ("mean", "std", "var", "std_mean", "var_mean", "norm", "standard_deviation")
ERRORS = ("loss", "error", "td", "delta", "advantage")

Scope = Sequence[ast.AST]
"""The nodes of a function, or of a module, without those of the functions in it."""


@dataclass(frozen=True)
class Pattern:
    """name: as printed. question: to ask of the line. probe: the probe of the audit that would tell."""

    name: str
    question: str
    probe: str
    find: Callable[[Scope], Iterator[ast.AST]]


def words(node: ast.AST) -> Iterator[str]:
    """The names in an expression, in lower case: variables, attributes, and texts such as a batch's keys."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id.lower()
        elif isinstance(part, ast.Attribute):
            yield part.attr.lower()
        elif isinstance(part, ast.Constant) and isinstance(part.value, str) and len(part.value) < 40:
            yield part.value.lower()


def mentions(node: ast.AST, some: Sequence[str]) -> bool:
    """Whether a name in the expression holds one of these words."""
    return any(part in word for word in words(node) for part in some)


def _statistics(node: ast.AST) -> Iterator[tuple[ast.Call, ast.AST]]:
    """The calls of a mean or a deviation, and what each is of: `x.mean()`, `torch.mean(x)`."""
    for call in ast.walk(node):
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in STATISTICS
        ):
            owner = call.func.value
            library = isinstance(owner, ast.Name) and owner.id in ("torch", "th", "np", "numpy", "jnp", "F")
            if not library or call.args:
                yield call, call.args[0] if library else owner


def _products(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """(other, mask) for every product of something with a mask in an expression."""
    for part in ast.walk(node):
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mult):
            for other, mask in ((part.left, part.right), (part.right, part.left)):
                if mentions(mask, MASKS) and not mentions(other, MASKS):
                    yield other, mask


def masked_mean(scope: Scope) -> Iterator[ast.AST]:
    """`(x * mask).mean()`."""
    for node in scope:
        if isinstance(node, ast.Call):
            for call, of in _statistics(node):
                if call is node and call.func.attr == "mean" and any(_products(of)):  # type: ignore[attr-defined]
                    yield node


def mask_after_statistic(scope: Scope) -> Iterator[ast.AST]:
    """`(x - x.mean()) / x.std() * mask`; or `x = (x - x.mean()) / x.std()` where masks are used at all."""
    masked = any(mentions(node, MASKS) for node in scope if isinstance(node, (ast.Name, ast.Subscript)))
    for node in scope:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            if any(_unmasked(other) for other, _ in _products(node)):
                yield node
        elif isinstance(node, (ast.Assign, ast.AugAssign)) and masked and _standardises(node.value):
            yield node


def _unmasked(node: ast.AST) -> bool:
    return any(not mentions(of, MASKS) for _, of in _statistics(node))


def _standardises(node: ast.AST) -> bool:
    """`(x - x.mean()) / x.std()` without a mask, and not multiplied by one on the same line."""
    return not any(_products(node)) and any(
        isinstance(part, ast.BinOp)
        and isinstance(part.op, ast.Div)
        and isinstance(part.left, ast.BinOp)
        and isinstance(part.left.op, ast.Sub)
        and _unmasked(part.left.right)
        and _unmasked(part.right)
        for part in ast.walk(node)
    )


def ends_for_mask(scope: Scope) -> Iterator[ast.AST]:
    """`mask = 1 - terminated`, or `td_error * (1 - terminated)`, in a function that knows no `filled`."""
    if any(mentions(node, ("filled", "valid")) for node in scope if not isinstance(node, ast.stmt)):
        return
    for node in scope:
        if isinstance(node, ast.Assign):
            if any(mentions(target, ("mask",)) for target in node.targets) and _not_ended(node.value):
                yield node
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            for other, ends in ((node.left, node.right), (node.right, node.left)):
                if (
                    isinstance(other, (ast.Name, ast.Attribute))
                    and mentions(other, ERRORS)
                    and _not_ended(ends)
                ):
                    yield node


def _not_ended(node: ast.AST) -> bool:
    """Whether `1 - terminated`, `~terminated` or `not terminated` is in the expression."""
    for part in ast.walk(node):
        turned: ast.AST | None = None
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub):
            one = isinstance(part.left, ast.Constant) and part.left.value == 1
            turned = part.right if one else None
        elif isinstance(part, ast.UnaryOp) and isinstance(part.op, (ast.Invert, ast.Not)):
            turned = part.operand
        if turned is not None and mentions(turned, ENDS):
            return True
    return False


def merged_ends(scope: Scope) -> Iterator[ast.AST]:
    """`terminated or truncated`, `terminated | truncated`, `logical_or(terminated, truncated)`."""
    for node in scope:
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            parts: Sequence[ast.AST] = node.values
        elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitOr, ast.Add)):
            parts = (node.left, node.right)
        elif isinstance(node, ast.Call) and mentions(node.func, ("logical_or", "bitwise_or", "maximum")):
            parts = node.args
        else:
            continue
        ended = [mentions(part, ("terminat", "terminal")) for part in parts]
        cut = [mentions(part, ("truncat",)) for part in parts]
        if any(ended) and any(cut) and not any(a and b for a, b in zip(ended, cut, strict=True)):
            yield node


def in_place_on_filled(scope: Scope) -> Iterator[ast.AST]:
    """`mask = batch["filled"].float()`, and then `mask[:, 1:] = ...`: a view of a float32 `filled`."""
    views = {
        target.id
        for node in scope
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and mentions(node.value, ("filled",)) and not _copies(node.value)
    }
    for node in scope:
        if isinstance(node, ast.Assign):
            # A constant, such as 1, is how a batch is filled.
            constant = isinstance(node.value, ast.Constant)
            written = [t for t in node.targets if isinstance(t, ast.Subscript) and not constant]
            if any(_is_filled(target.value, views) for target in written):
                yield node
        elif isinstance(node, ast.AugAssign):
            target = node.target.value if isinstance(node.target, ast.Subscript) else node.target
            if _is_filled(target, views):
                yield node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if name.endswith("_") and not name.endswith("__") and _is_filled(node.func.value, views):
                yield node


def _copies(node: ast.AST) -> bool:
    """Whether the expression gives new memory: a copy, an operator, a comparison."""
    return any(
        isinstance(part, (ast.BinOp, ast.Compare, ast.UnaryOp))
        or (
            isinstance(part, ast.Attribute)
            and part.attr in ("clone", "copy", "bool", "zeros_like", "ones_like")
        )
        for part in ast.walk(node)
        if not (isinstance(part, ast.UnaryOp) and isinstance(part.operand, ast.Constant))  # the -1 of a slice
    )


def _is_filled(node: ast.AST, views: set[str]) -> bool:
    """Whether what is written to is `filled`, a part of it, or a view of it."""
    while isinstance(node, ast.Subscript):
        if isinstance(node.slice, ast.Constant) and node.slice.value == "filled":
            return True
        node = node.value
    if isinstance(node, ast.Name):
        return node.id in views or node.id.lower() == "filled"
    return isinstance(node, ast.Attribute) and node.attr.lower() == "filled"


PATTERNS = (
    Pattern("masked mean", "does this mean divide by all cells, padding included?", "padding", masked_mean),
    Pattern("statistic before mask", "does this statistic count padding?", "poison", mask_after_statistic),
    Pattern("1 - terminated", "is the terminal step dropped, or padding kept?", "weight", ends_for_mask),
    Pattern("ends merged", "does a truncated end still bootstrap?", "bootstrap", merged_ends),
    Pattern(
        "in place", "does this write into the batch, if `filled` is float32?", "purity", in_place_on_filled
    ),
)
