# Each target is one line that calls a tool. `make` alone explains them.
.DEFAULT_GOAL := help
.PHONY: help run test soak torture fuzz image dev lint bench clean

help: ## Explain the targets
	@sed -n 's/^\([a-z]*\): ## \(.*\)/  make \1 @\2/p' $(MAKEFILE_LIST) | column -t -s@

run: ## Build Quantix-OS, start it in QEMU, and say how to sign in
	@tools/run

test: ## Everything CI proves, in under an hour: units, then the booted image
	@tools/test

soak: ## The same cases with full counts, and every parser fuzzed; results go into docs/results
	@tools/soak

torture: ## Break the store at random for a quarter of an hour; what was acknowledged must be there
	@tools/torture

fuzz: ## Feed every parser that faces the network by chance, a minute each
	@tools/fuzz

image: ## Build out/image/quantix.raw, the file to write to a disk
	@tools/image

dev: ## The agent and the pages on this machine, without an image, at https://127.0.0.1:8443
	@tools/dev

lint: ## Formatting, clippy with warnings as errors, licences and advisories
	@tools/lint

bench: ## Boot, sizes and memory beside a bare image; the store, pages, API and machines beside peers
	@tools/bench

clean: ## Remove everything that was built
	@tools/clean
