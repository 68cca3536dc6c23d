/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Configuration ports, BARs and saved state of a bus with two virtio devices. */
#include "kvm/console.h"

#include <string.h>

#include "kvm/rng.h"
#include "tests/fuzz/harness.h"

struct rig {
	struct fake_platform *fake;
	vmm_pci *pci;
	vmm_rng *rng;
	vmm_chardev *chardev;
	vmm_console *console;
};

static void save(struct rig *rig, vmm_state *state)
{
	vmm_pci_save(rig->pci, state);
	vmm_virtio_save(vmm_rng_virtio(rig->rng), state);
	vmm_virtio_save(vmm_console_virtio(rig->console), state);
}

static gboolean load(struct rig *rig, const vmm_state *state, enum vmm_load pass)
{
	return vmm_pci_load(rig->pci, state, pass, NULL) &&
	       vmm_virtio_load(vmm_rng_virtio(rig->rng), state, pass, NULL) &&
	       vmm_virtio_load(vmm_console_virtio(rig->console), state, pass, NULL);
}

/* Mapping, too, must come back: where the BARs are seen is a matter of the registers.
 */
static void reload(struct rig *rig, gboolean reset)
{
	g_autoptr(vmm_state) before = vmm_state_new();
	g_autoptr(vmm_state) after = vmm_state_new();
	guint watches = rig->fake->watches->len;

	save(rig, before);
	if (reset) {
		vmm_pci_reset(rig->pci);
		vmm_virtio_reset(vmm_rng_virtio(rig->rng));
		vmm_virtio_reset(vmm_console_virtio(rig->console));
	}
	g_assert(load(rig, before, VMM_LOAD_CHECK));
	g_assert(load(rig, before, VMM_LOAD_APPLY));
	save(rig, after);
	g_assert(!vmm_state_difference(before, after));
	g_assert(rig->fake->watches->len == watches);
	vmm_virtio_loaded(vmm_rng_virtio(rig->rng));
	vmm_virtio_loaded(vmm_console_virtio(rig->console));
}

/* A section of the input's own making; the others as they are. */
static void load_made_up(struct rig *rig, struct fuzz_input *input)
{
	static const char *const names[] = { "pci", "pci-rng", "virtio-rng" };
	static const guint sizes[] = { 8, 280, 208 };
	g_autoptr(vmm_state) good = vmm_state_new();
	g_autoptr(vmm_state) made_up = vmm_state_new();
	guint which = fuzz_u8(input) % 3;
	guint8 payload[512];

	save(rig, good);
	for (guint i = 0; i < 3; i++) {
		gsize len = 0;
		const void *kept = vmm_state_get(good, names[i], 0, 1, 0,
						 sizeof(payload), &len, NULL);

		g_assert(kept && len == sizes[i]);
		memcpy(payload, kept, len);
		for (guint n = 0; i == which && n < 8; n++)
			payload[fuzz_u16(input) % len] = fuzz_u8(input);
		vmm_state_put(made_up, names[i], 0, 1, payload, len, NULL);
	}
	if (!vmm_pci_load(rig->pci, made_up, VMM_LOAD_CHECK, NULL) ||
	    !vmm_virtio_load(vmm_rng_virtio(rig->rng), made_up, VMM_LOAD_CHECK, NULL))
		return;
	g_assert(vmm_pci_load(rig->pci, made_up, VMM_LOAD_APPLY, NULL));
	g_assert(vmm_virtio_load(vmm_rng_virtio(rig->rng), made_up, VMM_LOAD_APPLY,
				 NULL));
	vmm_virtio_loaded(vmm_rng_virtio(rig->rng));
}

static void step(struct rig *rig, struct fuzz_input *input)
{
	guint8 op = fuzz_u8(input);
	guint len = 1u << (op >> 4 & 3);
	guint slot = op >> 6 & 3;

	switch (op & 7) {
	case 0:
	case 1:
		fake_pci_write(rig->fake, slot, fuzz_u8(input), fuzz_u32(input),
			       MIN(len, 4));
		break;
	case 2:
		fake_pci_read(rig->fake, slot, fuzz_u8(input), MIN(len, 4));
		break;
	case 3:
		/* The ports themselves, in any width. */
		if (op & 8)
			fake_in(rig->fake, 0xcf0 + (fuzz_u8(input) & 15), MIN(len, 4));
		else
			fake_out(rig->fake, 0xcf0 + (fuzz_u8(input) & 15),
				 fuzz_u32(input), MIN(len, 4));
		break;
	case 4:
		fake_mmio_write(rig->fake,
				VMM_PCI_WINDOW + slot * VMM_PCI_BAR_SIZE +
					fuzz_u16(input) % VMM_PCI_BAR_SIZE,
				fuzz_u64(input), len);
		break;
	case 5:
		fake_mmio_read(rig->fake,
			       VMM_PCI_WINDOW + slot * VMM_PCI_BAR_SIZE +
				       fuzz_u16(input) % VMM_PCI_BAR_SIZE,
			       len);
		break;
	case 6:
		if (op & 8)
			reload(rig, op & 16);
		else
			load_made_up(rig, input);
		break;
	default:
		vmm_virtio_config_changed(vmm_rng_virtio(rig->rng));
		fake_run(rig->fake);
		break;
	}
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };
	struct rig rig = { .fake = fake_platform_new(FUZZ_MEMORY) };

	rig.pci = vmm_pci_new(&rig.fake->platform);
	rig.rng = vmm_rng_new(rig.pci, &rig.fake->platform, 0, NULL, NULL, NULL);
	rig.chardev = vmm_chardev_new("none", rig.fake->platform.loop, NULL);
	rig.console =
		vmm_console_new(rig.pci, &rig.fake->platform, 0, rig.chardev, NULL);
	g_assert(rig.rng && rig.console);
	while (input.left)
		step(&rig, &input);
	fake_run(rig.fake);
	vmm_console_free(rig.console);
	vmm_chardev_free(rig.chardev);
	vmm_rng_free(rig.rng);
	vmm_pci_free(rig.pci);
	fake_platform_free(rig.fake);
	return 0;
}
