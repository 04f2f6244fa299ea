"""What the native kernels refuse: an error names the argument, and says what was given and what is wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from endmark.episodes import ragged
from endmark.ops import gru_unroll, linear
from endmark.ops.linear_chosen import linear_chosen
from endmark.ops.mlps import mlps
from endmark.ops.native import native as kernels
from support.native_cases import cell_of, layer_of, needs_kernels

pytestmark = needs_kernels
Cases = list[tuple[dict[str, Any], str]]  # what is changed, and the error then


def floats(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def refuses(name: str, arguments: dict[str, Any], cases: Cases) -> None:
    assert kernels is not None
    function = getattr(kernels, name)
    function(**arguments)
    for changed, message in cases:
        with pytest.raises(ValueError, match=message):
            function(**{**arguments, **changed})


def gru_arguments() -> dict[str, Any]:
    parameters = {"weight_ih": (15, 3), "weight_hh": (15, 5), "bias_ih": (15,), "bias_hh": (15,)}
    return {
        **dict.fromkeys(["obs", "one_hot", "encoder_weight", "encoder_bias", "saved"]),
        **{name: floats(*shape) for name, shape in parameters.items()},
        "x": floats(4, 1, 3),
        "lengths": np.array([3]),
        "hidden": floats(4, 1, 5),
        "n_threads": 1,
    }


def encoder_arguments() -> dict[str, Any]:
    of_encoder = {"encoder_weight": floats(3, 6), "encoder_bias": floats(3)}
    return {
        **gru_arguments(),
        "x": None,
        "obs": floats(4, 2),
        "one_hot": np.array([[0], [1], [3], [-1]]),
        **of_encoder,
    }


def backward_arguments(arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    grads = {f"grad_{name}": arguments[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    of_inputs = dict.fromkeys(["grad_x", "grad_encoder_weight", "grad_encoder_bias"])
    saved = {"x": floats(4, 1, 3), "saved": floats(4, 1, 20), "grad": floats(4, 1, 5)}
    return {**arguments, **saved, **grads, **of_inputs, **more}


GRU_REFUSED: Cases = [
    ({"lengths": np.array([4])}, r"x: given 4 frames, want sum\(lengths \+ 1\) = 5"),
    ({"lengths": np.array([5, -3])}, "lengths: episode 1: given -3, want 0 or more"),
    ({"bias_ih": floats(14)}, r"bias_ih: given shape \(14\), want \(15\)"),
    ({"weight_ih": floats(14, 3)}, r"weight_ih: given shape \(14, 3\), want \(15, 3\)"),
    ({"hidden": floats(4, 1, 6)}, r"hidden: given shape \(4, 1, 6\), want \(4, 1, 5\)"),
    ({"saved": floats(4, 1, 5)}, r"saved: given shape \(4, 1, 5\), want \(4, 1, 20\)"),
    ({"x": floats(4, 1, 2)}, r"x: given shape \(4, 1, 2\), want \(4, 1, 3\)"),
    ({"x": None}, "x: given nothing, want inputs, or obs and an encoder"),
]
ENCODER_REFUSED: Cases = [
    ({"encoder_weight": None}, "^encoder_weight: given None, want an array"),
    ({"encoder_bias": None}, "^encoder_bias: given None, want an array"),
    ({"obs": None, "x": floats(4, 1, 3)}, "^obs: given None, want an array"),
    ({"obs": floats(5, 2)}, "obs: given 5 rows, want 4"),
    ({"one_hot": np.array([[0], [0], [4], [0]])}, "one_hot: row 2: given 4, want less than 4"),
    ({"one_hot": np.zeros((3, 1), np.int64)}, r"one_hot: given shape \(3, 1\), want \(4, 1\)"),
    ({"one_hot": None}, r"^encoder_weight: given shape \(3, 6\), want \(3, 2\)"),
    ({"encoder_weight": floats(2, 6), "encoder_bias": floats(2)}, "encoder_weight: given 2 outputs, want 3"),
    ({"encoder_bias": floats(2)}, r"^encoder_bias: given shape \(2\), want \(3\)"),
    ({"x": floats(4, 2, 3)}, r"x: given shape \(4, 2, 3\), want \(4, 1, 3\)"),
]


def test_gru_refuses_wrong_arguments_by_name() -> None:
    refuses("gru_forward", gru_arguments(), GRU_REFUSED)
    refuses("gru_forward", encoder_arguments(), ENCODER_REFUSED)


def test_gru_advance_refuses_wrong_arguments_by_name() -> None:
    arguments = {**encoder_arguments(), "before": floats(4, 5), "after": floats(4, 5)}
    for name in ("lengths", "hidden", "saved"):
        del arguments[name]
    cases: Cases = [
        ({"before": floats(4, 6)}, r"before: given shape \(4, 6\), want \(4, 5\)"),
        ({"after": floats(3, 5)}, r"after: given shape \(3, 5\), want \(4, 5\)"),
        ({"x": floats(4, 2)}, r"x: given shape \(4, 2\), want \(4, 3\)"),
        ({"obs": floats(5, 2)}, "obs: given 5 rows, want 4"),
        ({"one_hot": np.array([[0], [0], [4], [0]])}, "one_hot: row 2: given 4, want less than 4"),
        ({"encoder_bias": None}, "^encoder_bias: given None, want an array"),
    ]
    nothing = dict.fromkeys(["obs", "one_hot", "encoder_weight", "encoder_bias"])
    cases += [(nothing, "x: given nothing, want inputs, or obs and an encoder")]
    refuses("gru_advance", arguments, cases)


def test_gru_backward_refuses_wrong_arguments_by_name() -> None:
    plain = backward_arguments(gru_arguments(), grad_x=floats(4, 1, 3))
    cases: Cases = [
        ({"grad": floats(4, 1, 3)}, r"grad: given shape \(4, 1, 3\), want \(4, 1, 5\)"),
        ({"saved": floats(4, 1, 5)}, r"saved: given shape \(4, 1, 5\), want \(4, 1, 20\)"),
        ({"grad_x": None}, "^grad_x: given None, want an array"),
        ({"grad_x": floats(4, 1, 4)}, r"grad_x: given shape \(4, 1, 4\), want \(4, 1, 3\)"),
        ({"grad_weight_hh": floats(5, 15)}, r"grad_weight_hh: given shape \(5, 15\), want \(15, 5\)"),
        ({"lengths": np.array([4])}, "x: given 4 frames, want sum"),
    ]
    refuses("gru_backward", plain, cases)
    of_encoder = {"grad_encoder_weight": floats(3, 6), "grad_encoder_bias": floats(3)}
    encoded = backward_arguments(encoder_arguments(), **of_encoder)
    cases = [
        ({"one_hot": np.full((4, 1), 4)}, "one_hot: row 0: given 4, want less than 4"),
        ({"encoder_weight": None}, "^encoder_weight: given None, want an array"),
        ({"grad_encoder_weight": None}, "^grad_encoder_weight: given None, want an array"),
        ({"grad_encoder_weight": floats(3, 2)}, r"^grad_encoder_weight: given shape \(3, 2\), want \(3, 6\)"),
        ({"grad_encoder_bias": floats(6)}, r"^grad_encoder_bias: given shape \(6\), want \(3\)"),
    ]
    refuses("gru_backward", encoded, cases)


def test_lambda_return_refuses_wrong_arguments_by_name() -> None:
    names = "reward", "discount", "next_value", "y"
    arguments = {**{name: floats(5, 2) for name in names}, "lengths": np.array([3, 2]), "lambda_": 0.5}
    cases: Cases = [({name: floats(4, 2)}, rf"{name}: given shape \(4, 2\), want \(5, 2\)") for name in names]
    cases += [({"next_value": floats(5, 3)}, r"next_value: given shape \(5, 3\), want \(5, 2\)")]
    cases += [({"lengths": np.array([6, -1])}, "lengths: episode 1: given -1, want 0 or more")]
    refuses("lambda_return", arguments, cases)


def test_other_types_and_instruction_sets_are_refused() -> None:
    assert kernels is not None
    for arguments, name in (
        (gru_arguments(), "x"),
        (encoder_arguments(), "obs"),
        (encoder_arguments(), "one_hot"),
    ):
        with pytest.raises(TypeError):
            kernels.gru_forward(**{**arguments, name: arguments[name].astype(np.float64)})
    with pytest.raises(ValueError, match="isa: given 'mmx'"):
        kernels.use_isa("mmx")


def test_numbers_out_of_range_are_refused() -> None:
    layer, x = layer_of(3, 2, torch.float32), torch.zeros(4, 3)
    one_hot = torch.tensor([[0], [1], [-1], [0]])
    linear(layer, x[:, :1], one_hot=one_hot)
    one_hot[2] = 2
    with pytest.raises(ValueError, match="one_hot: row 2: given 2, want less than 2"):
        linear(layer, x[:, :1], one_hot=one_hot)
    with pytest.raises(ValueError, match=r"weight: given shape \(2, 3\), want \(2, 1\)"):
        linear(layer, x[:, :1])
    cell, packing = cell_of(2, 5, torch.float32), ragged.TimeMajor(torch.tensor([1]))
    with pytest.raises(ValueError, match="one_hot: row 2: given 2, want less than 2"):
        gru_unroll(cell, x[:, :1].view(2, 2, 1), packing, encoder=layer, one_hot=one_hot.view(2, 2, 1))
    with pytest.raises(ValueError, match="one_hot: given without an encoder"):
        gru_unroll(cell, x[:, :1].view(2, 2, 1), packing, one_hot=one_hot.view(2, 2, 1))
    with pytest.raises(ValueError, match="choice: row 2: given 2, want less than 2"):
        linear_chosen(layer, x, torch.tensor([1, 0, 2, -1]))
    for row in (4, -1):
        with pytest.raises(ValueError, match=f"rows: given {row} at 1, want 0 to 3"):
            mlps(x, [[layer]], torch.tensor([3, row]))


def mlps_arguments() -> dict[str, Any]:
    """Two networks on four of three rows: 5 -> 6 -> 2 and 5 -> 3."""
    return {
        "x": floats(3, 5),
        "rows": np.array([2, 0, 0, 1]),
        "depths": [2, 1],
        "weights": [floats(6, 5), floats(2, 6), floats(3, 5)],
        "biases": [floats(6), floats(2), floats(3)],
        "activations": [floats(4, 6)],
        "n_threads": 1,
    }


MLPS_REFUSED: Cases = [
    ({"rows": np.array([2, 3, 0, 1])}, "rows: given 3 at 1, want 0 to 2"),
    ({"rows": np.array([2, 0, 0, -1])}, "rows: given -1 at 3, want 0 to 2"),
    ({"depths": [2, 0, 1]}, "depths: given 0, want at least one layer"),
    ({"depths": [2, 2]}, "^weights: given 3 arrays, want 4"),
    ({"depths": [2]}, "^weights: given 3 arrays, want 2"),
    ({"biases": [floats(6), floats(2)]}, "^biases: given 2 arrays, want 3"),
    (
        {"weights": [floats(6, 5), floats(2, 5), floats(3, 5)]},
        r"weights: given shape \(2, 5\), want \(2, 6\)",
    ),
    ({"depths": [1, 2]}, r"weights: given shape \(2, 6\), want \(2, 5\)"),
    ({"biases": [floats(6), floats(2), floats(4)]}, r"biases: given shape \(4\), want \(3\)"),
    ({"activations": []}, "^activations: given 0 arrays, want 1"),
    ({"activations": [floats(4, 6), floats(4, 6)]}, "^activations: given 2 arrays, want 1"),
    ({"activations": [floats(3, 6)]}, r"activations: given shape \(3, 6\), want \(4, 6\)"),
]


def test_mlps_refuse_wrong_arguments_by_name() -> None:
    arguments = {**mlps_arguments(), "outputs": [floats(4, 2), floats(4, 3)]}
    refuses("mlps_forward", arguments, MLPS_REFUSED)
    cases: Cases = [
        ({"outputs": [floats(4, 2), floats(4, 2)]}, r"outputs: given shape \(4, 2\), want \(4, 3\)"),
        ({"outputs": [floats(3, 2), floats(3, 3)]}, r"outputs: given shape \(3, 2\), want \(4, 2\)"),
        ({"rows": None}, r"outputs: given shape \(4, 2\), want \(3, 2\)"),
        ({"outputs": [floats(4, 2)]}, "^outputs: given 1 arrays, want 2"),
        ({"outputs": [floats(4, 2), floats(4, 3), floats(4, 3)]}, "^outputs: given 3 arrays, want 2"),
    ]
    refuses("mlps_forward", {**arguments, "activations": None}, cases)


def test_mlps_backward_refuses_wrong_arguments_by_name() -> None:
    arguments = mlps_arguments()
    of_parameters = {f"grad_{name}": arguments[name] for name in ("weights", "biases")}
    cases: Cases = [
        ({"grads": [floats(4, 2), floats(4, 2)]}, r"grads: given shape \(4, 2\), want \(4, 3\)"),
        ({"grads": [floats(4, 2)]}, "^grads: given 1 arrays, want 2"),
        ({"grad_weights": arguments["weights"][:2]}, "^grad_weights: given 2 arrays, want 3"),
        ({"grad_biases": []}, "^grad_biases: given 0 arrays, want 3"),
        (
            {"grad_weights": [floats(6, 5), floats(2, 6), floats(5, 3)]},
            r"grad_weights: given shape \(5, 3\), want \(3, 5\)",
        ),
        ({"grad_biases": [floats(6), floats(2), floats(5)]}, r"grad_biases: given shape \(5\), want \(3\)"),
    ]
    arguments = {**arguments, **of_parameters, "grads": [floats(4, 2), floats(4, 3)]}
    refuses("mlps_backward", arguments, [*MLPS_REFUSED, *cases])


def test_chosen_refuses_wrong_arguments_by_name() -> None:
    cases: Cases = [
        ({"choice": np.array([0, 3, 0, 0])}, "choice: row 1: given 3, want less than 3"),
        ({"choice": np.array([0, 0, 0])}, r"choice: given shape \(3\), want \(4\)"),
        ({"weight": floats(3, 4)}, r"weight: given shape \(3, 4\), want \(3, 5\)"),
        ({"bias": floats(2)}, r"bias: given shape \(2\), want \(3\)"),
    ]
    arguments = {
        "x": floats(4, 5),
        "weight": floats(3, 5),
        "bias": floats(3),
        "choice": np.array([0, -1, 2, -9]),
    }
    arguments["n_threads"] = 1
    of_y: Cases = [({"y": floats(5)}, r"y: given shape \(5\), want \(4\)")]
    refuses("chosen_forward", {**arguments, "y": floats(4)}, [*cases, *of_y])
    grads = {"grad_x": floats(4, 5), "grad_weight": floats(3, 5), "grad_bias": floats(3), "grad": floats(4)}
    of_grads = [({name: floats(*(2,) * grad.ndim)}, f"{name}: given shape") for name, grad in grads.items()]
    refuses("chosen_backward", {**arguments, **grads}, [*cases, *of_grads])


def test_greedy_linear_refuses_wrong_arguments_by_name() -> None:
    arguments = {"x": floats(4, 5), "weight": floats(3, 5), "bias": floats(3), "legal": np.ones((4, 3), bool)}
    arguments.update(choice=np.zeros(4, np.int64), n_threads=1)
    cases: Cases = [
        ({"weight": floats(3, 6)}, r"weight: given shape \(3, 6\), want \(3, 5\)"),
        ({"bias": floats(2)}, r"bias: given shape \(2\), want \(3\)"),
        ({"legal": np.ones((4, 5), bool)}, r"legal: given shape \(4, 5\), want \(4, 3\)"),
        ({"choice": np.zeros(3, np.int64)}, r"choice: given shape \(3\), want \(4\)"),
    ]
    refuses("greedy_linear", arguments, cases)
