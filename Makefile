# A table of contents: what there is to do here. The work is done by cargo and `cargo xtask`.
.DEFAULT_GOAL := help
.PHONY: help demo test bench fuzz lint deny sbom crds image rig-up rig-down shell clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## tagpin in a real cluster on this machine, its main job step by step
	cargo xtask demo

test: ## Every test; those that need a cluster bring up their own
	cargo xtask packages
	cargo test --workspace
	cargo xtask rig --name test test

bench: ## What a review, a question, a replica and the image cost, each beside its goal
	cargo bench --bench admission
	cargo bench --bench commands
	cargo bench --package tagpin-engines
	cargo xtask bench

fuzz: ## Each fuzz target for a minute (with cargo-fuzz); what it finds stays in fuzz/artifacts
	cargo fuzz build --sanitizer none
	for target in $$(cargo fuzz list); do \
		cargo fuzz run --sanitizer none $$target -- -max_total_time=60 -max_len=8192 || exit 1; \
	done

lint: ## Formatting, and the compiler's and clippy's warnings
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --package tagpin --test cluster --test machines -- -D warnings

deny: ## Licences, banned crates and sources of what is built in (with cargo-deny)
	cargo deny check licenses bans sources

sbom: ## What the published binary is built from, as CycloneDX, in target/sbom (with cargo-cyclonedx)
	SOURCE_DATE_EPOCH=0 cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps
	mkdir -p target/sbom
	mv tagpin_bin.cdx.json target/sbom/tagpin.cdx.json
	rm xtask/xtask_bin.cdx.json

crds: ## Write the generated files anew: crds/ and the chart's template of them
	cargo xtask crds

image: ## The published image, as an OCI layout in target/image/oci (about ten minutes on two cores)
	cargo xtask image --profile release

rig-up: ## A real Kubernetes on this machine, in namespaces of its own
	cargo xtask rig up

rig-down: ## Stop it; its data stays (`cargo xtask rig down --purge` removes it)
	cargo xtask rig down

shell: ## A shell inside the rig, with kubectl, helm and a kubeconfig
	cargo xtask rig exec

clean: ## Remove what was built and the rig with its data; the cache outside this tree stays
	cargo xtask rig down --purge
	cargo clean
