# SPDX-License-Identifier: GPL-2.0-or-later
# The micro-guest: freestanding, with flags of its own (never the sanitizers').

GUEST_DIR := $(dir $(lastword $(MAKEFILE_LIST)))
OBJCOPY ?= objcopy
GUEST_BUILD := $(BUILD)/guest
GUEST_SOURCES := $(sort $(wildcard $(GUEST_DIR)*.c)) $(GUEST_DIR)boot.S
GUEST_OBJECTS := $(patsubst $(GUEST_DIR)%,$(GUEST_BUILD)/%.o,$(GUEST_SOURCES))
GUEST_CFLAGS := -std=gnu11 -O2 -g -Wall -Wextra -Wno-unused-parameter -Wmissing-prototypes \
	-Werror=implicit-function-declaration -ffreestanding -nostdinc -nostdlib \
	-m64 -march=x86-64 -mno-red-zone -mgeneral-regs-only -mcmodel=small \
	-fno-pic -fno-pie -fno-stack-protector -fno-asynchronous-unwind-tables \
	-fno-strict-aliasing -fno-common -fcf-protection=none -fno-sanitize=all

.PHONY: guest
guest: $(GUEST_BUILD)/microguest.bin

$(GUEST_BUILD)/%.c.o: $(GUEST_DIR)%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(GUEST_CFLAGS) -I$(GUEST_DIR) -MMD -MP -c -o $@ $<

$(GUEST_BUILD)/%.S.o: $(GUEST_DIR)%.S
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(GUEST_BUILD)/microguest.elf: $(GUEST_OBJECTS) $(GUEST_DIR)guest.lds
	$(call say,LD,$@)
	$(Q)$(CC) -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 \
		-Wl,--no-warn-rwx-segments -Wl,-T,$(GUEST_DIR)guest.lds -o $@ $(GUEST_OBJECTS)

$(GUEST_BUILD)/microguest.bin: $(GUEST_BUILD)/microguest.elf
	$(OBJCOPY) -O binary $< $@

-include $(GUEST_OBJECTS:.o=.d)
