# The targets a newcomer needs: `make demo` and `make test`.

DEMO_STREAM = tests/data/devices-q35-7.2/stream.mig.zst
FUZZ_SECONDS ?= 14400
PYTEST_ARGS ?=

bin = .venv/bin
built_from = pyproject.toml setup.py src/vmstream/_kernels.pyx src/vmstream/_xbzrle.h tools/make_venv.sh

.PHONY: help demo test bench fuzz lint docs corpus clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    install into .venv and decipher a recorded stream"
	@echo "make test    run every test, with Debian's QEMU where it may be installed"
	@echo "make bench   measure, on streams of 1, 2 and 4 GiB"
	@echo "make fuzz    fuzz for FUZZ_SECONDS ($(FUZZ_SECONDS)) per test"
	@echo "make lint    ruff and mypy --strict"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make corpus  record tests/data anew from the QEMUs at hand"
	@echo "make clean   remove what all of these leave"

# One stamp per set of extras; `plain` is the project alone.
.venv/.has-%: $(built_from)
	tools/make_venv.sh $(filter-out plain,$*)
	@touch $@

demo: .venv/.has-plain
	$(bin)/vmstream inspect $(DEMO_STREAM)

test: .venv/.has-test
	tools/install_qemu.sh
	$(bin)/python -m pytest -n auto $(PYTEST_ARGS)

bench: .venv/.has-test
	tools/install_qemu.sh
	$(bin)/python -m pytest bench --benchmark-enable --benchmark-only -s $(PYTEST_ARGS)

fuzz: .venv/.has-test
	$(bin)/python -m pytest tests -k fuzz --slow --fuzz-seconds $(FUZZ_SECONDS) $(PYTEST_ARGS)

lint: .venv/.has-lint .venv/.has-test
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy --strict

docs: .venv/.has-docs
	$(bin)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

corpus: .venv/.has-test
	tools/install_qemu.sh
	$(bin)/python tools/make_corpus.py

clean:
	rm -rf .venv .qemu build dist docs/_build src/*.egg-info src/vmstream/_kernels.c
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find src tests tools bench docs \( -name __pycache__ -o -name '*.so' \) -prune -exec rm -rf {} +
