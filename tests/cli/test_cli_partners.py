"""Partners on the command line: what is refused is one line, exit status 2, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from endmark.algorithms import VDNConfig
from endmark.cli import main
from endmark.run import CONFIG
from endmark.training import TrainConfig, train

TABLES = "support.tables:Tables"
WISHES = "support.tables:wishes"
TINY = "--steps 60 --n-envs 2 --eval-episodes 2 --final-episodes 2 --eval-every 60 --log-every 60"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good run, and some that are wrong: of another environment, of other shapes, without weights."""
    directory = tmp_path_factory.mktemp("pool")
    algorithm = VDNConfig(hidden_size=8, batch_size=2)
    few: dict[str, Any] = {"steps": 30, "n_envs": 2, "eval_episodes": 1, "log_every": 30, "eval_every": 30}
    for name, env, env_arg in [
        ("good", TABLES, ()),
        ("other", "lbforaging:Foraging-5x5-2p-1f-v3", ()),
        ("wide", TABLES, ("obs_size=7",)),
        ("three", TABLES, ("n_agents=3",)),
        ("six", TABLES, ("n_actions=6",)),
        ("shared", TABLES, ("reward_per_agent=false",)),
    ]:
        train(TrainConfig(algorithm, env, env_arg, **few), directory / name, lambda *_: None)
    shutil.copytree(directory / "good", directory / "weightless")
    (directory / "weightless" / "weights.safetensors").unlink()
    shutil.copytree(directory / "good", directory / "torn")
    (directory / "torn" / "weights.safetensors").write_bytes(b"nothing")
    shutil.copytree(directory / "good", directory / "unread")
    (directory / "unread" / CONFIG).write_text("{")
    (directory / "empty").mkdir()
    (directory / "file.txt").write_text("")
    return directory


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with modules that cannot be imported."""
    (tmp_path / "my_broken.py").write_text("raise RuntimeError('no\\nluck')\n", encoding="utf-8")
    (tmp_path / "my_exit.py").write_text("import sys\nsys.exit(0)\n", encoding="utf-8")
    for name in ("my_broken", "my_exit"):
        sys.modules.pop(name, None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("endmark: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


def train_with(*options: str, env: str = TABLES) -> list[str]:
    return ["train", "vdn", "--env", env, *TINY.split(), "--batch-size", "2", "--run-dir", "run", *options]


@pytest.mark.parametrize(
    ("partner", "says"),
    [
        ("nowhere", "partner nowhere: no such directory, want a run, a folder of runs, or module:function"),
        ("POOL/file.txt", "file.txt: no such directory"),
        ("POOL/empty", "neither a run directory nor a folder with runs in it"),
        ("POOL/weightless", "weightless: no weights in it: [Errno 2] No such file"),
        ("POOL/torn", "torn: "),
        ("POOL/unread", "unread"),
        ("POOL/good/last.safetensors", "last.safetensors: no weights in it"),
        ("POOL/last.safetensors", "last.safetensors: no run directory, as it holds no config.json"),
        ("POOL@sha256:00", "pool0: no run directory, as it holds no config.json"),
        ("POOL/good@sha256:00", "good: its weights are not those that this run began with"),
        ("POOL/other", f"other: trained on lbforaging:Foraging-5x5-2p-1f-v3, want {TABLES}"),
        ("POOL/wide", "wide: field 'obs': given shape (4, 7), want shape (4, 6)"),
        ("POOL/three", "three: field 'obs': given shape (3, 6), want shape (4, 6)"),
        ("POOL/six", "six: field 'avail_actions': given shape (4, 6), want shape (4, 5)"),
        ("POOL/shared", "shared: field 'reward': given shape (), want shape (4,)"),
        ("no.such:script", "partner no.such:script: cannot import 'no.such': No module named 'no'"),
        ("my_broken:script", "partner my_broken:script: cannot import 'my_broken': no luck"),
        ("my_exit:script", "partner my_exit:script: cannot import 'my_exit': SystemExit: 0"),
        ("support.tables:dreams", "the module 'support.tables' has no function 'dreams'"),
        ("support.tables:not_a_function", "the module 'support.tables' has no function 'not_a_function'"),
        ("support.tables:", "the module 'support.tables' has no function ''"),
        (":wishes", "partner :wishes: cannot import ''"),
        ("support.tables:raises", "partner support.tables:raises: KeyError: 'no such plan' ("),
        ("support.tables:leaves", "partner support.tables:leaves: SystemExit: 0 ("),
        ("support.tables:flat", "support.tables:flat: given shape (2,), want actions of shape (2, 4)"),
        ("support.tables:floats", "support.tables:floats: given torch.float32, want integers: actions"),
        ("support.tables:nothing", "support.tables:nothing: given None, want actions of shape (2, 4)"),
        ("support.tables:too_high", "support.tables:too_high: environment 0, agent "),
        ("support.tables:negative", "given action -1, want one of "),
        ("support.tables:illegal", "partner support.tables:illegal: environment "),
        ("endmark.policies.scripted:nearest_food", "want those of Level-Based Foraging: threes of numbers"),
        ("\x1b[2J", r"partner \x1b[2J: no such directory"),
    ],
)
def test_a_partner_that_is_none(
    partner: str, says: str, pool: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = partner.replace("POOL", str(pool))
    err = refusal(capsys, *train_with("--partners", WISHES, name))
    assert says.replace("pool0", pool.name) in err
    begins = (
        "raises",
        "leaves",
        "flat",
        "floats",
        "nothing",
        "too_high",
        "negative",
        "illegal",
        "nearest_food",
    )
    assert (here / "run" / CONFIG).exists() == partner.endswith(begins), "others are refused before it begins"
    assert (here / "run").exists() == (here / "run" / CONFIG).exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--learners 0", "learners: given 0, want 1 <= learners < 4, the number of agents"),
        ("--learners 4", "learners: given 4, want 1 <= learners < 4, the number of agents"),
        ("--learner-agents 9", "learner_agents: given 9, want 0 <= agent < 4"),
        ("--learner-agents 1 2 --learners 3", "learners: given 3, want at most the 2 of learner_agents"),
        ("--together 99", "together: given 99, want 1 <= together <= 3, the partners"),
        ("--together 0", "together: given 0, want 1 <= together <= 3, the partners"),
        ("--learners two", "Error parsing --learners"),
    ],
)
def test_seats_that_do_not_fit(
    options: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refusal(capsys, *train_with("--partners", WISHES, *options.split()))
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--learners 2", "learners: given 2 without partners, want partners beside it"),
        ("--learners 0", "learners: given 0 without partners, want partners beside it"),
        ("--learner-agents 1", "learner_agents: given (1,) without partners, want partners beside it"),
        ("--together 1", "together: given 1 without partners, want partners beside it"),
    ],
)
def test_seats_without_partners(
    options: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refusal(capsys, *train_with(*options.split()))
    assert not (here / "run").exists()


def test_a_single_agent_has_no_partners(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = refusal(capsys, *train_with("--partners", "endmark.policies.scripted:random", env="CartPole-v1"))
    assert "partners: given some, want none: CartPole-v1 has a single agent" in err
    assert not (here / "run").exists()


def test_a_partners_error_in_the_middle_of_a_run_names_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes while the run goes on, and leaves what there was."""
    (here / "my_late.py").write_text(
        "calls = 0\n\n\ndef late(seen, generator):\n    global calls\n    calls += 1\n"
        "    return seen.avail_actions.int().argmax(-1) if calls < 20 else None\n",
        encoding="utf-8",
    )
    err = refusal(capsys, *train_with("--partners", "my_late:late", "--steps", "2000"))
    assert "partner my_late:late: given None, want actions of shape (2, 4)" in err
    assert (here / "run" / CONFIG).exists()


def test_a_run_beside_all_that_is_good(pool: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Then another one like it, whose options are those of the first."""
    options = ["--partners", str(pool / "good"), WISHES, "--learners", "2", "--together", "1"]
    main(train_with(*options))
    main(["train", "--like", "run", "--seed", "1", "--run-dir", "other"])
    assert capsys.readouterr().err == ""
    first, second = (json.loads((here / name / CONFIG).read_text()) for name in ("run", "other"))
    for name in ("partners", "learners", "learner_agents", "together"):
        assert first[name] == second[name], name
    assert first["learners"] == 2
    assert len(first["partners"]) == 2
