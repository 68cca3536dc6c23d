/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command.c - the interpreter: one line in, one line out. */
#include "command.h"

#include "block.h"
#include "clock.h"
#include "console.h"
#include "cpu.h"
#include "loop.h"
#include "memory.h"
#include "misuse.h"
#include "net.h"
#include "rng.h"
#include "serial.h"
#include "tcp.h"
#include "text.h"
#include "virtio.h"

#define WORDS_MAX 8
#define SLICE_NS 1000000ul
#define REPLY_NS 20000000ul
#define COMPUTE_SLICE 100000

struct words {
	u32 count;
	char *word[WORDS_MAX];
	char *rest;	       /* everything after the first */
	u64 number[WORDS_MAX]; /* where a word is one, else 0 */
};

static struct {
	u64 pages, seed, period, next, written;
	u32 counter;
	u64 at;
} dirtying;

static struct {
	u64 total, done, value, started, ended;
} computing;

/* What ends the machine, once the reply has had time to leave it. */
static void (*afterwards)(void);

static void answer(char *reply, const char *how, ...)
	__attribute__((format(printf, 2, 3)));

static void answer(char *reply, const char *how, ...)
{
	__builtin_va_list list;

	__builtin_va_start(list, how);
	format_list(reply, LINE_MAX, how, list);
	__builtin_va_end(list);
}

static bool is(const struct words *w, u32 index, const char *word)
{
	return w->count > index && text_equal(w->word[index], word);
}

static void do_ping(struct words *w, char *reply)
{
	answer(reply, "ok pong=%s", w->count > 1 ? w->word[1] : "");
}

static u64 dirty_step(u64 now)
{
	u64 end = now + SLICE_NS;

	do {
		memory_dirty(dirtying.at, dirtying.seed, dirtying.counter);
		dirtying.written++;
		if (++dirtying.at == dirtying.pages) {
			dirtying.at = 0;
			dirtying.counter++;
		}
		dirtying.next += dirtying.period;
	} while (dirtying.next <= now && clock_ns() < end);
	if (!dirtying.period)
		return dirtying.next = clock_ns();
	if (dirtying.next + 1000000000 < now) /* a second behind: let it go */
		dirtying.next = now;
	/* At high rates some pages each millisecond, not a timer for each. */
	return dirtying.next > now + SLICE_NS ? dirtying.next : now + SLICE_NS;
}

/* dirty N [RATE|max] [SEED] [CPU] */
static void do_dirty(struct words *w, char *reply)
{
	u64 start = clock_ns(), ns;
	bool always = w->count > 2 && (w->number[2] || is(w, 2, "max"));

	if (w->count < 2 || !w->number[1] || w->number[1] > memory_pages()) {
		answer(reply, "error pages, at most %lu", memory_pages());
		return;
	}
	job_stop(JOB_DIRTY);
	dirtying.pages = w->number[1];
	dirtying.seed = w->number[3];
	dirtying.counter++;
	dirtying.at = 0;
	if (always) {
		dirtying.period = w->number[2] ? 1000000000ul / w->number[2] : 0;
		dirtying.next = start;
		job_start(JOB_DIRTY, dirty_step,
			  w->count > 4 ? w->number[4] : job_cpu());
		answer(reply, "ok running=1 pages=%lu rate=%lu", dirtying.pages,
		       w->number[2]);
		return;
	}
	for (u64 i = 0; i < dirtying.pages; i++)
		memory_dirty(i, dirtying.seed, dirtying.counter);
	dirtying.written += dirtying.pages;
	ns = clock_ns() - start;
	answer(reply, "ok pages=%lu counter=%u ns=%lu", dirtying.pages,
	       dirtying.counter, ns);
}

/* touch N [ROUNDS] */
static void do_touch(struct words *w, char *reply)
{
	u64 rounds = w->number[2] ? w->number[2] : 1, start = clock_ns(), ns;

	if (w->count < 2 || w->number[1] > memory_pages()) {
		answer(reply, "error pages, at most %lu", memory_pages());
		return;
	}
	for (u64 i = 0; i < rounds; i++)
		memory_touch(0, w->number[1]);
	ns = clock_ns() - start;
	answer(reply, "ok pages=%lu rounds=%lu ns=%lu pages_per_s=%lu", w->number[1],
	       rounds, ns, ns ? w->number[1] * rounds * 1000000 / (ns / 1000 + 1) : 0);
}

/* verify [all] */
static void do_verify(struct words *w, char *reply)
{
	u64 first = 0, start = clock_ns(), bad, n = memory_pages();

	bad = memory_verify(0, n, is(w, 1, "all"), &first);
	answer(reply, "ok pages=%lu bad=%lu first_bad_gfn=0x%lx ns=%lu", n, bad, first,
	       clock_ns() - start);
}

static void do_sum(struct words *w, char *reply)
{
	if (w->count < 3 || !memory_is_ram(w->number[1], w->number[2])) {
		answer(reply, "error not all RAM");
		return;
	}
	answer(reply, "ok fnv1a=%016lx",
	       fnv1a(FNV_START, (const void *)w->number[1], w->number[2]));
}

static u64 compute_some(u64 value, u64 from, u64 n)
{
	for (u64 i = from; i < from + n; i++)
		value = mix64(value + i);
	return value;
}

static u64 compute_step(u64 now)
{
	u64 left = computing.total - computing.done;
	u64 n = left < COMPUTE_SLICE ? left : COMPUTE_SLICE;

	computing.value = compute_some(computing.value, computing.done, n);
	computing.done += n;
	if (computing.done == computing.total) {
		computing.ended = clock_ns();
		say("compute done value=%016lx", computing.value);
		return NEVER;
	}
	return clock_ns();
}

/* compute [N [bg [CPU]]] */
static void do_compute(struct words *w, char *reply)
{
	if (w->count > 1) {
		job_stop(JOB_COMPUTE);
		computing.total = w->number[1];
		computing.done = computing.value = computing.ended = 0;
		computing.started = clock_ns();
		if (is(w, 2, "bg")) {
			job_start(JOB_COMPUTE, compute_step,
				  w->count > 3 ? w->number[3] : job_cpu());
		} else {
			computing.value = compute_some(0, 0, computing.total);
			computing.done = computing.total;
			computing.ended = clock_ns();
		}
	}
	answer(reply, "ok running=%u done=%lu total=%lu value=%016lx ns=%lu",
	       job_running(JOB_COMPUTE), computing.done, computing.total,
	       computing.value,
	       (computing.ended ? computing.ended : clock_ns()) - computing.started);
}

static void do_time(struct words *w, char *reply)
{
	answer(reply, "ok tsc=%lu tsc_khz=%lu kvmclock_ns=%lu wall_ns=%lu kvmclock=%u",
	       rdtsc(), clock_tsc_khz(), clock_ns(), clock_wall_ns(), clock_is_kvm());
	for (u32 i = 0; i < cpu_count(); i++)
		format_more(reply, LINE_MAX,
			    " cpu%u.timer_irqs=%u cpu%u.arms=%lu cpu%u.ticks=%lu "
			    "cpu%u.irqs=%lu",
			    i, cpu_at(i)->irqs[VECTOR_TIMER], i, cpu_at(i)->timer_arms,
			    i, cpu_at(i)->ticks, i, cpu_at(i)->events);
}

static void do_clockwatch(struct words *w, char *reply)
{
	if (is(w, 1, "start")) {
		clockwatch_start();
		for (u32 i = 0; i < cpu_count(); i++)
			cpu_wake(cpu_at(i));
	} else if (is(w, 1, "stop")) {
		clockwatch_stop();
	} else if (!is(w, 1, "report")) {
		answer(reply, "error start, stop or report");
		return;
	}
	clockwatch_report(reply, LINE_MAX);
}

static void do_timer(struct words *w, char *reply)
{
	if (w->count > 1 && !is(w, 1, "report")) {
		if (w->number[1] > 10000) {
			answer(reply, "error at most 10000 Hz");
			return;
		}
		tick_set(w->number[1]);
	}
	tick_report(reply, LINE_MAX);
}

static void do_vcpus(struct words *w, char *reply)
{
	answer(reply, "ok vcpus=%u", cpu_count());
	for (u32 i = 0; i < cpu_count(); i++)
		format_more(reply, LINE_MAX,
			    " cpu%u.apic=%u cpu%u.loops=%lu cpu%u.idles=%lu", i,
			    cpu_at(i)->apic_id, i, cpu_at(i)->loops, i,
			    cpu_at(i)->idles);
}

static void do_memory(struct words *w, char *reply)
{
	answer(reply, "ok ram_pages=%lu work_pages=%lu dirtied=%lu dirtying=%u",
	       memory_total(), memory_pages(), dirtying.written,
	       job_running(JOB_DIRTY));
}

static void do_stop(struct words *w, char *reply)
{
	bool was = job_stop(JOB_DIRTY);

	was |= job_stop(JOB_COMPUTE);
	was |= job_stop(JOB_FLOOD);
	was |= job_running(JOB_BLOCK);
	block_journal_stop();
	answer(reply, "ok stopped=%u dirtied=%lu", was, dirtying.written);
}

static void transfer(struct words *w, char *reply, enum block_kind kind, u64 sector,
		     u64 count, u64 seed)
{
	struct block_result result;
	const char *wrong =
		block_transfer(w->number[1], kind, sector, count, seed, &result);

	if (wrong)
		answer(reply, "error %s", wrong);
	else
		answer(reply, "ok sectors=%lu bad=%lu errors=%lu ns=%lu", count,
		       result.bad, result.errors, result.ns);
}

static void do_blkwrite(struct words *w, char *reply)
{
	transfer(w, reply, BLOCK_WRITE, w->number[2], w->count > 3 ? w->number[3] : 1,
		 w->number[4]);
}

static void do_blkverify(struct words *w, char *reply)
{
	transfer(w, reply, BLOCK_VERIFY, w->number[2], w->count > 3 ? w->number[3] : 1,
		 w->number[4]);
}

static void do_blkflush(struct words *w, char *reply)
{
	transfer(w, reply, BLOCK_FLUSH, 0, 0, 0);
}

static void do_blkdiscard(struct words *w, char *reply)
{
	transfer(w, reply, BLOCK_DISCARD, w->number[2], w->count > 3 ? w->number[3] : 1,
		 0);
}

/* blkbg [RATE [DEV [wild]]] */
static void do_blkbg(struct words *w, char *reply)
{
	const char *wrong = NULL;

	if (w->count > 1 && !w->number[1])
		block_journal_stop();
	else if (w->count > 1)
		wrong = block_journal_start(w->number[2], w->number[1],
					    is(w, 3, "wild"));
	if (wrong)
		answer(reply, "error %s", wrong);
	else
		block_journal_report(reply, LINE_MAX);
}

/* blkcheck [empty] */
static void do_blkcheck(struct words *w, char *reply)
{
	u32 slots;
	const char *wrong = block_journal_check(is(w, 1, "empty"), &slots);

	if (wrong) {
		answer(reply, "error %s", wrong);
		return;
	}
	block_journal_report(reply, LINE_MAX);
	format_more(reply, LINE_MAX, " slots=%u", slots);
}

static void do_blk(struct words *w, char *reply)
{
	answer(reply, "ok disks=%u", block_disks());
	for (u32 i = 0; i < block_disks(); i++)
		format_more(reply, LINE_MAX, " disk%u.sectors=%lu disk%u.features=%lx",
			    i, block_capacity(i), i, block_device(i)->features);
}

/* net [NIC] [ip=A.B.C.D/N] */
static void do_net(struct words *w, char *reply)
{
	u32 nic = w->number[1];

	if (!net_nic(nic)) {
		answer(reply, "error no such nic");
		return;
	}
	for (u32 i = 1; i < w->count; i++)
		if (!memcmp(w->word[i], "ip=", 3) &&
		    !net_configure(nic, w->word[i] + 3)) {
			answer(reply, "error bad address");
			return;
		}
	net_report(nic, reply, LINE_MAX);
}

static void do_tcp(struct words *w, char *reply)
{
	tcp_report(reply, LINE_MAX);
}

/* flood [IP PORT RATE SIZE [COUNT]] */
static void do_flood(struct words *w, char *reply)
{
	const char *wrong = NULL;
	u32 ip, bits;

	if (w->count >= 5)
		wrong = net_parse_ip(w->word[1], &ip, &bits)
				? net_flood_start(ip, w->number[2], w->number[3],
						  w->number[4], w->number[5])
				: "bad address";
	if (wrong)
		answer(reply, "error %s", wrong);
	else
		net_flood_report(reply, LINE_MAX);
}

static void do_rng(struct words *w, char *reply)
{
	u64 hash;
	const char *wrong = rng_hash(w->number[1], &hash);

	if (wrong)
		answer(reply, "error %s", wrong);
	else
		answer(reply, "ok bytes=%lu fnv1a=%016lx", w->number[1], hash);
}

static void do_mark(struct words *w, char *reply)
{
	say("mark %s", w->rest);
	answer(reply, "ok mark=%s", w->rest);
}

static void do_devices(struct words *w, char *reply)
{
	answer(reply, "ok devices=%u", virtio_count());
	for (u32 i = 0; i < virtio_count(); i++) {
		struct virtio *d = virtio_at(i);

		format_more(reply, LINE_MAX, " %u:slot=%u,type=%u,status=%x", i,
			    d->slot, d->type, virtio_status(d));
		for (u32 q = 0; q < d->queues; q++)
			format_more(reply, LINE_MAX, ",q%u=%lu/%lu/%u/%lu", q,
				    d->queue[q]->added, d->queue[q]->popped,
				    cpu_at(0)->irqs[d->queue[q]->vector],
				    d->queue[q]->kicks);
	}
}

/* misuse WHAT DEVICE [QUEUE] */
static void do_misuse(struct words *w, char *reply)
{
	const char *wrong;

	if (w->count < 3) {
		misuse_list(reply, LINE_MAX);
		return;
	}
	wrong = misuse(w->word[1], w->number[2], w->number[3]);
	if (wrong)
		answer(reply, "error %s", wrong);
	else
		answer(reply, "ok misuse=%s status=%x", w->word[1],
		       virtio_status(virtio_at(w->number[2])));
}

static void do_panic(struct words *w, char *reply)
{
	say("panic asked for");
	out8(0x505, 1);
	answer(reply, "ok panicked=1");
}

/* The machine ends, but the reply is to be on its way first: see command_poll(). */
static void reboot(void)
{
	say("reboot asked for");
	out8(0xcf9, 6);
}

static void poweroff(void)
{
	say("poweroff asked for");
	out8(0x604, 5 << 2 | 0x20);
}

static void do_reboot(struct words *w, char *reply)
{
	afterwards = reboot;
	answer(reply, "ok rebooting=1");
}

static void do_poweroff(struct words *w, char *reply)
{
	afterwards = poweroff;
	answer(reply, "ok poweroff=1");
}

/* A fault on purpose: a read of an address without a mapping. */
static void do_crash(struct words *w, char *reply)
{
	answer(reply, "ok %u", *(volatile u8 *)0x700000000000ul);
}

static void do_help(struct words *w, char *reply);

static const struct {
	const char *name;
	void (*run)(struct words *, char *);
} commands[] = {
	{ "ping", do_ping },
	{ "dirty", do_dirty },
	{ "touch", do_touch },
	{ "verify", do_verify },
	{ "sum", do_sum },
	{ "memory", do_memory },
	{ "stop", do_stop },
	{ "compute", do_compute },
	{ "time", do_time },
	{ "clockwatch", do_clockwatch },
	{ "timer", do_timer },
	{ "vcpus", do_vcpus },
	{ "blk", do_blk },
	{ "blkwrite", do_blkwrite },
	{ "blkverify", do_blkverify },
	{ "blkflush", do_blkflush },
	{ "blkdiscard", do_blkdiscard },
	{ "blkbg", do_blkbg },
	{ "blkcheck", do_blkcheck },
	{ "net", do_net },
	{ "tcp", do_tcp },
	{ "flood", do_flood },
	{ "rng", do_rng },
	{ "mark", do_mark },
	{ "devices", do_devices },
	{ "misuse", do_misuse },
	{ "panic", do_panic },
	{ "reboot", do_reboot },
	{ "poweroff", do_poweroff },
	{ "crash", do_crash },
	{ "help", do_help },
};

static void do_help(struct words *w, char *reply)
{
	answer(reply, "ok");
	for (u32 i = 0; i < ARRAY_SIZE(commands); i++)
		format_more(reply, LINE_MAX, " %s", commands[i].name);
}

void command_run(char *line, char *reply)
{
	static bool busy;
	struct words w = { 0 };
	char rest[LINE_MAX], *word;

	if (busy) {
		answer(reply, "error busy");
		return;
	}
	word = next_word(&line);
	if (!word) {
		answer(reply, "error empty");
		return;
	}
	format(rest, sizeof(rest), "%s", line);
	for (u32 n = text_length(rest);
	     n && (rest[n - 1] == '\n' || rest[n - 1] == '\r');)
		rest[--n] = 0;
	w.rest = rest;
	for (; word && w.count < WORDS_MAX; word = next_word(&line)) {
		to_number(word, &w.number[w.count]);
		w.word[w.count++] = word;
	}
	for (u32 i = 0; i < ARRAY_SIZE(commands); i++)
		if (text_equal(commands[i].name, w.word[0])) {
			busy = true;
			commands[i].run(&w, reply);
			busy = false;
			return;
		}
	answer(reply, "error no such command");
}

bool command_poll(void)
{
	char reply[LINE_MAX], *line;

	if (afterwards) {
		u64 end = clock_ns() + REPLY_NS;

		while (clock_ns() < end)
			__builtin_ia32_pause();
		afterwards();
		afterwards = NULL; /* nobody was there to end us */
	}
	if (console_present()) {
		line = console_line();
		if (line) {
			command_run(line, reply);
			console_say(reply);
			return true;
		}
	}
	line = serial_line();
	if (line) {
		command_run(line, reply);
		say("%s", reply);
		return true;
	}
	return afterwards;
}

void command_boot(void)
{
	char script[LINE_MAX], reply[LINE_MAX], *line = script, *end = script;

	if (!option("cmd", script, sizeof(script)))
		return;
	for (bool last = false; !last; line = end + 1) {
		for (end = line; *end && *end != ';'; end++)
			;
		last = !*end;
		*end = 0;
		/* In a kernel command line without quotes, '+' stands for a space. */
		for (char *p = line; *p; p++)
			if (*p == '+')
				*p = ' ';
		command_run(line, reply);
		say("%s", reply);
	}
}
