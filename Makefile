# Two commands do all of their own set-up: `make demo` and `make test`. Needs Python >= 3.10 and make.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
.DEFAULT_GOAL := help
.PHONY: help demo test check docs bench sanitize clean

help:
	@echo "make demo   train a small model on the Python language reference (2 minutes) and let it write"
	@echo "make test   run all tests"
	@echo "make check  formatting, lint, types, architecture"
	@echo "make docs   write the generated pages and pictures of docs/ anew"
	@echo "make bench  measure speed against torch.nn, side by side"
	@echo "make sanitize  the C++ tests under the address, undefined-behaviour and thread sanitizers"

.venv/installed: pyproject.toml constraints.txt $(wildcard native/*.txt native/include/* native/src/*)
	@echo "installing into .venv ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) -e '.[train,draw]'
	@touch $@

.venv/installed-dev: .venv/installed
	@$(PIP) -e '.[dev]'
	@touch $@

demo: .venv/installed
	@mkdir -p demo
	@# the language reference that every CPython carries, without its drawn tables
	@$(BIN)/python -c "from pydoc_data.topics import topics; \
	  print(*(line for text in topics.values() for line in text.splitlines() if line[:1] not in tuple('|+')), sep='\n')" > demo/python.txt
	$(BIN)/unrolled train demo/python.txt -o demo/model.safetensors --minutes 2 --resume
	$(BIN)/unrolled generate demo/model.safetensors --prompt "The " --characters 600 --temperature 0.7 --seed 1
	@echo
	@echo "That was a recurrent network writing in the style of the Python language reference. Next:"
	@echo "  .venv/bin/unrolled generate demo/model.safetensors --prompt 'If a class' --temperature 0.6"
	@echo "  .venv/bin/unrolled cells lstm                                    the equations it was made from"
	@echo "  .venv/bin/unrolled train YOUR_TEXT.txt -o my.safetensors --minutes 10    your own text"

test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto  # one core for each worker

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed-dev
	$(BIN)/python -m docs.build

bench: .venv/installed-dev
	$(BIN)/python -m benchmarks.layers --output build/benchmarks
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.streaming

# Needs cmake; the thread sanitizer wants addresses where it expects them, hence setarch where there is one.
sanitize:
	@for kind in address,undefined thread; do \
	  cmake -S native -B build/sanitize-$${kind%%,*} -DUNROLLED_SANITIZE=$$kind -DUNROLLED_TESTS=ON >/dev/null && \
	  cmake --build build/sanitize-$${kind%%,*} >/dev/null && echo "$$kind:" && \
	  for test in test_engine test_decode; do \
	    $(shell command -v setarch >/dev/null && echo setarch -R) build/sanitize-$${kind%%,*}/$$test || exit 1; \
	  done || exit 1; \
	done

clean:
	rm -rf .venv demo build
