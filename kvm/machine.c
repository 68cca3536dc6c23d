/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual machine: put together from its configuration, run, paused, reset.
 *
 * What the guest asks for (power-off, reset) and what befalls it (a vCPU that cannot go on)
 * is noticed on vCPU threads. These only make all vCPUs idle and post an event; the owner's
 * main context does the rest and tells whoever made the machine.
 */
#include "kvm/machine_private.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define MSR_MTRR_DEFAULT_TYPE 0x2ffu
#define MTRR_ENABLED_WRITE_BACK 0x806u

/* Whoever asks for counters does not wait longer for each: the last ones do as well. */
#define COUNTERS_MS 2

struct posted {
	enum vmm_event_type type;
	gint life;
	char *device, *detail;
};

static void posted_free(void *data)
{
	struct posted *posted = data;

	g_free(posted->device);
	g_free(posted->detail);
	g_free(posted);
}

static void post(void *host, enum vmm_event_type type, const char *device,
		 const char *detail)
{
	vmm_machine *machine = host;
	struct posted *posted = g_new0(struct posted, 1);

	if (type == VMM_EVENT_RESET || type == VMM_EVENT_POWEROFF)
		if (machine->crew)
			vmm_crew_idle(machine->crew);
	posted->type = type;
	posted->life = g_atomic_int_get(&machine->life);
	posted->device = g_strdup(device);
	posted->detail = g_strdup(detail);
	g_async_queue_push(machine->events, posted);
	g_source_set_ready_time(machine->event_source, 0);
}

/* A vCPU cannot go on; on its thread. */
static void on_stuck(void *data, enum vmm_exit why, const char *reason)
{
	vmm_machine *machine = data;

	if (why == VMM_EXIT_FAILED) {
		g_atomic_int_set(&machine->stuck, 1);
		post(machine, VMM_EVENT_FAILED, NULL, reason);
		return;
	}
	vmm_loop_lock(machine->loop);
	vmm_power_fault(machine->power);
	vmm_loop_unlock(machine->loop);
}

static void set_irq(void *host, guint gsi, gboolean level)
{
	vmm_machine *machine = host;
	struct kvm_irq_level line = { .irq = gsi, .level = level ? 1 : 0 };

	if (ioctl(machine->hv.vm_fd, KVM_IRQ_LINE, &line) < 0)
		g_critical("interrupt line %u: %s", gsi, g_strerror(errno));
}

static void send_msi(void *host, guint64 address, guint32 data)
{
	vmm_machine *machine = host;
	struct kvm_msi msi = { .address_lo = (guint32)address,
			       .address_hi = (guint32)(address >> 32),
			       .data = data };

	/* A guest may aim one at nobody; that is its own affair. */
	if (ioctl(machine->hv.vm_fd, KVM_SIGNAL_MSI, &msi) < 0)
		g_debug("interrupt message %#x: %s", data, g_strerror(errno));
}

static gboolean watch_write(void *host, guint64 gpa, int eventfd, gboolean on)
{
	vmm_machine *machine = host;
	struct kvm_ioeventfd watch = { .addr = gpa, .fd = eventfd,
				       .flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN };

	return machine->hv.any_length_eventfd &&
	       ioctl(machine->hv.vm_fd, KVM_IOEVENTFD, &watch) == 0;
}

static void on_escape(void *data)
{
	post(data, VMM_EVENT_ESCAPE, NULL, NULL);
}

gboolean vmm_machine_stands_still(vmm_machine *machine, const char *what, GError **error)
{
	enum vmm_run_state run_state = vmm_machine_run_state(machine);

	if (machine->still || run_state == VMM_PREPARED || run_state == VMM_PAUSED)
		return TRUE;
	return vmm_error_set(error, VMM_ERROR_MODE, "%s: the machine %s", what,
			     run_state == VMM_RUNNING ? "is running" : "has ended");
}

void vmm_machine_each_virtio(vmm_machine *machine, void (*fn)(vmm_virtio *, void *),
			     void *data)
{
	if (machine->console)
		fn(vmm_console_virtio(machine->console), data);
	if (machine->rng)
		fn(vmm_rng_virtio(machine->rng), data);
	for (guint i = 0; i < machine->n_nets; i++)
		fn(vmm_net_virtio(machine->nets[i]), data);
	for (guint i = 0; i < machine->n_disks; i++)
		fn(vmm_block_virtio(machine->disks[i]), data);
}

/* Building. */

static gboolean make_platform(vmm_machine *machine, GError **error)
{
	machine->loop = vmm_loop_new(error);
	if (!machine->loop)
		return FALSE;
	machine->pio = vmm_bus_new();
	machine->mmio = vmm_bus_new();
	machine->platform = (struct vmm_platform){
		.memory = machine->memory,
		.loop = machine->loop,
		.pio = machine->pio,
		.mmio = machine->mmio,
		.host = machine,
		.set_irq = set_irq,
		.send_msi = send_msi,
		.watch_write = watch_write,
		.event = post,
	};
	return TRUE;
}

static gboolean make_vcpus(vmm_machine *machine, GError **error)
{
	gboolean invariant;
	guint64 offset;

	for (guint i = 0; i < machine->config.cpus; i++) {
		machine->vcpus[i] = vmm_vcpu_new(&machine->hv, i, error);
		if (!machine->vcpus[i])
			return FALSE;
		machine->cpus++;
		if (!vmm_dirty_add_vcpu(machine->dirty, i, vmm_vcpu_fd(machine->vcpus[i]),
					error))
			return FALSE;
	}
	machine->tsc_settable = vmm_clock_probe_tsc(machine->vcpus[0]);
	/* All count from the same instant, whatever KVM made of their creation. */
	if (machine->tsc_settable &&
	    vmm_vcpu_get_tsc_offset(machine->vcpus[0], &offset))
		for (guint i = 1; i < machine->cpus; i++)
			vmm_vcpu_set_tsc_offset(machine->vcpus[i], offset);
	/* A guest that trusts its TSC must find it at the same rate elsewhere. */
	invariant = machine->tsc_settable && machine->hv.tsc_control;
	machine->cpuid = vmm_cpuid_new(&machine->hv, machine->config.cpu_model,
				       machine->config.cpus, invariant, error);
	if (!machine->cpuid)
		return FALSE;
	for (guint i = 0; i < machine->cpus; i++) {
		if (!vmm_vcpu_set_cpuid(machine->vcpus[i], machine->cpuid, error))
			return FALSE;
		/* As a firmware leaves it. */
		vmm_vcpu_set_msr(machine->vcpus[i], MSR_MTRR_DEFAULT_TYPE,
				 MTRR_ENABLED_WRITE_BACK);
	}
	return TRUE;
}

static gboolean make_disk(vmm_machine *machine, const struct vmm_disk_config *config,
			  GError **error)
{
	const struct vmm_backends *backends = &machine->config.backends;
	guint index = machine->n_disks;
	struct vmm_disk *disk;

	if (backends->open_disk)
		disk = backends->open_disk(backends->data, index, config, machine->loop,
					   error);
	else
		disk = vmm_disk_open(config->path, config->readonly, config->direct,
				     machine->loop, error);
	if (!disk)
		return FALSE;
	machine->disk_bytes[index] = disk->size;
	machine->disks[index] = vmm_block_new_take(machine->pci, &machine->platform, index,
						   config->serial, disk, error);
	if (!machine->disks[index])
		return FALSE;
	machine->n_disks++;
	return TRUE;
}

static gboolean make_net(vmm_machine *machine, const struct vmm_net_config *config,
			 GError **error)
{
	const struct vmm_backends *backends = &machine->config.backends;
	guint index = machine->n_nets;
	struct vmm_net_port *port;

	if (backends->open_net)
		port = backends->open_net(backends->data, index, config, machine->loop,
					  error);
	else
		port = vmm_tap_open(config->tap, machine->loop, error);
	if (!port)
		return FALSE;
	machine->nets[index] = vmm_net_new_take(machine->pci, &machine->platform, index,
						config->mac, port, error);
	if (!machine->nets[index])
		return FALSE;
	machine->n_nets++;
	return TRUE;
}

/* Host end of console `console`. */
static vmm_chardev *make_console_end(vmm_machine *machine, const char *spec, guint console,
				     GError **error)
{
	const struct vmm_chardev_hooks *hooks = &machine->config.backends.console;
	vmm_chardev *end = vmm_chardev_new(spec, machine->loop, error);

	if (!end)
		return NULL;
	vmm_chardev_set_hooks(end, hooks, console);
	vmm_chardev_set_escape(end, on_escape, machine);
	return end;
}

static gboolean make_consoles(vmm_machine *machine, GError **error)
{
	machine->console_end = make_console_end(machine, machine->config.console, 0, error);
	if (!machine->console_end)
		return FALSE;
	machine->serial = vmm_serial_new(&machine->platform, machine->console_end);
	if (!machine->config.hvc)
		return TRUE;
	machine->hvc_end = make_console_end(machine, machine->config.hvc, 1, error);
	if (!machine->hvc_end)
		return FALSE;
	machine->console = vmm_console_new(machine->pci, &machine->platform, 0,
					   machine->hvc_end, error);
	return machine->console != NULL;
}

/* The order decides the PCI slots: it must not depend on anything but the configuration. */
static gboolean make_devices(vmm_machine *machine, GError **error)
{
	const struct vmm_config *config = &machine->config;

	machine->pci = vmm_pci_new(&machine->platform);
	machine->power = vmm_power_new(&machine->platform);
	vmm_pci_set_reset_handler(machine->pci, vmm_power_reset_register, machine->power);
	if (!make_consoles(machine, error))
		return FALSE;
	if (config->rng) {
		machine->rng = vmm_rng_new(machine->pci, &machine->platform, 0,
					   config->backends.rng, config->backends.data,
					   error);
		if (!machine->rng)
			return FALSE;
	}
	for (guint i = 0; i < config->nets->len; i++)
		if (!make_net(machine, &g_array_index(config->nets, struct vmm_net_config, i),
			      error))
			return FALSE;
	for (guint i = 0; i < config->disks->len; i++)
		if (!make_disk(machine,
			       &g_array_index(config->disks, struct vmm_disk_config, i),
			       error))
			return FALSE;
	return TRUE;
}

/* Memory and vCPUs as at the kernel's first instruction. At rest. */
static gboolean prepare(vmm_machine *machine, GError **error)
{
	vmm_boot_place(machine->boot, machine->memory, machine->cpus);
	vmm_boot_registers(machine->boot, vmm_vcpu_regs(machine->vcpus[0]),
			   vmm_vcpu_sregs(machine->vcpus[0]));
	for (guint i = 0; i < machine->cpus; i++)
		if (!vmm_vcpu_restore(machine->vcpus[i], error))
			return FALSE;
	machine->captured = FALSE;
	return TRUE;
}

static gboolean dispatch_events(GSource *source, GSourceFunc callback, void *data)
{
	return callback(data);
}
static GSourceFuncs event_source_funcs = { .dispatch = dispatch_events };

static gboolean deliver_events(void *data);

static void make_events(vmm_machine *machine, vmm_event_fn fn, void *data)
{
	machine->event_fn = fn;
	machine->event_data = data;
	machine->events = g_async_queue_new_full(posted_free);
	machine->event_source = g_source_new(&event_source_funcs, sizeof(GSource));
	g_source_set_callback(machine->event_source, deliver_events, machine, NULL);
	g_source_attach(machine->event_source, g_main_context_get_thread_default());
}

static void copy_config(struct vmm_config *to, const struct vmm_config *from)
{
	vmm_config_init(to);
	g_free(to->cpu_model);
	g_free(to->console);
	to->kernel = g_strdup(from->kernel);
	to->initrd = g_strdup(from->initrd);
	to->append = g_strdup(from->append);
	to->cpu_model = g_strdup(from->cpu_model);
	to->console = g_strdup(from->console);
	to->hvc = g_strdup(from->hvc);
	to->memory = from->memory;
	to->cpus = from->cpus;
	to->rng = from->rng;
	to->reboot_exits = from->reboot_exits;
	to->dirty = from->dirty;
	to->clock = from->clock;
	to->backends = from->backends;
	for (guint i = 0; i < from->disks->len; i++) {
		struct vmm_disk_config disk =
			g_array_index(from->disks, struct vmm_disk_config, i);

		disk.path = g_strdup(disk.path);
		disk.serial = g_strdup(disk.serial);
		g_array_append_val(to->disks, disk);
	}
	for (guint i = 0; i < from->nets->len; i++) {
		struct vmm_net_config net = g_array_index(from->nets, struct vmm_net_config, i);

		net.tap = g_strdup(net.tap);
		g_array_append_val(to->nets, net);
	}
}

static gboolean build(vmm_machine *machine, gboolean for_load, GError **error)
{
	const struct vmm_config *config = &machine->config;

	if (config->kernel) {
		machine->boot = vmm_boot_new(config->kernel, config->initrd, config->append,
					     config->memory, error);
		if (!machine->boot)
			return FALSE;
	}
	if (!vmm_hypervisor_open(&machine->hv, error))
		return FALSE;
	machine->memory = config->backends.private_memory ?
				  vmm_memory_new_private(config->memory, error) :
				  vmm_memory_new(config->memory, error);
	if (!machine->memory || !make_platform(machine, error))
		return FALSE;
	machine->dirty = vmm_dirty_new(&machine->hv, machine->memory, config->dirty, error);
	if (!machine->dirty || !make_vcpus(machine, error) ||
	    !vmm_hypervisor_set_memory(&machine->hv, machine->memory, FALSE, error) ||
	    !make_devices(machine, error))
		return FALSE;
	machine->power_on = vmm_state_new();
	for (guint i = 0; i < machine->cpus; i++)
		vmm_vcpu_save(machine->vcpus[i], machine->power_on);
	if (!vmm_machine_capture_chips(machine, error))
		return FALSE;
	vmm_machine_save_chips(machine, machine->power_on);
	return for_load || prepare(machine, error);
}

vmm_machine *vmm_machine_new(const struct vmm_config *config, gboolean for_load,
			     vmm_event_fn fn, void *data, GError **error)
{
	g_autoptr(vmm_machine) machine = g_new0(vmm_machine, 1);

	g_assert(for_load || config->kernel);
	g_assert(config->cpus >= 1 && config->cpus <= VMM_CPUS_MAX);
	g_mutex_init(&machine->control);
	machine->peer_clock_ns = VMM_PEER_CLOCK_UNKNOWN;
	machine->hv.kvm_fd = machine->hv.vm_fd = -1;
	copy_config(&machine->config, config);
	make_events(machine, fn, data);
	if (!build(machine, for_load, error))
		return NULL;
	machine->crew = vmm_crew_new(&machine->platform, machine->dirty, machine->vcpus,
				     machine->cpus, on_stuck, machine);
	/* Nothing of a device happens before the machine runs. */
	vmm_loop_want(machine->loop);
	vmm_loop_start(machine->loop);
	vmm_loop_hold(machine->loop);
	return g_steal_pointer(&machine);
}

static void free_devices(vmm_machine *machine)
{
	for (guint i = 0; i < machine->n_disks; i++)
		vmm_block_free(machine->disks[i]);
	for (guint i = 0; i < machine->n_nets; i++)
		vmm_net_free(machine->nets[i]);
	g_clear_pointer(&machine->rng, vmm_rng_free);
	g_clear_pointer(&machine->console, vmm_console_free);
	g_clear_pointer(&machine->serial, vmm_serial_free);
	g_clear_pointer(&machine->hvc_end, vmm_chardev_free);
	g_clear_pointer(&machine->console_end, vmm_chardev_free);
	g_clear_pointer(&machine->power, vmm_power_free);
	g_clear_pointer(&machine->pci, vmm_pci_free);
	if (machine->config.backends.closed)
		machine->config.backends.closed(machine->config.backends.data);
}

void vmm_machine_free(vmm_machine *machine)
{
	if (!machine)
		return;
	if (machine->untracker)
		g_thread_join(machine->untracker);
	if (machine->crew) {
		if (vmm_machine_run_state(machine) == VMM_RUNNING)
			vmm_crew_rest(machine->crew);
		else
			vmm_loop_release(machine->loop);
		vmm_crew_free(machine->crew);
	}
	if (machine->loop) {
		vmm_loop_lock(machine->loop);
		free_devices(machine);
		vmm_loop_unlock(machine->loop);
		vmm_loop_free(machine->loop);
	}
	g_source_destroy(machine->event_source);
	g_source_unref(machine->event_source);
	g_async_queue_unref(machine->events);
	for (guint i = 0; i < machine->cpus; i++)
		vmm_vcpu_free(machine->vcpus[i]);
	vmm_dirty_free(machine->dirty);
	vmm_cpuid_free(machine->cpuid);
	vmm_hypervisor_close(&machine->hv);
	vmm_memory_free(machine->memory);
	vmm_bus_free(machine->pio);
	vmm_bus_free(machine->mmio);
	vmm_state_free(machine->power_on);
	vmm_boot_free(machine->boot);
	vmm_config_clear(&machine->config);
	g_mutex_clear(&machine->control);
	g_free(machine);
}

/* Running and pausing. The `control` mutex is held. */

static void tell_loaded(vmm_virtio *virtio, void *data)
{
	vmm_virtio_loaded(virtio);
}

static void go(vmm_machine *machine)
{
	vmm_loop_lock(machine->loop);
	if (machine->loaded) {
		vmm_machine_each_virtio(machine, tell_loaded, NULL);
		vmm_crew_revive(machine->crew);
	}
	machine->loaded = FALSE;
	/* Also what was asked for just before a pause, see act_on(). */
	vmm_power_again(machine->power);
	vmm_loop_unlock(machine->loop);
	for (guint i = 0; i < machine->cpus; i++)
		vmm_vcpu_tell_stopped(machine->vcpus[i]);
	machine->captured = FALSE;
	g_atomic_int_set(&machine->run_state, VMM_RUNNING);
	vmm_loop_release(machine->loop);
	vmm_crew_run(machine->crew);
}

static void stop(vmm_machine *machine, enum vmm_run_state next)
{
	vmm_loop_want(machine->loop);
	vmm_crew_rest(machine->crew);
	vmm_loop_hold(machine->loop);
	g_atomic_int_set(&machine->run_state, next);
}

static void reset_virtio(vmm_virtio *virtio, void *data)
{
	vmm_virtio_reset(virtio);
}

/* As after power-on. At rest, devices still. */
static gboolean reset(vmm_machine *machine, GError **error)
{
	g_atomic_int_inc(&machine->life);
	g_atomic_int_set(&machine->stuck, 0);
	vmm_loop_lock(machine->loop);
	vmm_machine_each_virtio(machine, reset_virtio, NULL);
	vmm_pci_reset(machine->pci);
	vmm_power_reset(machine->power);
	vmm_serial_reset(machine->serial);
	vmm_memory_clear(machine->memory);
	vmm_memory_mark_host(machine->memory, vmm_memory_page(machine->memory, 0),
			     vmm_memory_bytes(machine->memory));
	vmm_loop_unlock(machine->loop);
	for (guint i = 0; i < machine->cpus; i++)
		if (!vmm_vcpu_load(machine->vcpus[i], machine->power_on, VMM_LOAD_APPLY,
				   error))
			return FALSE;
	if (!vmm_machine_load_chips(machine, machine->power_on, VMM_LOAD_APPLY, error) ||
	    !prepare(machine, error))
		return FALSE;
	vmm_clock_start(machine->tsc_settable, machine->vcpus, machine->cpus);
	machine->loaded = FALSE;
	vmm_crew_revive(machine->crew);
	return TRUE;
}

static gboolean reset_in_place(vmm_machine *machine, GError **error)
{
	gboolean was_running = vmm_machine_run_state(machine) == VMM_RUNNING;
	gboolean ok;

	if (was_running)
		stop(machine, VMM_PAUSED);
	ok = reset(machine, error);
	if (!ok)
		g_atomic_int_set(&machine->run_state, VMM_ENDED);
	else if (was_running)
		go(machine);
	return ok;
}

static void end(vmm_machine *machine, gboolean intact)
{
	enum vmm_run_state run_state = vmm_machine_run_state(machine);

	machine->intact = intact;
	if (run_state == VMM_RUNNING)
		stop(machine, VMM_ENDED);
	else
		g_atomic_int_set(&machine->run_state, VMM_ENDED);
}

static void reset_or_end(vmm_machine *machine)
{
	g_autoptr(GError) error = NULL;

	if (machine->config.reboot_exits || !machine->boot)
		end(machine, TRUE);
	else if (!reset_in_place(machine, &error))
		post(machine, VMM_EVENT_FAILED, NULL, error->message);
}

/*
 * What an event means for the machine itself; FALSE: it is not so, or not yet.
 *
 * Events arrive some time after they were posted. If the machine was reset since or another
 * state loaded, whoever posted is no more. And a machine that was paused since stands
 * still: what the guest asked for is part of its state, and go() says it again.
 */
static gboolean act_on(vmm_machine *machine, const struct posted *posted)
{
	enum vmm_run_state run_state;
	gboolean so = FALSE;

	if (posted->type != VMM_EVENT_POWEROFF && posted->type != VMM_EVENT_RESET &&
	    posted->type != VMM_EVENT_FAILED)
		return TRUE;
	g_mutex_lock(&machine->control);
	run_state = vmm_machine_run_state(machine);
	if (posted->life != g_atomic_int_get(&machine->life))
		so = FALSE;
	else if (posted->type == VMM_EVENT_FAILED || run_state == VMM_RUNNING)
		so = TRUE;
	if (so && run_state != VMM_ENDED && !g_atomic_int_get(&machine->loadable)) {
		if (posted->type == VMM_EVENT_RESET)
			reset_or_end(machine);
		else
			end(machine, posted->type == VMM_EVENT_POWEROFF);
	}
	g_mutex_unlock(&machine->control);
	return so;
}

static gboolean deliver_events(void *data)
{
	vmm_machine *machine = data;
	struct posted *posted;

	g_source_set_ready_time(machine->event_source, -1);
	while ((posted = g_async_queue_try_pop(machine->events))) {
		struct vmm_event event = { posted->type, posted->device, posted->detail };

		if (act_on(machine, posted) && machine->event_fn)
			machine->event_fn(machine->event_data, &event);
		posted_free(posted);
	}
	return G_SOURCE_CONTINUE;
}

gboolean vmm_machine_resume(vmm_machine *machine, GError **error)
{
	enum vmm_run_state run_state;
	gboolean ok = TRUE;

	g_mutex_lock(&machine->control);
	run_state = vmm_machine_run_state(machine);
	if (run_state == VMM_PREPARED || run_state == VMM_PAUSED) {
		go(machine);
		post(machine, VMM_EVENT_RESUMED, NULL, NULL);
	} else {
		ok = vmm_error_set(error, VMM_ERROR_MODE, "resume: the machine %s",
				   run_state == VMM_RUNNING ? "is running" : "has ended");
	}
	g_mutex_unlock(&machine->control);
	return ok;
}

gboolean vmm_machine_pause(vmm_machine *machine, GError **error)
{
	enum vmm_run_state run_state;
	gboolean ok = TRUE;

	g_mutex_lock(&machine->control);
	run_state = vmm_machine_run_state(machine);
	if (run_state == VMM_RUNNING) {
		stop(machine, VMM_PAUSED);
		ok = vmm_machine_capture(machine, error);
		post(machine, VMM_EVENT_PAUSED, NULL, NULL);
	} else if (run_state == VMM_ENDED) {
		ok = vmm_error_set(error, VMM_ERROR_MODE, "pause: the machine has ended");
	}
	g_mutex_unlock(&machine->control);
	return ok;
}

struct quiesce {
	vmm_machine *machine;
	void (*fn)(void *data);
	void *data;
	GError *error;
};

/* On the vCPU thread that came to rest last. */
static void at_rest(void *data)
{
	struct quiesce *quiesce = data;
	vmm_machine *machine = quiesce->machine;

	vmm_loop_hold(machine->loop);
	if (vmm_machine_capture(machine, &quiesce->error)) {
		machine->still = TRUE;
		quiesce->fn(quiesce->data);
		machine->still = FALSE;
	}
	machine->captured = FALSE;
	vmm_loop_release(machine->loop);
}

gboolean vmm_machine_quiesce(vmm_machine *machine, void (*fn)(void *data), void *data,
			     GError **error)
{
	struct quiesce quiesce = { machine, fn, data, NULL };
	enum vmm_run_state run_state;

	g_mutex_lock(&machine->control);
	run_state = vmm_machine_run_state(machine);
	if (run_state == VMM_RUNNING) {
		vmm_loop_want(machine->loop);
		vmm_crew_rest_and(machine->crew, at_rest, &quiesce);
	} else if (run_state == VMM_ENDED && machine->intact) {
		if (vmm_machine_capture(machine, &quiesce.error)) {
			machine->still = TRUE;
			fn(data);
			machine->still = FALSE;
		}
	} else if (run_state != VMM_PAUSED) {
		vmm_error_set(&quiesce.error, VMM_ERROR_MODE, "the machine %s",
			      run_state == VMM_ENDED ? "has ended" : "has not run yet");
	} else if (vmm_machine_capture(machine, &quiesce.error)) {
		fn(data);
	}
	g_mutex_unlock(&machine->control);
	if (!quiesce.error)
		return TRUE;
	g_propagate_error(error, quiesce.error);
	return FALSE;
}

void vmm_machine_keep_loadable(vmm_machine *machine, gboolean on)
{
	g_mutex_lock(&machine->control);
	g_atomic_int_set(&machine->loadable, on ? 1 : 0);
	g_mutex_unlock(&machine->control);
	if (on)
		return;
	if (g_atomic_int_get(&machine->stuck))
		post(machine, VMM_EVENT_FAILED, NULL, "a vCPU cannot go on");
	vmm_loop_lock(machine->loop);
	vmm_power_again(machine->power);
	vmm_loop_unlock(machine->loop);
}

void vmm_machine_set_peer_clock(vmm_machine *machine, gint64 offset_ns)
{
	__atomic_store_n(&machine->peer_clock_ns, offset_ns, __ATOMIC_SEQ_CST);
}

static void wait_for_untracker(vmm_machine *machine)
{
	if (machine->untracker)
		g_thread_join(g_steal_pointer(&machine->untracker));
}

gboolean vmm_machine_track(vmm_machine *machine, gboolean on, GError **error)
{
	wait_for_untracker(machine);
	return on ? vmm_dirty_start(machine->dirty, machine->loop, error) :
		    vmm_dirty_stop(machine->dirty, machine->loop, error);
}

static void *untrack(void *data)
{
	vmm_machine *machine = data;
	g_autoptr(GError) error = NULL;

	if (!vmm_dirty_stop(machine->dirty, machine->loop, &error))
		g_warning("dirty pages are still tracked: %s", error->message);
	return NULL;
}

void vmm_machine_untrack(vmm_machine *machine)
{
	wait_for_untracker(machine);
	machine->untracker = g_thread_try_new("untrack", untrack, machine, NULL);
	if (!machine->untracker)
		untrack(machine);
}

gboolean vmm_machine_collect(vmm_machine *machine, GArray *pages, GError **error)
{
	gboolean ok;

	if (!vmm_machine_stands_still(machine, "collect", error))
		return FALSE;
	if (!vmm_dirty_started(machine->dirty))
		return vmm_error_set(error, VMM_ERROR_MODE, "collect: nothing is tracked");
	g_array_set_size(pages, 0);
	vmm_loop_lock(machine->loop);
	ok = vmm_dirty_collect(machine->dirty, pages, error);
	vmm_loop_unlock(machine->loop);
	return ok;
}

void vmm_machine_peek(vmm_machine *machine, GArray *pages)
{
	g_array_set_size(pages, 0);
	vmm_dirty_peek(machine->dirty, pages);
}

gboolean vmm_machine_powerdown(vmm_machine *machine, GError **error)
{
	if (vmm_machine_run_state(machine) != VMM_RUNNING)
		return vmm_error_set(error, VMM_ERROR_MODE,
				     "powerdown: the machine is not running");
	vmm_loop_lock(machine->loop);
	vmm_power_press(machine->power);
	vmm_loop_unlock(machine->loop);
	return TRUE;
}

gboolean vmm_machine_reset(vmm_machine *machine, GError **error)
{
	enum vmm_run_state run_state;
	gboolean ok;

	g_mutex_lock(&machine->control);
	run_state = vmm_machine_run_state(machine);
	if (run_state != VMM_RUNNING && run_state != VMM_PAUSED)
		ok = vmm_error_set(error, VMM_ERROR_MODE, "reset: the machine %s",
				   run_state == VMM_ENDED ? "has ended" : "has not run yet");
	else if (!machine->boot)
		ok = vmm_error_set(error, VMM_ERROR_MODE,
				   "reset: the machine was loaded without a kernel");
	else
		ok = reset_in_place(machine, error);
	g_mutex_unlock(&machine->control);
	return ok;
}

/* Looking. */

enum vmm_run_state vmm_machine_run_state(vmm_machine *machine)
{
	return (enum vmm_run_state)g_atomic_int_get(&machine->run_state);
}

const struct vmm_config *vmm_machine_config(const vmm_machine *machine)
{
	return &machine->config;
}

vmm_memory *vmm_machine_memory(vmm_machine *machine)
{
	return machine->memory;
}

vmm_loop *vmm_machine_loop(vmm_machine *machine)
{
	return machine->loop;
}

void vmm_machine_poll_rng(vmm_machine *machine)
{
	if (machine->rng)
		vmm_rng_poll(machine->rng);
}

void vmm_machine_poll_consoles(vmm_machine *machine)
{
	vmm_chardev_poll(machine->console_end);
	if (machine->hvc_end)
		vmm_chardev_poll(machine->hvc_end);
}

void vmm_machine_discard_console_input(vmm_machine *machine)
{
	vmm_chardev_discard_input(machine->console_end);
	if (machine->hvc_end)
		vmm_chardev_discard_input(machine->hvc_end);
}

const char *vmm_machine_console_name(vmm_machine *machine)
{
	return vmm_chardev_name(machine->console_end);
}

const char *vmm_machine_hvc_name(vmm_machine *machine)
{
	return machine->hvc_end ? vmm_chardev_name(machine->hvc_end) : NULL;
}

guint vmm_machine_nets(vmm_machine *machine)
{
	return machine->n_nets;
}

guint vmm_machine_disks(vmm_machine *machine)
{
	return machine->n_disks;
}

guint vmm_machine_cpuid(vmm_machine *machine, struct vmm_cpuid_row rows[VMM_CPUID_ROWS_MAX])
{
	return vmm_cpuid_rows(machine->cpuid, rows);
}

guint64 vmm_machine_disk_bytes(vmm_machine *machine, guint index)
{
	return machine->disk_bytes[index];
}

const struct vmm_disk *vmm_machine_disk(vmm_machine *machine, guint index)
{
	return vmm_block_disk(machine->disks[index]);
}

void vmm_machine_net_counters(vmm_machine *machine, guint index,
			      struct vmm_net_counters *counters)
{
	if (vmm_loop_lock_within(machine->loop, COUNTERS_MS)) {
		vmm_net_get_counters(machine->nets[index], &machine->net_seen[index]);
		vmm_loop_unlock(machine->loop);
	}
	*counters = machine->net_seen[index];
}

void vmm_machine_block_counters(vmm_machine *machine, guint index,
				struct vmm_block_counters *counters)
{
	if (vmm_loop_lock_within(machine->loop, COUNTERS_MS)) {
		vmm_block_get_counters(machine->disks[index], &machine->disk_seen[index]);
		vmm_loop_unlock(machine->loop);
	}
	*counters = machine->disk_seen[index];
}

gboolean vmm_machine_sync_disks(vmm_machine *machine, GError **error)
{
	for (guint i = 0; i < machine->n_disks; i++)
		if (!vmm_block_sync(machine->disks[i], error))
			return FALSE;
	return TRUE;
}

const char *vmm_machine_dirty_method(const vmm_machine *machine)
{
	return vmm_dirty_name(machine->dirty);
}

gboolean vmm_machine_tsc_settable(const vmm_machine *machine)
{
	return machine->tsc_settable;
}
