"""Fitting a space of subgoals: what it is fitted to, what it says of itself, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from endmark.algorithms.omg.prior import FILE, FORMAT, Prior, active_units, load_prior, save_prior
from endmark.cli import main
from endmark.run import RunError
from endmark.training.fit_prior import PriorConfig, collect, fit, save
from support.padded_oracle import perturb

FORAGER, RANDOM = "endmark.policies.scripted:nearest_food", "endmark.policies.scripted:random"
LBF = "lbforaging:Foraging-5x5-2p-1f-v3"
CONFIG = PriorConfig(
    LBF, (FORAGER, RANDOM), episodes=24, code_size=4, hidden_size=8, updates=200, n_envs=3, batch_size=32
)


def quietly(*_: object) -> None:
    pass


def test_it_is_fitted_to_what_the_learner_sees(tmp_path: Path) -> None:
    """One row a frame: of as many episodes as were asked for, each from its first frame to its final one."""
    said: list[tuple[str, int, int]] = []
    episodes = collect(CONFIG, lambda *words: said.append(words))
    assert len(episodes) == CONFIG.episodes
    assert all(2 <= len(seen) <= 51 and seen.shape[1] == 9 for seen in episodes)
    assert [done for _, done, _ in said][-1] == 24
    fitted = fit(replace(CONFIG, updates=1500, kl_weight=1e-4), episodes, quietly)
    assert fitted.active >= 1
    assert fitted.error < 0.6  # 1 is what knowing nothing gives
    held_out = torch.cat(episodes[::8])
    decoded = fitted.prior.decode(fitted.prior.encode(held_out)[0])
    by_hand = (((decoded - held_out) / fitted.prior.scale) ** 2).mean()
    assert fitted.error == pytest.approx(float(by_hand), rel=1e-5)
    report = save(CONFIG, fitted, tmp_path)
    assert report["partners"] == [FORAGER, RANDOM]
    again = load_prior(tmp_path, 9, "obs")
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in fitted.prior.state_dict().items())
    assert not any(p.requires_grad for p in again.parameters())


def test_the_same_seed_gives_the_same_prior() -> None:
    one, other = (fit(CONFIG, collect(CONFIG, quietly), quietly).prior.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_collapsed_code_is_refused() -> None:
    config = replace(CONFIG, kl_weight=50.0, updates=400)
    with pytest.raises(ValueError, match=r"collapsed: none of its 4 numbers .* smaller kl_weight than 50"):
        fit(config, collect(config, quietly), quietly)


def test_active_numbers_are_those_whose_mean_varies() -> None:
    prior = Prior(3, 2, 8, "obs")
    perturb(prior, torch.Generator().manual_seed(0))
    with torch.no_grad():
        prior.gaussian.weight[1].zero_()  # the second number's mean is its bias
    seen = torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
    assert active_units(prior, seen) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"episodes": 7}, "episodes: given 7, want at least 8"),
        ({"code_size": 0}, "code_size: given 0, want at least 1"),
        ({"lr": 0.0}, "lr: given 0.0, want more than 0"),
        ({"kl_weight": -1.0}, "kl_weight: given -1.0, want at least 0"),
        ({"seed": -1}, "seed: given -1"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(CONFIG, **settings)


def test_a_partner_that_is_none() -> None:
    with pytest.raises(RunError, match="partner nowhere: no such directory"):
        collect(replace(CONFIG, partners=("nowhere",)), quietly)
    with pytest.raises(ValueError, match="partners: given none"):
        collect(replace(CONFIG, partners=()), quietly)


def test_a_prior_that_does_not_fit(tmp_path: Path) -> None:
    prior = Prior(3, 2, 8, "obs")
    with pytest.raises(ValueError, match="no such file; `endmark fit-prior` makes one"):
        load_prior(tmp_path, 3, "obs")
    save_prior(prior, tmp_path)
    with pytest.raises(ValueError, match="fitted to 3 features, want 4: another environment"):
        load_prior(tmp_path, 4, "obs")
    with pytest.raises(ValueError, match="fitted to goal_of 'obs', want 'state'"):
        load_prior(tmp_path, 3, "state")
    tensors = load_file(tmp_path / FILE)
    save_file({**tensors, "mean": tensors["mean"] * torch.nan}, tmp_path / FILE, {FORMAT: _shape()})
    with pytest.raises(ValueError, match="not finite"):
        load_prior(tmp_path, 3, "obs")
    save_file(
        {name: tensor.double() for name, tensor in tensors.items()}, tmp_path / FILE, {FORMAT: _shape()}
    )
    with pytest.raises(ValueError, match=r"given torch\.float64 or not finite, want finite float32"):
        load_prior(tmp_path, 3, "obs")
    save_file({"other": tensors["mean"]}, tmp_path / FILE, {FORMAT: _shape()})
    with pytest.raises(ValueError, match="not a prior"):
        load_prior(tmp_path, 3, "obs")
    for content in (b"", b"{}", (8).to_bytes(8, "little") + b"        "):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(ValueError, match="not a prior"):
            load_prior(tmp_path, 3, "obs")


def _shape(**other: Any) -> str:
    return json.dumps({"n_features": 3, "code_size": 2, "hidden_size": 8, "goal_of": "obs"} | other)


def test_a_prior_that_asks_for_too_much(tmp_path: Path) -> None:
    save_file({"mean": torch.zeros(3)}, tmp_path / FILE, {FORMAT: _shape(hidden_size=10**9)})
    with pytest.raises(ValueError, match="not a prior"):
        load_prior(tmp_path, 3, "obs")


def test_from_a_fitted_prior_to_a_trained_learner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The two commands of the README, one after the other."""
    env = ["--env", LBF, "--partners", FORAGER, RANDOM]
    small = ["--episodes", "16", "--code-size", "4", "--hidden-size", "8", "--updates", "300"]
    main(["fit-prior", *env, *small, "--kl-weight", "1e-5", "--out", str(tmp_path / "prior")])
    report = json.loads((tmp_path / "prior" / "report.json").read_text())
    assert report["env"] == LBF
    assert (tmp_path / "prior" / "prior.png").stat().st_size > 10_000
    run = str(tmp_path / "run")
    options = ["--prior", str(tmp_path / "prior"), "--steps", "400", "--batch-size", "4", "--n-envs", "2"]
    main(["train", "omg", *env, *options, "--final-episodes", "4", "--eval-episodes", "4", "--run-dir", run])
    main(["eval", run, "--episodes", "4"])
    assert "omg on lbforaging" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "omg"], "prior: given none, want one for model 'omg': `endmark fit-prior`"),
        (["--model", "omg", "--prior", "nowhere"], "prior nowhere/prior.safetensors: no such file"),
        (["--model", "none", "--horizon", "11"], "horizon: given 11"),
    ],
)
def test_what_bad_input_gets(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "omg", "--env", LBF, "--partners", RANDOM, "--steps", "10", *words])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error


def test_it_needs_partners(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "omg", "--model", "none", "--env", LBF, "--run-dir", str(tmp_path / "run")])
    assert stop.value.code == 2
    assert "partners: given none, want some" in capsys.readouterr().err
