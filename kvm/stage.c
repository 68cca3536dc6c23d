/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies of pages, taken while the guest stands still and read while it runs again. */
#include "kvm/stage.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct vmm_stage {
	guint room, count;
	guint32 *numbers;
	guint8 *content;
};

/* Huge pages where the host gives them: fewer TLB misses while copying. */
static guint8 *get_memory(guint pages)
{
	gsize bytes = (gsize)pages * VMM_PAGE;
	guint8 *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		g_error("get %zu bytes to stage pages in: %s", bytes, g_strerror(errno));
	madvise(memory, bytes, MADV_HUGEPAGE);
	madvise(memory, bytes, MADV_DONTDUMP);
	if (madvise(memory, bytes, MADV_POPULATE_WRITE) < 0)
		memset(memory, 0, bytes); /* before Linux 5.14 */
	return memory;
}

vmm_stage *vmm_stage_new(guint pages)
{
	vmm_stage *stage = g_new0(vmm_stage, 1);

	stage->room = MAX(pages, 1u);
	stage->numbers = g_new0(guint32, stage->room);
	stage->content = get_memory(stage->room);
	return stage;
}

void vmm_stage_free(vmm_stage *stage)
{
	if (!stage)
		return;
	munmap(stage->content, (gsize)stage->room * VMM_PAGE);
	g_free(stage->numbers);
	g_free(stage);
}

static void grow(vmm_stage *stage, guint pages)
{
	munmap(stage->content, (gsize)stage->room * VMM_PAGE);
	g_free(stage->numbers);
	stage->room = MAX(pages, stage->room * 2);
	stage->numbers = g_new0(guint32, stage->room);
	stage->content = get_memory(stage->room);
}

void vmm_stage_take(vmm_stage *stage, const vmm_memory *memory, const guint32 *pages,
		    guint count)
{
	if (count > stage->room)
		grow(stage, count);
	for (guint i = 0; i < count; i++) {
		/* Pages come in no order: what comes a little later is asked for now. */
		if (i + 4 < count)
			__builtin_prefetch(vmm_memory_page(memory, pages[i + 4]));
		memcpy(stage->content + (gsize)i * VMM_PAGE,
		       vmm_memory_page(memory, pages[i]), VMM_PAGE);
	}
	if (count)
		memcpy(stage->numbers, pages, count * sizeof(*pages));
	stage->count = count;
}

guint vmm_stage_count(const vmm_stage *stage)
{
	return stage->count;
}

guint32 vmm_stage_number(const vmm_stage *stage, guint index)
{
	g_assert(index < stage->count);
	return stage->numbers[index];
}

const guint8 *vmm_stage_content(const vmm_stage *stage, guint index)
{
	g_assert(index < stage->count);
	return stage->content + (gsize)index * VMM_PAGE;
}
