/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages the vCPUs wrote.
 *
 * Ring: each vCPU has an array of entries shared with KVM. Taking an entry is reading it
 * and setting its reset flag; KVM_RESET_DIRTY_RINGS then protects those pages again. That
 * comes before anybody reads their content, so a later write is seen by a later
 * collection. A ring that fills up between collections is emptied by its own vCPU into
 * `early`.
 *
 * Newer kernels (6.18 is one) give up half-way through KVM_RESET_DIRTY_RINGS when a signal
 * is pending, as it is when a vCPU is just told to stop. They say so only by the number of
 * entries, and do not protect the last ones that they counted. A page that is left out
 * would go on being written unseen: so signals are kept away meanwhile, and the number is
 * looked at.
 *
 * Bitmap: GET copies the log, CLEAR protects again exactly the pages that were found.
 */
#include "kvm/dirty.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm/error.h"

#define RING_ENTRIES 65536u /* per vCPU, 1 MiB; fewer where KVM has fewer */
/* Runs of dirty words closer than this are cleared by one call. */
#define CLEAR_GAP_WORDS 16

struct ring {
	struct kvm_dirty_gfn *entries;
	guint32 next; /* free-running */
};

struct vmm_dirty {
	struct vmm_hypervisor *hv;
	vmm_memory *memory;
	gboolean started;
	gulong *seen; /* a bit per page, all zero between collections */
	/* Ring. */
	guint ring_entries; /* 0: bitmap */
	struct ring rings[VMM_CPUS_MAX];
	GMutex early_lock; /* of what follows, and of taking entries */
	GArray *early; /* guint32, perhaps repeated */
	guint taken; /* entries whose pages are not yet protected again */
	/* Bitmap. */
	gulong *log; /* of the larger bank */
};

static gboolean enable(struct vmm_hypervisor *hv, guint32 capability, guint64 arg)
{
	struct kvm_enable_cap cap = { .cap = capability, .args = { arg } };

	return ioctl(hv->vm_fd, KVM_ENABLE_CAP, &cap) == 0;
}

static gboolean enable_ring(vmm_dirty *dirty)
{
	guint entries = MIN(dirty->hv->ring_entries, RING_ENTRIES);
	guint64 bytes = entries * sizeof(struct kvm_dirty_gfn);

	if (!entries)
		return FALSE;
	if (!enable(dirty->hv, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, bytes) &&
	    !enable(dirty->hv, KVM_CAP_DIRTY_LOG_RING, bytes))
		return FALSE;
	dirty->ring_entries = entries;
	return TRUE;
}

static gboolean enable_bitmap(vmm_dirty *dirty)
{
	if (!dirty->hv->manual_protect ||
	    !enable(dirty->hv, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		    KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE))
		return FALSE;
	dirty->log = g_new0(gulong, vmm_memory_pages(dirty->memory) / 64 + 1);
	return TRUE;
}

vmm_dirty *vmm_dirty_new(struct vmm_hypervisor *hv, vmm_memory *memory,
			 enum vmm_dirty_method method, GError **error)
{
	vmm_dirty *dirty = g_new0(vmm_dirty, 1);
	gboolean ok;

	dirty->hv = hv;
	dirty->memory = memory;
	g_mutex_init(&dirty->early_lock);
	dirty->early = g_array_new(FALSE, FALSE, sizeof(guint32));
	dirty->seen = g_new0(gulong, vmm_memory_pages(memory) / 64 + 1);
	if (method == VMM_DIRTY_RING)
		ok = enable_ring(dirty);
	else if (method == VMM_DIRTY_BITMAP)
		ok = enable_bitmap(dirty);
	else
		ok = enable_ring(dirty) || enable_bitmap(dirty);
	if (ok)
		return dirty;
	vmm_error_set(error, VMM_ERROR_HOST, "this host's KVM has no dirty %s",
		      method == VMM_DIRTY_RING ? "ring" : "log with manual protection");
	vmm_dirty_free(dirty);
	return NULL;
}

void vmm_dirty_free(vmm_dirty *dirty)
{
	if (!dirty)
		return;
	for (guint i = 0; i < VMM_CPUS_MAX; i++)
		if (dirty->rings[i].entries)
			munmap(dirty->rings[i].entries,
			       dirty->ring_entries * sizeof(struct kvm_dirty_gfn));
	g_mutex_clear(&dirty->early_lock);
	g_array_unref(dirty->early);
	g_free(dirty->seen);
	g_free(dirty->log);
	g_free(dirty);
}

const char *vmm_dirty_name(const vmm_dirty *dirty)
{
	return dirty->ring_entries ? "ring" : "bitmap";
}

gboolean vmm_dirty_add_vcpu(vmm_dirty *dirty, guint id, int vcpu_fd, GError **error)
{
	void *ring;

	if (!dirty->ring_entries)
		return TRUE;
	ring = mmap(NULL, dirty->ring_entries * sizeof(struct kvm_dirty_gfn),
		    PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd,
		    (off_t)KVM_DIRTY_LOG_PAGE_OFFSET * sysconf(_SC_PAGESIZE));
	if (ring == MAP_FAILED)
		return vmm_error_errno(error, errno, "map the dirty ring of vCPU %u", id);
	dirty->rings[id].entries = ring;
	return TRUE;
}

/* Drops from `pages`, from `first` on, what is in it twice. */
static void make_unique(vmm_dirty *dirty, GArray *pages, guint first)
{
	guint32 *page = (guint32 *)(void *)pages->data;
	guint kept = first;

	for (guint i = first; i < pages->len; i++) {
		gulong *word = &dirty->seen[page[i] / 64];
		gulong bit = 1ul << page[i] % 64;

		if (*word & bit)
			continue;
		*word |= bit;
		page[kept++] = page[i];
	}
	for (guint i = first; i < kept; i++)
		dirty->seen[page[i] / 64] = 0;
	g_array_set_size(pages, kept);
}

static guint32 page_of(const struct vmm_bank *banks, guint count,
		       const struct kvm_dirty_gfn *entry)
{
	guint slot = entry->slot & 0xffff;

	g_assert(slot < count && entry->offset < banks[slot].size / VMM_PAGE);
	return (guint32)(banks[slot].offset / VMM_PAGE + entry->offset);
}

/* Takes all entries of a ring. */
static void harvest(vmm_dirty *dirty, struct ring *ring, GArray *pages)
{
	guint count;
	const struct vmm_bank *banks = vmm_memory_banks(dirty->memory, &count);

	for (;; ring->next++) {
		struct kvm_dirty_gfn *entry =
			&ring->entries[ring->next % dirty->ring_entries];
		guint32 page;

		if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		page = page_of(banks, count, entry);
		g_array_append_val(pages, page);
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		dirty->taken++;
	}
}

/* Protects the pages of all taken entries again. A failure stays: some pages may be written
 * unseen, so no later collection succeeds before tracking is started anew. */
static gboolean reset_rings(vmm_dirty *dirty, GError **error)
{
	sigset_t all, before;
	int n, err;

	if (!dirty->taken)
		return TRUE;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	n = ioctl(dirty->hv->vm_fd, KVM_RESET_DIRTY_RINGS, 0);
	err = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (n < 0)
		return vmm_error_errno(error, err, "reset dirty rings");
	if ((guint)n != dirty->taken)
		return vmm_error_set(error, VMM_ERROR_HOST,
				     "reset dirty rings: KVM protected %d pages of %u", n,
				     dirty->taken);
	dirty->taken = 0;
	return TRUE;
}

void vmm_dirty_ring_full(vmm_dirty *dirty, guint id)
{
	g_autoptr(GError) error = NULL;

	g_mutex_lock(&dirty->early_lock);
	harvest(dirty, &dirty->rings[id], dirty->early);
	/* Also where nobody collects for long, it is no more than memory's pages. */
	if (dirty->early->len > 2 * vmm_memory_pages(dirty->memory))
		make_unique(dirty, dirty->early, 0);
	if (!reset_rings(dirty, &error))
		g_critical("%s", error->message);
	g_mutex_unlock(&dirty->early_lock);
}

static void forget_rings(vmm_dirty *dirty)
{
	g_autoptr(GError) error = NULL;

	g_mutex_lock(&dirty->early_lock);
	for (guint i = 0; i < VMM_CPUS_MAX; i++)
		if (dirty->rings[i].entries)
			harvest(dirty, &dirty->rings[i], dirty->early);
	if (!reset_rings(dirty, &error))
		g_warning("%s", error->message);
	/* With the next start all pages are protected, whatever is left of this. */
	dirty->taken = 0;
	g_array_set_size(dirty->early, 0);
	g_mutex_unlock(&dirty->early_lock);
}

/* Returns what it was before. */
static gboolean set_started(vmm_dirty *dirty, vmm_loop *loop, gboolean devices,
			    gboolean started)
{
	gboolean was;

	vmm_loop_lock(loop);
	was = dirty->started;
	if (devices || !started)
		vmm_memory_track(dirty->memory, devices);
	dirty->started = started;
	vmm_loop_unlock(loop);
	return was;
}

gboolean vmm_dirty_start(vmm_dirty *dirty, vmm_loop *loop, GError **error)
{
	/* Devices first: what they write from here on is remembered. */
	if (set_started(dirty, loop, TRUE, dirty->started))
		return TRUE;
	/* What a ring had left over says nothing of what comes. */
	if (dirty->ring_entries)
		forget_rings(dirty);
	if (!vmm_hypervisor_set_memory(dirty->hv, dirty->memory, TRUE, error)) {
		set_started(dirty, loop, FALSE, FALSE);
		return FALSE;
	}
	vmm_loop_lock(loop);
	dirty->started = TRUE;
	vmm_loop_unlock(loop);
	return TRUE;
}

gboolean vmm_dirty_stop(vmm_dirty *dirty, vmm_loop *loop, GError **error)
{
	gboolean ok;

	if (!set_started(dirty, loop, FALSE, FALSE))
		return TRUE;
	ok = vmm_hypervisor_set_memory(dirty->hv, dirty->memory, FALSE, error);
	if (dirty->ring_entries)
		forget_rings(dirty);
	return ok;
}

gboolean vmm_dirty_started(const vmm_dirty *dirty)
{
	return dirty->started;
}

static gboolean collect_rings(vmm_dirty *dirty, GArray *pages, GError **error)
{
	gboolean ok;

	g_mutex_lock(&dirty->early_lock);
	g_array_append_vals(pages, dirty->early->data, dirty->early->len);
	g_array_set_size(dirty->early, 0);
	for (guint i = 0; i < VMM_CPUS_MAX; i++)
		if (dirty->rings[i].entries)
			harvest(dirty, &dirty->rings[i], pages);
	ok = reset_rings(dirty, error);
	g_mutex_unlock(&dirty->early_lock);
	return ok;
}

/* Protects again the dirty pages among words [first, end) of the log. */
static gboolean clear_words(vmm_dirty *dirty, guint slot, guint64 pages, guint64 first,
			    guint64 end, GError **error)
{
	struct kvm_clear_dirty_log clear = {
		.slot = slot,
		.first_page = first * 64,
		.num_pages = (guint32)(MIN(end * 64, pages) - first * 64),
		.dirty_bitmap = dirty->log + first,
	};

	if (ioctl(dirty->hv->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear) < 0)
		return vmm_error_errno(error, errno, "clear the dirty log of bank %u", slot);
	return TRUE;
}

static void append_word(GArray *pages, gulong word, guint64 first_page)
{
	while (word) {
		guint32 page = (guint32)(first_page + (guint)__builtin_ctzl(word));

		g_array_append_val(pages, page);
		word &= word - 1;
	}
}

static gboolean collect_bank(vmm_dirty *dirty, guint slot, const struct vmm_bank *bank,
			     GArray *pages, GError **error)
{
	struct kvm_dirty_log get = { .slot = slot, .dirty_bitmap = dirty->log };
	guint64 n_pages = bank->size / VMM_PAGE, words = (n_pages + 63) / 64;
	guint64 run = G_MAXUINT64, last = 0; /* words to clear: [run, last] */

	if (ioctl(dirty->hv->vm_fd, KVM_GET_DIRTY_LOG, &get) < 0)
		return vmm_error_errno(error, errno, "get the dirty log of bank %u", slot);
	for (guint64 w = 0; w < words; w++) {
		if (!dirty->log[w])
			continue;
		if (run != G_MAXUINT64 && w - last > CLEAR_GAP_WORDS) {
			if (!clear_words(dirty, slot, n_pages, run, last + 1, error))
				return FALSE;
			run = w;
		} else if (run == G_MAXUINT64) {
			run = w;
		}
		last = w;
		append_word(pages, dirty->log[w], bank->offset / VMM_PAGE + w * 64);
	}
	return run == G_MAXUINT64 ||
	       clear_words(dirty, slot, n_pages, run, last + 1, error);
}

static gboolean collect_log(vmm_dirty *dirty, GArray *pages, GError **error)
{
	guint count;
	const struct vmm_bank *banks = vmm_memory_banks(dirty->memory, &count);

	for (guint i = 0; i < count; i++)
		if (!collect_bank(dirty, i, &banks[i], pages, error))
			return FALSE;
	return TRUE;
}

gboolean vmm_dirty_collect(vmm_dirty *dirty, GArray *pages, GError **error)
{
	guint first = pages->len;
	gboolean ok;

	g_assert(dirty->started);
	vmm_memory_take_marked(dirty->memory, pages);
	ok = dirty->ring_entries ? collect_rings(dirty, pages, error) :
				   collect_log(dirty, pages, error);
	make_unique(dirty, pages, first);
	return ok;
}

/* As harvest(), but leaves the entries to whoever takes them. */
static void peek_ring(const vmm_dirty *dirty, const struct ring *ring, GArray *pages)
{
	guint count;
	const struct vmm_bank *banks = vmm_memory_banks(dirty->memory, &count);

	for (guint i = 0; i < dirty->ring_entries; i++) {
		const struct kvm_dirty_gfn *entry =
			&ring->entries[(ring->next + i) % dirty->ring_entries];
		guint32 page;

		if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		page = page_of(banks, count, entry);
		g_array_append_val(pages, page);
	}
}

static void peek_log(vmm_dirty *dirty, GArray *pages)
{
	guint count;
	const struct vmm_bank *banks = vmm_memory_banks(dirty->memory, &count);

	for (guint i = 0; i < count; i++) {
		struct kvm_dirty_log get = { .slot = i, .dirty_bitmap = dirty->log };
		guint64 words = (banks[i].size / VMM_PAGE + 63) / 64;

		/* With manual protection this resets nothing. */
		if (ioctl(dirty->hv->vm_fd, KVM_GET_DIRTY_LOG, &get) < 0)
			continue;
		for (guint64 w = 0; w < words; w++)
			append_word(pages, dirty->log[w],
				    banks[i].offset / VMM_PAGE + w * 64);
	}
}

void vmm_dirty_peek(vmm_dirty *dirty, GArray *pages)
{
	guint first = pages->len, marked;
	const guint32 *numbers = vmm_memory_marked(dirty->memory, &marked);

	if (!dirty->started)
		return;
	g_array_append_vals(pages, numbers, marked);
	g_mutex_lock(&dirty->early_lock);
	if (dirty->ring_entries) {
		g_array_append_vals(pages, dirty->early->data, dirty->early->len);
		for (guint i = 0; i < VMM_CPUS_MAX; i++)
			if (dirty->rings[i].entries)
				peek_ring(dirty, &dirty->rings[i], pages);
	} else {
		peek_log(dirty, pages);
	}
	/* A vCPU whose ring is full makes its list unique, too. */
	make_unique(dirty, pages, first);
	g_mutex_unlock(&dirty->early_lock);
}
