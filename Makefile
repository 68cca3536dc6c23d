# SPDX-License-Identifier: GPL-2.0-or-later
# Builds everything of colo. `make help` lists the targets.

BUILD ?= build
CC ?= gcc
FUZZ_CC ?= clang
prefix ?= /usr/local
DESTDIR ?=
bindir = $(prefix)/bin
mandir = $(prefix)/share/man
completiondir = $(prefix)/share/bash-completion/completions
docdir = $(prefix)/share/doc/colo
unitdir = $(prefix)/lib/systemd/system

comma := ,
# `make SANITIZE=address,undefined check` builds into build-address,undefined.
SANITIZE ?=
ifneq ($(SANITIZE),)
BUILD := build-$(subst $(comma),-,$(SANITIZE))
SANITIZE_FLAGS = -fsanitize=$(SANITIZE) -fno-sanitize-recover=all
endif
# GLib's locks, explained to ThreadSanitizer.
ifneq ($(findstring thread,$(SANITIZE)),)
SANITIZE_OBJECT = $(BUILD)/tests/sanitize/tsan_glib.o
# Atomic fences mean more to a processor than to it.
SANITIZE_FLAGS += -Wno-tsan
endif
# In CI a warning is an error.
ifeq ($(CI),true)
WERROR ?= -Werror
endif

PKGS = glib-2.0 gio-unix-2.0 json-glib-1.0 liburing libxxhash liblz4 gnutls \
	libnetfilter_queue libpcap libcurl
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wold-style-definition -Wvla -Wno-unused-parameter -Wno-missing-field-initializers
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu11 -I. -I$(BUILD) $(WARNINGS) $(WERROR) -D_GNU_SOURCE \
	-fno-strict-aliasing -fstack-protector-strong -pthread $(PKG_CFLAGS) \
	$(SANITIZE_FLAGS) $(CFLAGS)
ALL_LDFLAGS = -pthread $(SANITIZE_FLAGS) $(LDFLAGS)
# Asked once, when something is compiled: `make deps` must work before they exist.
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PKGS)))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $$(shell pkg-config --libs $(PKGS)))$(PKG_LIBS)

PROGRAMS = colo colod colo-vm colo-netcompare colo-heartbeat
# The same with labelled steps (base/fault.h) at which tests let them die; not installed.
TEST_PROGRAMS = colo-vm-faults colod-faults colo-netcompare-faults colo-heartbeat-faults
LIB_SOURCES = $(sort $(filter-out %/fault.c,$(wildcard base/*.c kvm/*.c checkpoint/*.c) \
	$(filter-out netcompare/main.c,$(wildcard netcompare/*.c)) \
	$(filter-out heartbeat/main.c,$(wildcard heartbeat/*.c)) \
	$(filter-out colo/vm.c colo/colod.c colo/main.c,$(wildcard colo/*.c))))
# The program colo has the place that the objects of the folder colo/ would have.
COLO_OBJECTS = $(BUILD)/colo.objects
$(if $(wildcard $(BUILD)/colo/*.o),$(shell rm -rf $(BUILD)/colo))
LIB_OBJECTS = $(patsubst $(BUILD)/colo/%,$(COLO_OBJECTS)/%,$(LIB_SOURCES:%.c=$(BUILD)/%.o)) \
	$(SANITIZE_OBJECT)
LIB = $(BUILD)/libcolo.a

UNIT_SOURCES = $(sort $(wildcard tests/unit/test_*.c))
UNIT_TESTS = $(UNIT_SOURCES:%.c=$(BUILD)/%)
UNIT_HELPERS = $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(UNIT_SOURCES),$(wildcard tests/unit/*.c)))
MICRO_SOURCES = $(sort $(wildcard tests/micro/test_*.c))
MICRO_TESTS = $(MICRO_SOURCES:%.c=$(BUILD)/%)
MICRO_HELPERS = $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(MICRO_SOURCES),$(wildcard tests/micro/*.c)))
# The fault harness's cable that can be bad.
RELAY = $(BUILD)/tests/faults/relay
BENCH_SOURCES = $(sort $(wildcard tests/bench/bench_*.c))
BENCHES = $(BENCH_SOURCES:%.c=$(BUILD)/%)
FUZZ_SOURCES = $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_REPLAYS = $(FUZZ_SOURCES:tests/fuzz/%.c=$(BUILD)/tests/fuzz/replay-%)
FUZZERS = $(FUZZ_SOURCES:tests/fuzz/%.c=$(BUILD)/fuzzers/%)

# `make V=1` shows the commands.
ifneq ($(V),1)
Q = @
say = @printf '  %-5s %s\n' $(1) $(2)
endif

.PHONY: all
all: $(PROGRAMS:%=$(BUILD)/%) $(BUILD)/guest/microguest.bin

-include tests/guest/guest.mk

.PHONY: help
help:
	@sed -n 's/^## //p' Makefile

## make                builds all programs into build/
## make deps           installs the Debian packages that are missing, and says which
## make demo           shows the main job on this machine, from nothing
## make check          the tests that fit in minutes
## make check-long     the same with more of everything
## make bench          measures, and prints ratios
## make fuzz           runs every fuzz target for FUZZ_SECONDS (60)
## make install        to $(DESTDIR)$(prefix)
## make SANITIZE=address,undefined check    (also thread) the same under sanitizers

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$(COLO_OBJECTS)/%.o: colo/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# The guest's ACPI description does not depend on the configuration: compiled here.
$(BUILD)/kvm/dsdt.h: kvm/dsdt.asl
	@mkdir -p $(@D)
	$(call say,IASL,$<)
	$(Q)iasl -oa -ve -p $(BUILD)/kvm/dsdt -tc $< >$(BUILD)/kvm/dsdt.log || \
		{ cat $(BUILD)/kvm/dsdt.log; exit 1; }
	@mv $(BUILD)/kvm/dsdt.hex $@
$(BUILD)/kvm/acpi.o: $(BUILD)/kvm/dsdt.h

$(LIB): $(LIB_OBJECTS)
	@rm -f $@
	$(call say,AR,$@)
	$(Q)ar rcs $@ $^

$(BUILD)/colo: $(COLO_OBJECTS)/main.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/colod: $(COLO_OBJECTS)/colod.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/colo-vm: $(COLO_OBJECTS)/vm.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/colo-netcompare: $(BUILD)/netcompare/main.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/colo-heartbeat: $(BUILD)/heartbeat/main.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

# Their own steps come before the library's, which then are not taken.
$(BUILD)/colo-vm-faults: $(COLO_OBJECTS)/vm.o $(BUILD)/checkpoint/fault.o
$(BUILD)/colod-faults: $(COLO_OBJECTS)/colod.o $(COLO_OBJECTS)/fault.o
$(BUILD)/colo-netcompare-faults: $(BUILD)/netcompare/main.o $(BUILD)/netcompare/fault.o
$(BUILD)/colo-heartbeat-faults: $(BUILD)/heartbeat/main.o $(BUILD)/heartbeat/fault.o
$(TEST_PROGRAMS:%=$(BUILD)/%): $(BUILD)/base/fault.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter-out $(LIB),$^) $(LIB) $(PKG_LIBS)

# Functions named in a test's .wrap are its own there.
unit_wraps = $(addprefix -Wl$(comma)--wrap=,$(shell cat tests/unit/$(1).wrap 2>/dev/null))
$(UNIT_TESTS): $(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(UNIT_HELPERS) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $(call unit_wraps,$*) -o $@ $^ $(PKG_LIBS) -lcmocka
$(MICRO_TESTS): $(BUILD)/tests/micro/%: $(BUILD)/tests/micro/%.o $(MICRO_HELPERS) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -lcmocka
$(RELAY): $(BUILD)/tests/faults/relay.o
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)
$(BENCHES): $(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o $(MICRO_HELPERS) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -lcmocka

# Each fuzz target twice: with libFuzzer, and as a program that replays its corpus. Functions
# named in a target's .wrap are its own there, so that no KVM and no peer is needed.
fuzz_wraps = $(addprefix -Wl$(comma)--wrap=,$(shell cat tests/fuzz/$(1).wrap 2>/dev/null))
$(FUZZ_REPLAYS): $(BUILD)/tests/fuzz/replay-%: $(BUILD)/tests/fuzz/%.o \
		$(BUILD)/tests/fuzz/replay.o $(BUILD)/tests/fuzz/harness.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $(call fuzz_wraps,$*) -o $@ $^ $(PKG_LIBS)
FUZZ_CFLAGS = -std=gnu11 -I. -I$(BUILD) -D_GNU_SOURCE -g -O1 -fno-strict-aliasing -pthread \
	-fsanitize=address,undefined -fno-sanitize-recover=all -Wno-gnu-variable-sized-type-not-at-end $(PKG_CFLAGS)
$(BUILD)/fuzzers/%.o: %.c $(BUILD)/kvm/dsdt.h
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<
$(FUZZERS): $(BUILD)/fuzzers/%: $(BUILD)/fuzzers/tests/fuzz/%.o \
		$(BUILD)/fuzzers/tests/fuzz/harness.o $(LIB_SOURCES:%.c=$(BUILD)/fuzzers/%.o)
	$(call say,LD,$@)
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer $(call fuzz_wraps,$*) -o $@ $^ $(PKG_LIBS)
.PRECIOUS: $(BUILD)/fuzzers/%.o $(BUILD)/%.o $(COLO_OBJECTS)/%.o

FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory fuzzers
	tests/fuzz/run $(BUILD)/fuzzers $(FUZZ_SECONDS)
.PHONY: fuzzers
fuzzers: $(FUZZERS)

# What everything here needs, by Debian package. The testbed names its own.
PACKAGES = gcc libc6-dev make pkg-config binutils libglib2.0-dev libjson-glib-dev \
	liburing-dev libxxhash-dev liblz4-dev libgnutls28-dev libnetfilter-queue-dev libpcap-dev \
	libcurl4-gnutls-dev nftables iptables libcmocka-dev acpica-tools clang libclang-rt-14-dev \
	python3 man-db groff-base iproute2 e2fsprogs etcd-server etcd-client openssl \
	$(shell cat tests/testbed/packages.txt 2>/dev/null)
.PHONY: deps
deps:
	@packaging/install-missing $(sort $(PACKAGES))

TESTS_BUILT = all $(TEST_PROGRAMS:%=$(BUILD)/%) $(UNIT_TESTS) $(MICRO_TESTS) $(FUZZ_REPLAYS) $(RELAY)
.PHONY: tests
tests: $(TESTS_BUILT)

RUN_TESTS = BUILD=$(BUILD) MICROGUEST=$(BUILD)/guest/microguest.bin COLO_BUILD=$(BUILD) tests/run
.PHONY: check check-quick check-long check-layers
## make check-quick    those of them that need no testbed
check:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory tests
	@$(RUN_TESTS) layers corpora micro testbed+pairs+nets+unit system
check-quick:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory tests
	@$(RUN_TESTS) layers unit corpora micro pairs+nets
## make check-alone    those of them that are one process each
.PHONY: check-alone
check-alone:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory tests
	@$(RUN_TESTS) layers unit corpora micro
check-long:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory tests
	@LONG=1 MICRO_RELOADS=1000 $(RUN_TESTS) layers unit corpora micro nets pairs points testbed system
	@$(MAKE) --no-print-directory faults
	@$(MAKE) --no-print-directory faults-testbed
	@$(MAKE) --no-print-directory faults-mutants
check-layers:
	@tests/check-layers

# Pairs that misfortunes meet (docs/faults.md). Those of a seed can be had again.
FAULTS = COLO_BUILD=$(BUILD) tests/faults/run --keep $(BUILD)/faults-kept --jobs $(or $(JOBS),3)
FAULTS_BUILT = all $(TEST_PROGRAMS:%=$(BUILD)/%) $(RELAY)
.PHONY: faults faults-long faults-testbed faults-points faults-mutants
## make faults         every row of the fault matrix, and some random runs
faults:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory $(FAULTS_BUILT)
	@$(FAULTS) --rows all --failovers 20 --random 30 \
		--seed $(or $(SEED),$(shell date +%s)) || [ $$? = 77 ]
## make faults-long    N (1000) random runs from SEED, and 200 failovers in a row
faults-long:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory $(FAULTS_BUILT)
	@$(FAULTS) --failovers 200 --random $(or $(N),1000) \
		--seed $(or $(SEED),$(shell date +%s))
## make faults-testbed rows that need hosts with a kernel of their own, and N (5) random runs there
faults-testbed:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory $(FAULTS_BUILT)
	@COLO_BUILD=$(BUILD) tests/faults/rows_testbed.py || [ $$? = 77 ]
	@COLO_BUILD=$(BUILD) tests/faults/run --site testbed --random $(or $(N),5) \
		--keep $(BUILD)/faults-kept --seed $(or $(SEED),$(shell date +%s)) || [ $$? = 77 ]
## make faults-points  kills each program N (20) times at each labelled step, on either side
faults-points:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory $(FAULTS_BUILT)
	@COLO_BUILD=$(BUILD) tests/faults/points.py --each $(or $(N),20) --others 1 \
		--jobs $(or $(JOBS),3) --seed $(or $(SEED),1)
## make faults-mutants plants deliberate faults in the product, and says which of them a test finds
faults-mutants:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory tests
	@BUILD=$(BUILD) tests/faults/mutants.py $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(ONLY),--only '$(ONLY)')

.PHONY: bench
bench:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory all benches
	@for bench in $(BENCHES); do \
		MICROGUEST=$(BUILD)/guest/microguest.bin $$bench || exit 1; done
	@for bench in $(wildcard tests/pairs/bench_*.py); do \
		COLO_BUILD=$(BUILD) $$bench || [ $$? = 77 ] || exit 1; done
.PHONY: benches
benches: $(BENCHES)

.PHONY: demo
demo:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory all
	@COLO_BUILD=$(BUILD) tests/system/demo

.PHONY: install
install: $(PROGRAMS:%=$(BUILD)/%)
	install -d $(DESTDIR)$(bindir) $(DESTDIR)$(mandir)/man1 \
		$(DESTDIR)$(mandir)/man5 $(DESTDIR)$(mandir)/man8 \
		$(DESTDIR)$(completiondir)
	install -m 755 $(PROGRAMS:%=$(BUILD)/%) $(DESTDIR)$(bindir)
	install -m 644 $(wildcard docs/*.1) $(DESTDIR)$(mandir)/man1
	install -m 644 $(wildcard docs/*.5) $(DESTDIR)$(mandir)/man5
	install -m 644 $(wildcard docs/*.8) $(DESTDIR)$(mandir)/man8
	install -m 644 packaging/completion/colo $(DESTDIR)$(completiondir)
	install -d $(DESTDIR)$(unitdir) $(DESTDIR)$(docdir)/examples
	install -m 644 docs/first-steps.md docs/faults.md $(DESTDIR)$(docdir)
	install -m 644 $(wildcard packaging/examples/*) $(DESTDIR)$(docdir)/examples
	for unit in colo@ colo-leave@; do \
		sed 's|@bindir@|$(bindir)|' packaging/$$unit.service.in \
			>$(DESTDIR)$(unitdir)/$$unit.service || exit 1; \
	done
	chmod 644 $(DESTDIR)$(unitdir)/colo@.service $(DESTDIR)$(unitdir)/colo-leave@.service

.PHONY: clean
clean:
	rm -rf build build-*

# A variable, for a script that compiles something.
print-%:
	@echo '$($*)'

-include $(wildcard $(BUILD)/*/*.d $(BUILD)/*/*/*.d $(BUILD)/fuzzers/*/*.d $(BUILD)/fuzzers/*/*/*.d)
