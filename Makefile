# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test lint format clean

demo: $(READY)
	$(BIN)/pixcell-site demo-slides demo/slides
	$(BIN)/pixcell-site synthesize --slides demo/slides --table demo/slides/slides.csv \
		--home demo/site --out demo/run --max-tiles 8
	$(BIN)/pixcell-hub verify demo/run/bundle --trust demo/site/site.pub
	$(BIN)/python -m hub_server.demo demo
	@echo
	@echo "report (private): demo/run/report.html"
	@echo "signed bundle:    demo/run/bundle"

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev,peers,train,hub,federation]'
	$(BIN)/python -m pip install --no-deps 'thunder-bench==0.2.2'  # an oracle that holds others back
	touch $(READY)

clean:
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache
