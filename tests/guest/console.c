/* SPDX-License-Identifier: GPL-2.0-or-later */
/* console.c - virtio-console port 0: lines in, lines out. */
#include "console.h"

#include "clock.h"
#include "memory.h"
#include "text.h"
#include "virtio.h"

#define RECEIVE_BUFFERS 8
#define SEND_BUFFERS 32
#define RECEIVE_SIZE 512
#define SEND_WAIT_NS 2000000000ul

static struct virtio *device;
static struct virtq *receive, *transmit;
static u8 *send_buffers[SEND_BUFFERS];
static u32 send_free;
static char line[LINE_MAX];
static u32 length;
static u8 *pending; /* a received buffer not yet eaten */
static u32 pending_length, pending_at;
static u64 lost;

static void give_back(u8 *buffer)
{
	struct segment s = { buffer, RECEIVE_SIZE };

	virtq_add(receive, &s, 0, 1, buffer);
	virtq_kick(receive);
}

void console_init(void)
{
	u8 *memory;

	device = virtio_find(VIRTIO_CONSOLE, 0);
	if (!device)
		return;
	receive = memory_take(sizeof(*receive));
	transmit = memory_take(sizeof(*transmit));
	memory = memory_take(RECEIVE_BUFFERS * RECEIVE_SIZE + SEND_BUFFERS * LINE_MAX);
	if (!virtio_begin(device, 0) || !virtq_setup(device, 0, receive, 64, false) ||
	    !virtq_setup(device, 1, transmit, SEND_BUFFERS, true)) {
		device = NULL;
		return;
	}
	virtio_ready(device);
	for (u32 i = 0; i < RECEIVE_BUFFERS; i++)
		give_back(memory + i * RECEIVE_SIZE);
	for (u32 i = 0; i < SEND_BUFFERS; i++)
		send_buffers[send_free++] =
			memory + RECEIVE_BUFFERS * RECEIVE_SIZE + i * LINE_MAX;
}

bool console_present(void)
{
	return device;
}

u64 console_lost(void)
{
	return lost;
}

char *console_line(void)
{
	while (device) {
		if (!pending) {
			if (!virtq_interrupted(receive))
				return NULL;
			pending = virtq_pop(receive, &pending_length);
			if (!pending)
				return NULL;
			if (pending_length > RECEIVE_SIZE)
				pending_length = RECEIVE_SIZE;
			pending_at = 0;
		}
		while (pending_at < pending_length) {
			char c = pending[pending_at++];

			if (c != '\r' && c != '\n') {
				if (length < sizeof(line) - 1)
					line[length++] = c;
			} else if (length) {
				line[length] = 0;
				length = 0;
				return line;
			}
		}
		give_back(pending);
		pending = NULL;
	}
	return NULL;
}

void console_say(const char *text)
{
	u64 end = 0;
	struct segment s;
	u8 *used;
	u32 n = text_length(text);

	if (!device)
		return;
	for (;;) {
		while ((used = virtq_pop(transmit, NULL)))
			send_buffers[send_free++] = used;
		if (send_free)
			break;
		if (!end)
			end = clock_ns() + SEND_WAIT_NS;
		if (clock_ns() > end) {
			lost++;
			return;
		}
	}
	used = send_buffers[--send_free];
	if (n > LINE_MAX - 1)
		n = LINE_MAX - 1;
	memcpy(used, text, n);
	used[n++] = '\n';
	s = (struct segment){ used, n };
	virtq_add(transmit, &s, 1, 0, used);
	virtq_kick(transmit);
}
