"""Draw the README's learning curve from run directories, and print its table: `make seeds`."""

import sys
from pathlib import Path

from endmark.report import learning_curve
from endmark.run import read_metrics
from endmark.training import evaluate, load, random_policy

directories = [Path(name) for name in sys.argv[1:]]
curves, rows, random_returns = [], [], []
for directory in directories:
    lines = list(read_metrics(directory))
    curves.append([(line["env_steps"], line["greedy_return"]) for line in lines if "greedy_return" in line])
    config, learner = load(directory)
    greedy = evaluate(config, learner.greedy_policy(config.n_envs), 100)
    random = evaluate(config, random_policy(), 100)
    random_returns.append(random.return_mean)
    returns = f"{greedy.return_mean:.3f} | {random.return_mean:.3f}"
    rows.append(f"| {config.seed} | {returns} | {lines[-1]['seconds']:.0f} s |")
learning_curve(
    {config.name.upper(): curves},
    Path(__file__).with_suffix(".png"),
    title=config.env,
    levels={"random": sum(random_returns) / len(random_returns), "best possible": 1.0},
)
print("| seed | greedy return | random return | training |", "|---|---|---|---|", *rows, sep="\n")
