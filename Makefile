# make run     try it out: builds, starts everything on loopback, sends sample mail
# make test    installs what the tests need (root, Debian) and runs all of them
# make check   the same without installing; what is missing is skipped
# make build   bin/gatepost
# make bench   against Postfix, in one run (root, Debian's postfix)
# make bench-milter   what milters cost Postfix: none, Gatepost, go-milter, three; BENCH=-quick is short
# make fuzz    every fuzz target for FUZZTIME
# make clean

SHELL := /bin/bash
export PATH := $(PATH):/usr/local/go/bin
# A checkout that belongs to somebody else has no version to stamp.
VCS := $(shell git -C . rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)
export GOFLAGS := -mod=readonly -buildvcs=$(VCS)
FUZZTIME ?= 10s

# Where npm did not come from Debian it is there already.
NPM := $(shell command -v npm >/dev/null || echo npm)
SCANNERS := clamav-daemon spamassassin spamd
# sendmail, exim4 and OpenSMTPD are unpacked by the tests themselves, into the user's cache: Debian has room for one MTA.
PACKAGES := amavisd-new bzip2 c-icap ca-certificates chromium curl dovecot-imapd dovecot-lmtpd fail2ban fonts-dejavu-core gcc gsasl ldap-utils libc-icap-mod-virus-scan libc6-dev libmail-deliverystatus-bounceparser-perl libmilter-dev libsasl2-modules m4 miltertest $(NPM) opendkim opendkim-tools opendmarc p7zip-full postfix prometheus python3 python3-authres python3-dkim redis-server sasl2-bin slapd spamc swaks xz-utils zip zstd $(SCANNERS)

.PHONY: run test check build bench bench-milter fuzz clean

run: build
	@go build -o bin/tryout ./examples/tryout
	@.ci/install $(SCANNERS) || true
	@bin/tryout

test:
	.ci/install $(PACKAGES)
	CI=true $(MAKE) --no-print-directory check

check:
	@bad=$$(gofmt -l .) && test -z "$$bad" || { echo "gofmt: $$bad"; exit 1; }
	go vet ./...
	go vet -tags failpoint ./cmd/...
	go tool staticcheck ./...
	go test ./internal/arch
	go test -race -shuffle=on -skip '^TestScripts$$' $$(go list ./... | grep -v '^gatepost/\(integration\|internal/arch\)$$')
	go test -run '^TestScripts$$' ./cmd/gatepost # each command is a process: with -race they take minutes
	go test -race -shuffle=on -timeout 20m ./integration

build:
	@go build -o bin/gatepost ./cmd/gatepost

bench: build
	go run ./integration/bench -binary bin/gatepost

bench-milter: build
	go run ./integration/milterbench -binary bin/gatepost $(BENCH)

fuzz:
	@set -e; for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

clean:
	rm -rf bin
