# `make demo` and `make test` need Python 3.10-3.13 and make, nothing else; each makes .venv and installs into it.
PYTHON ?= python3
ARCH ?= cpu
BIN := .venv/bin

.PHONY: demo test lint test-floors benchmark pictures figures docs clean

demo: .venv/demo
	$(BIN)/python examples/fit.py --out out/fit

test: .venv/test
	$(BIN)/python -m pytest -n 2 --arch $(ARCH)

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The oldest versions of the dependencies that pyproject.toml admits.
test-floors:
	$(PYTHON) -m venv .venv-floors
	.venv-floors/bin/python -m pip install --quiet --constraint tests/floors.txt --editable ".[test]"
	.venv-floors/bin/python -m pytest -n 2 tests/test_io.py tests/test_mesh.py tests/test_uv.py tests/test_environment.py tests/test_photos.py tests/test_morphable.py tests/test_io_morphable.py tests/test_large_steps.py tests/test_points.py tests/test_render.py tests/test_recording.py tests/test_examples.py

benchmark: .venv/benchmark
	$(BIN)/python benchmarks/soft.py

# The documentation site, into out/site; a warning, such as a link to nowhere, is an error.
docs: .venv/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env docs out/site

# The figures of the site that explain something.
figures: .venv/demo
	for figure in docs/figures/*.py; do $(BIN)/python $$figure docs/images || exit 1; done

# The pictures of the README, by the examples that it names.
pictures: .venv/demo
	$(BIN)/python examples/fit.py --out out/fit
	$(BIN)/python examples/render.py $(SPOT) --out out/render
	$(BIN)/python examples/fit_pose.py --out out/fit_pose
	$(BIN)/python examples/fit_texture.py --out out/fit_texture
	$(BIN)/python examples/fit_face.py --out out/fit_face
	$(BIN)/python examples/fit_shadow.py --out out/fit_shadow
	$(BIN)/python -m pip install --quiet --editable ".[uv]" && $(BIN)/python examples/fit_photos.py --out out/fit_photos
	mkdir -p docs && cp out/fit/fit.png out/render/render.png docs/
	cp out/fit_pose/fit_pose.png docs/pose.png && cp out/fit_texture/fit.png docs/texture.png
	cp out/fit_face/fit_face.png docs/face.png && cp out/fit_shadow/fit_shadow.png docs/shadow.png
	cp out/fit_photos/fit_photos.png docs/photos.png

.venv/demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/test: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

.venv/docs: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

.venv/benchmark: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[benchmark]"
	touch $@

clean:
	rm -rf .venv .venv-floors out
