"""Grids from TOML, JSON and words: their cells, the cells' names, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from endmark.experiments.cells import LONGEST_NAME, cells_of, identity, task_name
from endmark.experiments.grid import Grid, grid_from, grid_of_words, read_grid

TOML = """
algorithms = ["qmix", "mappo"]
tasks = ["lbforaging:Foraging-5x5-2p-1f-v3", "smax:3m"]
seeds = "0:2"

[settings]
gamma = [0.95, 0.99]
lr = 1e-4
learner_agents = "none"

[algorithm.qmix]
lr = [5e-4, 0.001]

[task."smax:3m"]
steps = 1_000_000
env_arg = [["max_steps=119"], ["max_steps=60", "walls=true"]]
"""
SMALL = {"algorithms": ["qmix"], "tasks": ["matrix:climbing"]}


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    (tmp_path / "grid.toml").write_text(TOML)
    return read_grid(tmp_path / "grid.toml")


def test_cells_are_the_product_of_the_axes(grid: Grid) -> None:
    cells = cells_of(grid)
    # qmix: gamma x lr, and on smax:3m x env_arg. mappo has no lr.
    assert len(cells) == 2 * ((4 + 2) + (8 + 4))
    assert len({cell.name for cell in cells}) == len({identity(cell.config) for cell in cells}) == len(cells)
    assert [cell.config.seed for cell in cells] == [0] * 18 + [1] * 18
    by_name = {cell.name: cell.config for cell in cells}
    config = by_name["qmix-Foraging-5x5-2p-1f-v3-gamma=0.95-lr=0.001-seed1"]
    assert (config.algorithm.gamma, config.algorithm.lr, config.seed, config.steps) == (
        0.95,
        1e-3,
        1,
        100_000,
    )
    assert config.learner_agents is None
    config = by_name["mappo-smax-3m-env_arg=max_steps=60,walls=true-gamma=0.99-seed0"]
    assert config.env_arg == ("max_steps=60", "walls=true")
    assert config.steps == 1_000_000


def test_a_grid_is_kept_as_json(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "grid.json").write_text(json.dumps(grid.to_json()))
    again = read_grid(tmp_path / "grid.json")
    assert again == grid
    assert cells_of(again) == cells_of(grid)


def test_words_make_the_same_grid() -> None:
    given = grid_of_words(
        "qmix,mappo",
        "matrix:climbing,smax:3m",
        "0:3,7",
        ["lr=5e-4,1e-3", "agent=gru,feedforward", "mappo.clip=0.1", "smax:3m.env_arg=max_steps=9,walls=true"],
    )
    want = {
        "algorithms": ["qmix", "mappo"],
        "tasks": ["matrix:climbing", "smax:3m"],
        "seeds": [0, 1, 2, 7],
        "settings": {"lr": [5e-4, 1e-3], "agent": ["gru", "feedforward"]},
        "algorithm": {"mappo": {"clip": 0.1}},
        "task": {"smax:3m": {"env_arg": ["max_steps=9", "walls=true"]}},
    }
    assert cells_of(given) == cells_of(grid_from(want))
    assert len(cells_of(given)) == 4 * 2 * (4 + 2)


def test_names_stay_when_the_grid_grows(grid: Grid) -> None:
    before = {cell.name: identity(cell.config) for cell in cells_of(grid)}
    raw = grid.to_json()
    raw["algorithms"] = ["vdn", *raw["algorithms"]]
    raw["tasks"] = [*raw["tasks"], "matrix:climbing"]
    raw["seeds"] = [9, *raw["seeds"]]
    raw["settings"] = raw["settings"] | {"gamma": [0.9, 0.95, 0.99]}
    after = {cell.name: identity(cell.config) for cell in cells_of(grid_from(raw))}
    assert before.items() < after.items()


def test_names_are_portable() -> None:
    grid = grid_from(SMALL | {"settings": {"env_arg": [["a=x/y"], ["a=x y"], ["a=x:y"], ["a=" + "x" * 300]]}})
    names = [cell.name for cell in cells_of(grid)]
    assert len({name.casefold() for name in names}) == 4
    for name in names:
        assert len(name) <= LONGEST_NAME
        assert not set(name) & set('<>:"/\\|?* ')
    assert task_name("mpe2.simple_spread_v3") == "simple_spread_v3"
    assert task_name("smax:3m") == "smax-3m"
    assert task_name("my.file:Env") == "my.file-Env"


def test_values_of_settings_that_are_lists() -> None:
    for given, want in [
        ("a=1", [("a=1",)]),
        (["a=1", "b=2"], [("a=1", "b=2")]),
        ([["a=1"], ["b=2"]], [("a=1",), ("b=2",)]),
        ([[], ["b=2"]], [(), ("b=2",)]),
    ]:
        cells = cells_of(grid_from(SMALL | {"settings": {"env_arg": given}}))
        assert [cell.config.env_arg for cell in cells] == want


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"taks": ["a"]}, "grid.'taks': no such key: did you mean tasks?"),
        ({"algorithms": ["qmixx"]}, "unknown algorithm 'qmixx': did you mean qmix?"),
        ({"algorithms": []}, "algorithms: given .., want a list of names"),
        ({"algorithms": ["qmix", "qmix"]}, "algorithms: given 'qmix' twice"),
        ({"tasks": 3}, "tasks: given 3, want a list of names"),
        ({"seeds": "1:0"}, "seeds: given '1:0', want such as"),
        ({"seeds": [0, -1]}, "seeds: given .0, -1., want such as"),
        ({"seeds": [True]}, "seeds: given .True., want such as"),
        ({"seeds": "0:99999999999"}, "seeds: given '0:99999999999', want such as"),
        ({"settings": [1]}, "settings: given .1., want a table of settings"),
        ({"settings": {"gama": 1}}, "settings.gama: no such setting: did you mean gamma?"),
        ({"settings": {"seed": 1}}, "settings.seed: no setting, want it under seeds"),
        ({"settings": {"gamma": []}}, "settings.gamma: given an empty list"),
        ({"algorithm": {"vdn": {}}}, "algorithm.'vdn': no such algorithm in this grid: want one of qmix"),
        ({"algorithm": {"qmix": {"clip": 1}}}, "algorithm.qmix.clip: no such setting"),
        ({"task": {"matrix:climbin": {}}}, "task.'matrix:climbin': no such task in this grid: did you mean"),
        (
            {"algorithm": {"qmix": {"steps": 1}}, "task": {"matrix:climbing": {"steps": 2}}},
            "steps: given for algorithm.qmix and for task.'matrix:climbing', want it for one",
        ),
        ({"settings": {"lr": [1e-3, "x"]}}, "cell qmix on matrix:climbing, lr 'x': algorithm.lr: given 'x'"),
        ({"settings": {"steps": 0}}, "cell qmix on matrix:climbing: steps: given 0, want at least 1"),
        ({"settings": {"steps": 2.5}}, "cell qmix on matrix:climbing: steps: given 2.5, want an integer"),
        ({"settings": {"lr": [1e-3, 0.001]}}, "cell qmix-matrix-climbing-lr=0.001-seed0: given twice"),
        (
            {"settings": {"gamma": [0.9, 0.91, 0.92], "steps": list(range(1, 40_000))}},
            "the grid has 119997 cells",
        ),
        (
            {"settings": {"env_arg": [["a"]]}},
            "cell qmix on matrix:climbing, env_arg ..a..: env_arg: given 'a'",
        ),
    ],
)
def test_what_is_refused(change: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line) as raised:
        cells_of(grid_from(SMALL | change))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('algorithms = ["qmix"', "no TOML: Unclosed array"),
        ("a = 1\na = 2", "no TOML: Cannot overwrite a value"),
        ("\xff", "no TOML: 'utf-8' codec"),
        ("a = " + "[" * 100_000, "no TOML: "),
        ("#" * 2_000_000, "too large for a grid"),
    ],
)
def test_files_that_are_no_grids(text: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=f"^{path}: {line}"):
        read_grid(path)


def test_words_that_are_no_grid() -> None:
    for settings, line in [
        (["lr"], "--set: given 'lr', want key=value"),
        (["vdn.lr=1"], "--set 'vdn.lr': no such algorithm or task"),
        (["lr=1", "lr=2"], "--set lr: given twice"),
    ]:
        with pytest.raises(ValueError, match=line):
            grid_of_words("qmix", "matrix:climbing", "0", settings)
    with pytest.raises(ValueError, match="--env: missing"):
        grid_of_words("qmix", None, "0", [])


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sweep.md").read_text("utf-8")
    (example,) = re.findall(r"(?s)```toml\n(.*?)```", page)
    (tmp_path / "grid.toml").write_text(example)
    names = [cell.name for cell in cells_of(read_grid(tmp_path / "grid.toml"))]
    assert f"These are {len(names)} runs" in page
    shown = re.findall(r"(?m)^ +(qmix\S+)/ ", page)
    assert len(shown) == 1
    assert set(shown) <= set(names)
    words = shlex.split(re.findall(r"(?m)^endmark sweep (qmix.*)$", page)[0])
    options = dict(zip(words[1::2], words[2::2], strict=True))
    settings = [value for option, value in zip(words[1::2], words[2::2], strict=True) if option == "--set"]
    grid = grid_of_words(words[0], options["--env"], options["--seeds"], settings)
    assert len(cells_of(grid)) == 10 * 2 * (2 + 1)
