# make reproduce: environment, every stage, report. make test: lint, format and tests. make bench: docs/speed.md.
# make reproducibility: docs/reproducibility.md. make results: the tables of docs/results.md, README.md and others, and its picture.
# make kills, make reruns, make stand-ins: docs/reliability.md. make site: the documents as a website.
CORES ?= 2
RUN ?= results/instruments
PYTHON ?= python3
BIN = .venv/bin
BENCH = .venv-bench/bin

.PHONY: environment reproduce docs site results test lint slurm bench reproducibility kills reruns stand-ins

environment: .venv/installed

.venv/installed: requirements.txt constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt --constraint constraints.txt
	touch $@

reproduce: environment
	$(BIN)/snakemake --cores $(CORES)

# The tables of keys in config/README.md, from the schemas.
docs: environment
	$(BIN)/python docs/config_keys.py

# The documents as a website in site/, which needs no network.
site: environment
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Keeps what the documents show of a run in docs/recorded, and fills their tables from there.
results: environment
	PYTHONPATH=workflow/scripts $(BIN)/python docs/results_tables.py $(RUN)

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

# Most tests are plans and small models on one core: two files side by side take little more than half the time.
test: lint slurm
	$(BIN)/pytest --numprocesses 2 --dist loadfile

# What tests/test_slurm.py starts a cluster with. Only in a container or CI, as root on Debian: where systemd runs, this is
# somebody's machine, and installing is theirs to do. Without it those tests are skipped, and say so.
slurm:
	@if [ ! -d /run/systemd/system ] && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && ! command -v slurmctld > /dev/null; then \
	  { apt-get update --quiet=2 && DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes \
	    --no-install-recommends slurmctld slurmd slurm-client munge; } > /dev/null 2>&1 || echo "no Slurm could be installed"; \
	fi

# What is bit-identical under other threads and kernels.
reproducibility: environment
	$(BIN)/python benchmarks/reproducibility.py

# A run that is killed in every rule, against one that nobody disturbs.
kills: environment
	$(BIN)/python benchmarks/kills.py

# What each key and cell reruns.
reruns: environment
	$(BIN)/python docs/reruns.py

# Small stand-ins of the paper's models through every rule.
stand-ins: environment
	$(BIN)/pytest -m long tests/test_stand_ins.py

# Other libraries are measured against, never used: they have an environment of their own.
.venv-bench/installed: benchmarks/requirements.txt requirements.txt constraints.txt
	$(PYTHON) -m venv .venv-bench
	$(BENCH)/python -m pip install --quiet --requirement benchmarks/requirements.txt --constraint constraints.txt
	touch $@

# glibc hands freed memory back to the system and faults it in again, which costs a pass up to a sixth of its time, or
# nothing, by chance: memory is kept.
bench: export MALLOC_MMAP_THRESHOLD_ = 33554432
bench: export MALLOC_TRIM_THRESHOLD_ = 17179869184
bench: .venv-bench/installed
	$(BENCH)/python benchmarks/run.py
	$(BENCH)/python benchmarks/report.py
