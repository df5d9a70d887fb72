# Where Skein is built and tried out. `make` alone says what there is.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Fresh clones share compiled dependencies.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/skein/target
cache := $(or $(SKEIN_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/skein)

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  CLUSTER=local    (default) a real Kubernetes on this machine without a container engine: Linux, root, apt-get"
	@echo "  CLUSTER=kind     a kind cluster called skein: needs kind and docker"
	@echo "  CLUSTER=current  the cluster that kubectl speaks to; nothing is created or removed"

# --- A cluster: how each kind of it comes up, goes down, is found, and gets images

CLUSTER ?= local
IMAGE_NAME ?= localhost/skein:dev
image_context := $(cache)/image
docker_build = docker build --quiet --file deploy/Dockerfile --tag $(IMAGE_NAME) $(image_context) >/dev/null

ifeq ($(CLUSTER),local)
cluster_up = deploy/local/cluster up
cluster_down = deploy/local/cluster down
cluster_kubeconfig = deploy/local/cluster kubeconfig
cluster_load = deploy/local/cluster load $(1)
image_build = deploy/local/image $(IMAGE_NAME) $(image_context) deploy/Dockerfile >/dev/null
else ifeq ($(CLUSTER),kind)
cluster_up = kind get clusters 2>/dev/null | grep -qx skein || kind create cluster --name skein --kubeconfig $(cache)/kind.kubeconfig
cluster_down = kind delete cluster --name skein --kubeconfig $(cache)/kind.kubeconfig
cluster_kubeconfig = kind export kubeconfig --name skein --kubeconfig $(cache)/kind.kubeconfig >&2; echo $(cache)/kind.kubeconfig
cluster_load = kind load image-archive --name skein $(1)
image_build = $(docker_build) && docker save --output $(image_context).tar $(IMAGE_NAME) && $(call cluster_load,$(image_context).tar)
else ifeq ($(CLUSTER),current)
cluster_up = kubectl version >/dev/null && echo "using the cluster of the context $$(kubectl config current-context)"
cluster_down = echo "the cluster is yours; nothing is removed"
cluster_kubeconfig = echo "$${KUBECONFIG:-$(HOME)/.kube/config}"
cluster_load = echo "push the image to a registry that your cluster reads, for instance: skopeo copy docker-archive:$(1) docker://REGISTRY/NAME:TAG"
image_build = archive=$$(deploy/local/image --build-only $(IMAGE_NAME) $(image_context) deploy/Dockerfile) && $(call cluster_load,$$archive)
else
$(error CLUSTER is '$(CLUSTER)'; it must be local, kind or current)
endif

.PHONY: cluster cluster-down kubeconfig load
cluster: ## Bring up a cluster; no effect when it is up
	@$(cluster_up)
cluster-down: ## Take it down with all that it made
	@$(cluster_down)
kubeconfig: ## Print the path of its kubeconfig (make -s kubeconfig)
	@$(cluster_kubeconfig)
load: ## Load a docker-archive into it: make load IMAGE=agent.tar
	@: $(or $(IMAGE),$(error say which: make load IMAGE=<docker-archive.tar>))
	@$(call cluster_load,$(IMAGE))

# --- The image

# Naming the target keeps build scripts out of the static linking. Packed relocations are half a megabyte less that every
# process reads when it starts.
TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')
static := -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs

.PHONY: binary image
binary: ## Build the static program, for release
	RUSTFLAGS="$(static)" cargo build --release --locked --target $(TARGET)
image: binary ## Build the image localhost/skein:dev and load it into the cluster
	@mkdir -p $(image_context)
	@install -m 755 $(CARGO_TARGET_DIR)/$(TARGET)/release/skein $(image_context)/skein
	@$(image_build)
.PHONY: images plugin
images: image ## Build and load what a first team needs: Skein, NATS, and the hello agent
	@. deploy/install.sh && load_built deploy/nats/build && load_built examples/hello/build
plugin: binary ## Install the program as the kubectl plugin skein (PREFIX=/usr/local)
	@install -D -m 755 $(CARGO_TARGET_DIR)/$(TARGET)/release/skein $(or $(PREFIX),/usr/local)/bin/kubectl-skein

# --- See it work

.PHONY: demo
demo: ## A team of agents answers questions on a real cluster while agents are killed
	@deploy/demo/run

# --- Tests, and the files that are made from the code

.PHONY: test lint bench generated crds manifests
test: ## Every test; says what ran and how long it took
	@tests/run
lint: ## Formatting, clippy, links in comments, shellcheck
	@tests/run lint
bench: binary ## A task through two sidecars beside the same exchange on a plain client
	@SKEIN_BINARY=$(CARGO_TARGET_DIR)/$(TARGET)/release/skein cargo bench --quiet --bench sidecar
generated: crds manifests ## Make anew all files that are made from the code
crds: ## Make crds/ and docs/reference/ anew from the Rust types
	@UPDATE=1 cargo test --quiet --test crds --test docs >/dev/null
manifests: ## Make deploy/manifests/skein.yaml anew from crds/ and the chart
	@deploy/render >deploy/manifests/skein.yaml.partial && mv deploy/manifests/skein.yaml.partial deploy/manifests/skein.yaml
