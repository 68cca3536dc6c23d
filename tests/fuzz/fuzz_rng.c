/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The entropy device and a hostile guest. */
#include "kvm/rng.h"

#include <string.h>

#include "tests/fuzz/harness.h"

/* Sometimes dry, sometimes short. */
static gsize source(void *data, void *bytes, gsize len)
{
	guint *turn = data;
	gsize give = (*turn)++ % 4 ? len : len / 3;

	memset(bytes, 0x5a, give);
	return give;
}

static void step(void *data, struct fuzz_input *input)
{
	if (input->left % 16 == 0)
		vmm_rng_poll(data);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };
	struct fake_platform *fake = fake_platform_new(FUZZ_MEMORY);
	vmm_pci *pci = vmm_pci_new(&fake->platform);
	struct fake_driver driver;
	guint turn = 0;
	vmm_rng *rng = vmm_rng_new(pci, &fake->platform, 0, source, &turn, NULL);

	g_assert(rng && fake_driver_find(&driver, fake, 4, 0));
	fake_driver_start(&driver, G_MAXUINT64, 16);
	fuzz_virtio(&input, &driver, vmm_rng_virtio(rng), step, rng);
	vmm_rng_free(rng);
	vmm_pci_free(pci);
	fake_platform_free(fake);
	return 0;
}
