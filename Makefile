# Thin targets over hack/; see each script for what it does and why.
.PHONY: help build install check-nix demo test bench soak lint generate verify clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

build: ## build all programs into bin/
	@hack/build.sh

install: ## install what is in bin/ with systemd units and users (DESTDIR=, PREFIX=/usr/local)
	@BIN=$(BIN) DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) hack/install.sh

demo: ## run the quickstart on this host (DEMO_ONCE=1: prove that it comes and goes, then exit)
	@DEMO_ONCE=$(DEMO_ONCE) hack/demo.sh

test: ## run every ring of tests
	@hack/test.sh

bench: ## compare with a shell script, as ratios in one run
	@hack/bench.sh

soak: ## let 100 objects come and go for minutes (TEKTON_SOAK=30m): nothing may grow
	@hack/soak.sh

lint: ## gofmt, vet, staticcheck
	@hack/lint.sh

check-nix: ## parse nix/; with NIXPKGS_LIB=DIR evaluate the module too
	@hack/check-nix.sh

generate: ## regenerate schemas and reference pages
	@go run ./hack/gen

verify: ## fail when generated files are not up to date
	@hack/verify.sh

clean: ## remove what the build made
	@rm -rf bin
