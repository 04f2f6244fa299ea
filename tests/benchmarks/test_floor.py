"""The count of operations, by hand and by counting those that torch runs."""

from __future__ import annotations

import torch
from benchmarks.border import baseline_of
from benchmarks.floor import forward_flops, measure_floor, update_flops
from benchmarks.measure import QUICK
from benchmarks.setting import make_learner
from benchmarks.shapes import EIGHT_MARINES, TINY, Shape, episodes
from torch.utils.flop_counter import FlopCounterMode

SMALL = Shape("small", 3, 2, 5, 7, 4, 1, 3, 2, 6)
"""2 agents, 5 observed numbers, 7 of state, 4 actions; 3 hidden, 2 embedded, 6 hyper units."""


def test_by_hand() -> None:
    # One episode of 3 steps, 4 frames, so 8 rows of an agent and 3 of a mixer.
    encoder = 2 * 8 * (5 * 3)  # 240
    gru = 2 * 8 * (3 * 9) * 2  # 864
    head = 2 * 8 * (3 * 4)  # 192
    from_state = 2 * 3 * (7 * 6 + 7 * 6 + 7 * 2 + 7 * 2)  # 672: two hypernetworks, two biases
    to_weights = 2 * 3 * (6 * 4 + 6 * 2 + 2 * 1)  # 228
    mixing = 2 * 3 * (2 * 2 + 2)  # 36
    forward = encoder + gru + head + from_state + to_weights + mixing
    assert forward == 2232
    assert forward_flops(SMALL, n_frames=4, n_steps=3) == (forward, encoder + from_state)
    assert update_flops(SMALL, n_frames=4, n_steps=3) == 4 * forward - 912


def test_against_torchs_count_of_a_mixer() -> None:
    mixer = baseline_of(make_learner(SMALL)).mixer  # ours is no torch operation, which is what is counted
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        mixer(torch.zeros(3, 2), torch.zeros(3, 7))
    assert counter.get_total_flops() == 672 + 228  # the products; mixing itself is multiplied and summed


def test_it_grows_with_frames_and_steps_alone() -> None:
    one = update_flops(EIGHT_MARINES, n_frames=121, n_steps=120)
    assert update_flops(EIGHT_MARINES, n_frames=32 * 121, n_steps=32 * 120) == 32 * one


def test_the_machine_is_measured() -> None:
    floor = measure_floor(TINY, QUICK, quick=True)
    assert all(spread.median > 0 for spread in (floor.gemm, floor.gemm_own, floor.copy))


def test_timing_batches_have_legal_actions_and_everybody_alive() -> None:
    batch = episodes(EIGHT_MARINES.spec(), torch.tensor([3, 120]), seed=0)
    assert batch.alive.all()
    assert batch.avail_actions.gather(-1, batch["actions"][..., None]).all()
    leaving = episodes(EIGHT_MARINES.spec(), torch.tensor([30, 120]), seed=0, leaves=True)
    assert leaving.alive[:, 0].all()
    assert not leaving.alive.all()
