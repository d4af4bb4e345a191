# Reproduce the paper's claims on small models, and check the project. `make help` lists everything.
CORES ?= 2
RUN ?= results/instruments
PYTHON ?= python3
BIN = .venv/bin
BENCH = .venv-bench/bin

.PHONY: help environment reproduce docs site results example test lint machine bench reproducibility kills reruns stand-ins

help: environment ## this
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/make \1: \2/p' $(MAKEFILE_LIST)
	@echo; echo 'Targets of the workflow, as: $(BIN)/snakemake --cores $(CORES) -- heads'; echo
	@$(BIN)/snakemake --list-target-rules 2> /dev/null | sed -n 's/ (\(.*\))$$/: \1/p'

environment: .venv/installed ## Python and all packages, in .venv

.venv/installed: requirements.txt constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt --constraint constraints.txt
	touch $@

reproduce: environment ## every stage, results/verdicts.html, results/report.html
	$(BIN)/snakemake --cores $(CORES)

docs: environment ## the tables of keys in config/README.md, from the schemas
	$(BIN)/python docs/config_keys.py

site: environment ## the documents as a website in site/, which needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Keeps what the documents show of a run in docs/recorded, and fills their tables from there.
results: environment ## tables of the documents, from a run: RUN=results/…
	PYTHONPATH=workflow/scripts $(BIN)/python docs/results_tables.py $(RUN)

example: RUN = results
example: environment ## what a reader sees of a run, with versions and hashes, in example/: RUN=results/…
	PYTHONPATH=workflow/scripts:docs $(BIN)/python docs/example.py $(RUN)

lint: environment ## lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

# Most tests are plans and small models on one core: two files side by side take little more than half the time.
test: lint machine ## lint, format, tests
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# What tests start: a cluster (tests/test_slurm.py) and a browser (tests/browser.py). Only in a container or CI, as root on
# Debian: where systemd runs, this is somebody's machine, and installing is theirs to do. Without it those tests are skipped,
# and say so.
machine:
	@if [ ! -d /run/systemd/system ] && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null \
	  && ! { command -v slurmctld && command -v chromium; } > /dev/null; then \
	  { apt-get update --quiet=2 && for packages in "slurmctld slurmd slurm-client munge" chromium; do \
	    DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends $$packages; \
	  done; } > /dev/null 2>&1 || echo "no Slurm or no chromium could be installed"; \
	fi

reproducibility: environment ## docs/reproducibility.md: what is bit-identical under other threads and kernels
	$(BIN)/python benchmarks/reproducibility.py

kills: environment ## docs/reliability.md: a run that is killed in every rule, against one that nobody disturbs
	$(BIN)/python benchmarks/kills.py

reruns: environment ## docs/reliability.md: what each key and cell reruns
	$(BIN)/python docs/reruns.py

stand-ins: environment ## small stand-ins of the paper's models through every rule
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
bench: .venv-bench/installed ## docs/speed.md
	$(BENCH)/python benchmarks/run.py
	$(BENCH)/python benchmarks/report.py
