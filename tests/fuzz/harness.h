/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What fuzz targets share: reading their input piece by piece, and a hostile guest that
 * does to a virtio device what the input says. With it come the fake platform and
 * driver of the unit tests.
 */
#ifndef FUZZ_HARNESS_H
#define FUZZ_HARNESS_H

#include "kvm/virtio.h"
#include "tests/unit/fake_driver.h"
#include "tests/unit/fake_platform.h"

#define FUZZ_MEMORY (1u << 20)

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

struct fuzz_input {
	const guint8 *data;
	gsize left;
};

/* Little-endian; zero from the end of the input on. */
guint8 fuzz_u8(struct fuzz_input *input);
guint16 fuzz_u16(struct fuzz_input *input);
guint32 fuzz_u32(struct fuzz_input *input);
guint64 fuzz_u64(struct fuzz_input *input);
/* Up to `len` bytes; returns how many there were. */
gsize fuzz_bytes(struct fuzz_input *input, void *to, gsize len);
/* 1, 2, 4 or 8. */
guint fuzz_len(struct fuzz_input *input);
/* A guest address: mostly inside memory, where two of them are likely to meet. */
guint64 fuzz_gpa(struct fuzz_input *input);

/* Accesses to port or configuration space, BAR, rings and memory, as the input says,
 * until its end. `driver` must have found the device; whether it was started is the
 * caller's choice. Now and then saves, and loads what it saved, with the device's own
 * contents changed or not; `step` (may be NULL) is called between the steps. */
void fuzz_virtio(struct fuzz_input *input, struct fake_driver *driver,
		 vmm_virtio *virtio, void (*step)(void *data, struct fuzz_input *input),
		 void *data);

/* Log lines of devices would drown the fuzzer's own. */
void fuzz_quiet(void);

#endif
