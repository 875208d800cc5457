# Everything a person or a CI runner needs to type. Details are in scripts/.
SHELL := /bin/bash
# rustup installs here, and a root shell from sudo or cron does not always have it
export PATH := $(PATH):$(HOME)/.cargo/bin

PREFIX     ?= /usr
SYSCONFDIR ?= /etc
UNITDIR    ?= $(PREFIX)/lib/systemd/system
POLKITDIR ?= /usr/share/polkit-1
DBUSDIR    ?= $(PREFIX)/share/dbus-1
DESTDIR    ?=
BIN        ?= target/release

.PHONY: all build demo test test-systemd-container test-inguest test-nova test-cockpit bench soak fuzz lint setup install install-files clean test-upstream-dbus

all: build

build:
	cargo build --release --locked

# Installs what the demo and the tests need (Debian 12 and 13, as root); nothing when nothing is missing.
setup:
	@scripts/setup.sh

# Define, start, ping and stop a VM from Nova's own XML in a network namespace of its own.
demo:
	@scripts/demo.sh

# All tests; the last line is "N passed, N failed, N skipped".
test:
	@scripts/test.sh

# A Debian with systemd as an unprivileged container: boot, reboot, shutdown. Downloads a Debian the first time.
test-systemd-container:
	@scripts/systemd-container.sh

# libvirt-dbus's own tests, unmodified, against our test driver; prints pytest's summary. Downloads them the first time.
test-upstream-dbus:
	@scripts/upstream-dbus-suite.sh -q

# Everything that needs systemd as PID 1, all of cgroup v2 and AppArmor, in an emulated machine of a few minutes.
# Downloads a Debian and a kernel the first time.
test-inguest:
	@scripts/inguest.sh

# OpenStack Nova's libvirt driver, unmodified, with QEMU guests and with containers. Downloads Nova from PyPI.
test-nova:
	@scripts/nova.sh

# cockpit-machines in a headless browser, with the test driver and with QEMU guests. Installs Cockpit and Chromium.
test-cockpit:
	@scripts/cockpit.sh

# What the calls cost, each beside its floor, measured in the same run.
bench: setup
	@scripts/bench.sh

# A thousand starts and stops of a container; fails when anything piles up.
soak: setup
	@scripts/soak.sh

# Feeds every parser of foreign bytes with broken input for SECONDS each; a finding stays in fuzz/artifacts.
SECONDS ?= 60
fuzz:
	@scripts/fuzz.sh $(SECONDS)

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

install: build install-files

# What is built already, from BIN.
install-files:
	install -D -m 755 $(BIN)/domusd $(DESTDIR)$(PREFIX)/sbin/domusd
	# The daemon looks for it beside itself.
	install -D -m 755 $(BIN)/domus-run $(DESTDIR)$(PREFIX)/sbin/domus-run
	install -D -m 755 $(BIN)/domus $(DESTDIR)$(PREFIX)/bin/domus
	for f in packaging/systemd/*; do install -D -m 644 "$$f" "$(DESTDIR)$(UNITDIR)/$${f##*/}"; done
	for f in packaging/sysusers/*; do install -D -m 644 "$$f" "$(DESTDIR)$(PREFIX)/lib/sysusers.d/$${f##*/}"; done
	for f in packaging/polkit/*.policy; do \
	    [ -e "$(DESTDIR)$(POLKITDIR)/actions/$${f##*/}" ] || \
	    install -D -m 644 "$$f" "$(DESTDIR)$(POLKITDIR)/actions/$${f##*/}"; done # libvirt's own packages may have brought them
	install -D -m 644 packaging/polkit/60-domus.rules $(DESTDIR)$(POLKITDIR)/rules.d/60-domus.rules
	for f in packaging/dbus/*.conf; do install -D -m 644 "$$f" "$(DESTDIR)$(DBUSDIR)/system.d/$${f##*/}"; done
	[ -e $(DESTDIR)$(SYSCONFDIR)/domus/domusd.toml ] || \
	    install -D -m 644 packaging/domusd.toml $(DESTDIR)$(SYSCONFDIR)/domus/domusd.toml

clean:
	cargo clean
