/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vCPU threads.
 *
 * To stop one: raise `stop`, then the vCPU's immediate_exit, then send its thread a signal
 * that does nothing. A thread clears immediate_exit before it looks at `stop`, so the
 * request is seen either there or by the next KVM_RUN.
 */
#include "kvm/crew.h"

#include <pthread.h>
#include <signal.h>

struct member {
	vmm_crew *crew;
	vmm_vcpu *vcpu;
	GThread *thread;
	pthread_t id;
	GCond wake;
	gint idle; /* atomic */
};

struct vmm_crew {
	struct vmm_platform platform;
	vmm_dirty *dirty;
	vmm_crew_fn fn;
	void *data;
	guint n;
	struct member members[VMM_CPUS_MAX];

	gint stop; /* atomic: come to rest */
	GMutex lock; /* of what follows */
	GCond changed; /* for the owner */
	guint at_rest;
	guint64 turn; /* grows when those at rest may go on */
	gboolean quit;
	void (*rest_fn)(void *data);
	void *rest_data;
};

static int kick_signal(void)
{
	return SIGRTMIN;
}

static void on_kick(int signal)
{
}

/* With the lock held. */
static void go_on(vmm_crew *crew)
{
	g_atomic_int_set(&crew->stop, 0);
	crew->at_rest = 0;
	crew->turn++;
	for (guint i = 0; i < crew->n; i++)
		g_cond_signal(&crew->members[i].wake);
}

/* The last one to come to rest does what is to be done then. */
static void all_at_rest(vmm_crew *crew)
{
	if (crew->rest_fn) {
		g_mutex_unlock(&crew->lock);
		crew->rest_fn(crew->rest_data);
		g_mutex_lock(&crew->lock);
		crew->rest_fn = NULL;
		go_on(crew);
	}
	g_cond_signal(&crew->changed);
}

/* FALSE: the thread ends. */
static gboolean come_to_rest(struct member *member)
{
	vmm_crew *crew = member->crew;
	guint64 turn;
	gboolean quit;

	g_mutex_lock(&crew->lock);
	turn = crew->turn;
	if (++crew->at_rest == crew->n)
		all_at_rest(crew);
	while (crew->turn == turn)
		g_cond_wait(&member->wake, &crew->lock);
	quit = crew->quit;
	g_mutex_unlock(&crew->lock);
	return !quit;
}

static void wait_idle(struct member *member)
{
	vmm_crew *crew = member->crew;

	g_mutex_lock(&crew->lock);
	while (g_atomic_int_get(&member->idle) && !g_atomic_int_get(&crew->stop))
		g_cond_wait(&member->wake, &crew->lock);
	g_mutex_unlock(&crew->lock);
}

/* Until it is interrupted, when nothing of an exit is pending, or cannot go on. */
static void run(struct member *member)
{
	vmm_crew *crew = member->crew;
	enum vmm_exit why;

	while (TRUE) {
		why = vmm_vcpu_run(member->vcpu, &crew->platform);
		switch (why) {
		case VMM_EXIT_DONE:
			break;
		case VMM_EXIT_INTERRUPTED:
			vmm_vcpu_clear_interrupt(member->vcpu);
			return;
		case VMM_EXIT_RING_FULL:
			vmm_dirty_ring_full(crew->dirty, vmm_vcpu_id(member->vcpu));
			break;
		case VMM_EXIT_RESET:
		case VMM_EXIT_FAILED:
			vmm_crew_idle(crew);
			crew->fn(crew->data, why,
				 why == VMM_EXIT_FAILED ?
					 vmm_vcpu_failure(member->vcpu) :
					 "triple fault");
			return;
		}
	}
}

static void *vcpu_thread(void *data)
{
	struct member *member = data;
	vmm_crew *crew = member->crew;

	while (TRUE) {
		if (g_atomic_int_get(&crew->stop)) {
			if (!come_to_rest(member))
				return NULL;
		} else if (g_atomic_int_get(&member->idle)) {
			wait_idle(member);
		} else {
			run(member);
		}
	}
}

/* Makes every thread look at what it is asked. Without the lock. */
static void kick(vmm_crew *crew)
{
	for (guint i = 0; i < crew->n; i++) {
		struct member *member = &crew->members[i];

		vmm_vcpu_interrupt(member->vcpu);
		pthread_kill(member->id, kick_signal());
	}
	g_mutex_lock(&crew->lock);
	for (guint i = 0; i < crew->n; i++)
		if (g_atomic_int_get(&crew->members[i].idle))
			g_cond_signal(&crew->members[i].wake);
	g_mutex_unlock(&crew->lock);
}

static void wait_for_rest(vmm_crew *crew)
{
	g_mutex_lock(&crew->lock);
	while (crew->at_rest < crew->n)
		g_cond_wait(&crew->changed, &crew->lock);
	g_mutex_unlock(&crew->lock);
}

static void *start_thread(void *data)
{
	struct member *member = data;
	vmm_crew *crew = member->crew;

	g_mutex_lock(&crew->lock);
	member->id = pthread_self();
	g_mutex_unlock(&crew->lock);
	return vcpu_thread(member);
}

vmm_crew *vmm_crew_new(const struct vmm_platform *platform, vmm_dirty *dirty,
		       vmm_vcpu *const *vcpus, guint n, vmm_crew_fn fn, void *data)
{
	struct sigaction action = { .sa_handler = on_kick };
	vmm_crew *crew = g_new0(vmm_crew, 1);

	/* Without SA_RESTART: KVM_RUN is to return. */
	sigaction(kick_signal(), &action, NULL);
	crew->platform = *platform;
	crew->dirty = dirty;
	crew->fn = fn;
	crew->data = data;
	crew->n = n;
	crew->stop = 1;
	g_mutex_init(&crew->lock);
	g_cond_init(&crew->changed);
	for (guint i = 0; i < n; i++) {
		struct member *member = &crew->members[i];
		g_autofree char *name = g_strdup_printf("vcpu%u", i);

		member->crew = crew;
		member->vcpu = vcpus[i];
		g_cond_init(&member->wake);
		member->thread = g_thread_new(name, start_thread, member);
	}
	wait_for_rest(crew);
	return crew;
}

void vmm_crew_free(vmm_crew *crew)
{
	if (!crew)
		return;
	g_mutex_lock(&crew->lock);
	g_assert(crew->at_rest == crew->n);
	crew->quit = TRUE;
	go_on(crew);
	g_mutex_unlock(&crew->lock);
	for (guint i = 0; i < crew->n; i++) {
		g_thread_join(crew->members[i].thread);
		g_cond_clear(&crew->members[i].wake);
	}
	g_cond_clear(&crew->changed);
	g_mutex_clear(&crew->lock);
	g_free(crew);
}

void vmm_crew_run(vmm_crew *crew)
{
	g_mutex_lock(&crew->lock);
	g_assert(crew->at_rest == crew->n);
	go_on(crew);
	g_mutex_unlock(&crew->lock);
}

void vmm_crew_rest(vmm_crew *crew)
{
	g_atomic_int_set(&crew->stop, 1);
	kick(crew);
	wait_for_rest(crew);
}

void vmm_crew_rest_and(vmm_crew *crew, void (*fn)(void *data), void *data)
{
	g_mutex_lock(&crew->lock);
	crew->rest_data = data;
	crew->rest_fn = fn;
	g_mutex_unlock(&crew->lock);
	g_atomic_int_set(&crew->stop, 1);
	kick(crew);
	g_mutex_lock(&crew->lock);
	while (crew->rest_fn)
		g_cond_wait(&crew->changed, &crew->lock);
	g_mutex_unlock(&crew->lock);
}

void vmm_crew_idle(vmm_crew *crew)
{
	for (guint i = 0; i < crew->n; i++)
		g_atomic_int_set(&crew->members[i].idle, 1);
	kick(crew);
}

void vmm_crew_revive(vmm_crew *crew)
{
	for (guint i = 0; i < crew->n; i++)
		g_atomic_int_set(&crew->members[i].idle, 0);
}
