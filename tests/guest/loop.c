/* SPDX-License-Identifier: GPL-2.0-or-later */
/* loop.c - what each vCPU does all day: devices, ticks, jobs, sleep. */
#include "loop.h"

#include "block.h"
#include "clock.h"
#include "command.h"
#include "faults.h"
#include "net.h"

struct slot {
	lock_t lock; /* held during a slice */
	job_step step;
	u32 cpu;
	u64 due;
};

static struct slot jobs[JOBS];

void job_start(enum job job, job_step step, u32 cpu)
{
	struct slot *s = &jobs[job];

	job_stop(job);
	lock(&s->lock);
	s->cpu = cpu < cpu_count() ? cpu : job_cpu();
	s->due = 0;
	WRITE_ONCE(s->step, step);
	unlock(&s->lock);
	cpu_wake(cpu_at(s->cpu));
}

bool job_stop(enum job job)
{
	struct slot *s = &jobs[job];
	bool was = __atomic_exchange_n(&s->step, NULL, __ATOMIC_ACQ_REL);

	/* Nobody begins another slice now; wait for the end of one that runs. */
	lock(&s->lock);
	unlock(&s->lock);
	return was;
}

bool job_running(enum job job)
{
	return READ_ONCE(jobs[job].step);
}

u32 job_cpu(void)
{
	return cpu_count() - 1;
}

static u64 jobs_run(u32 cpu)
{
	u64 due = NEVER;

	for (u32 i = 0; i < JOBS; i++) {
		struct slot *s = &jobs[i];
		job_step step;

		if (!READ_ONCE(s->step) || READ_ONCE(s->cpu) != cpu)
			continue;
		lock(&s->lock);
		step = READ_ONCE(s->step);
		if (step) {
			u64 now = clock_ns();

			if (now >= s->due)
				s->due = step(now);
			if (s->due == NEVER)
				WRITE_ONCE(s->step, NULL);
			if (s->due < due)
				due = s->due;
		}
		unlock(&s->lock);
	}
	return due;
}

/*
 * One pass; sleeps at its end if there is nothing to do. With `done`, the pass is part
 * of a wait for it: no new commands, and no jobs, which could be in the waiter's way.
 */
static void pass(struct cpu *cpu, bool (*done)(void))
{
	u64 events = READ_ONCE(cpu->events), due = NEVER, next;

	cpu->loops++;
	faults_sample();
	if (cpu->id == 0) {
		block_poll();
		faults_poll();
		due = net_poll(clock_ns());
		if (done ? done() : command_poll())
			due = 0;
	}
	next = tick_step(clock_ns());
	if (next < due)
		due = next;
	next = done ? NEVER : jobs_run(cpu->id);
	if (next < due)
		due = next;
	if (clockwatch_active()) {
		clockwatch_slice();
		return;
	}
	if (due <= clock_ns())
		return;
	if (due != NEVER &&
	    (due != cpu->timer_due ||
	     READ_ONCE(cpu->irqs[VECTOR_TIMER]) != cpu->timer_irqs_seen))
		timer_arm(due);
	cpu_idle(events);
}

void loop_run(struct cpu *cpu)
{
	for (;;)
		pass(cpu, NULL);
}

bool loop_wait(bool (*done)(void), u64 timeout_ns)
{
	u64 end = clock_ns() + timeout_ns;

	while (!done()) {
		if (clock_ns() > end)
			return false;
		pass(this_cpu(), done);
	}
	return true;
}
