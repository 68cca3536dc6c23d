#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A stock Debian guest whose outputs wait for its secondary to say the same.

It serves HTTP, echoes over TCP and UDP, and clients outside both hosts use all three: while
it runs alone, while outputs are compared, and in buffered mode, where each waits for a
checkpoint. How packets got out (the comparator's own counts) and how many requests were
answered each second is printed for each. SECONDS sets how long each takes (10; LONG: 60).
"""
import os
import queue
import socket
import threading
import time

import bed
import working
from bed import Machine, Talk, check, note
from working import GUEST, MACHINE, STANDBY

OUTPUTS = "/run/outputs.sock"
NETCOMPARE = "/run/netcompare.sock"
SECONDS = int(os.environ.get("SECONDS_EACH") or (60 if bed.LONG else 10))


class Asker(threading.Thread):
    """Asks one thing after the other until it is told to stop, and counts right answers."""

    def __init__(self, ask):
        super().__init__(daemon=True)
        self.ask, self.good, self.wrong, self.slowest = ask, 0, [], 0.0
        self.stopping = False
        self.start()

    def run(self):
        bed.enter_network()
        while not self.stopping:
            began = time.monotonic()
            try:
                fault = self.ask(self.good)
            except OSError as error:
                fault = str(error)
            self.slowest = max(self.slowest, time.monotonic() - began)
            if fault:
                self.wrong.append(fault)
            else:
                self.good += 1

    def stop(self):
        self.stopping = True
        self.join(bed.PATIENCE_S)


def get_page(_):
    """None, or what is wrong with the answer."""
    with socket.create_connection((GUEST, 80), 30) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        data = b""
        while piece := sock.recv(65536):
            data += piece
    return None if data.endswith(b"colo-guest</body></html>\n") else repr(data)


def say_datagram(number):
    """An answer that does not come is asked for again: that is how UDP is used."""
    text = f"datagram {number}".encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(3)
        for _ in range(10):
            sock.sendto(text, (GUEST, 7))
            try:
                answer = sock.recv(4096)
            except TimeoutError:
                continue
            return None if answer == text else repr(answer)
    return "no answer to a datagram"


def outcomes(comparator):
    return comparator.must("status")["packets"] if comparator else None


def used_for_a_while(name, comparator):
    """What the clients got, each second, and how it came out of the guest."""
    before = outcomes(comparator)
    talk = Talk(GUEST, 7, pause_s=0)
    askers = {"HTTP": Asker(get_page), "UDP": Asker(say_datagram)}
    time.sleep(SECONDS)
    for asker in askers.values():
        asker.stop()
    right = talk.stop()
    note(f"{name}: TCP echo {talk.good / SECONDS:.1f}/s, slowest {talk.waited_s * 1e3:.0f} ms; "
         + "; ".join(f"{kind} {a.good / SECONDS:.1f}/s, slowest {a.slowest * 1e3:.0f} ms"
                     for kind, a in askers.items()))
    check(f"{name}: every answer over TCP, HTTP and UDP is right",
          right and talk.good and all(a.good and not a.wrong for a in askers.values()),
          (talk.error, talk.good, [(a.good, a.wrong[:3]) for a in askers.values()]))
    after = outcomes(comparator)
    if not after:
        return {}
    moved = {kind: after[kind] - before[kind] for kind in ("matched", "committed", "passed",
                                                           "opened", "dropped")}
    total = sum(moved.values()) or 1
    note(f"{name}: " + ", ".join(f"{kind} {count} ({100 * count / total:.1f} %)"
                                 for kind, count in moved.items()))
    return moved


def state_of(vm):
    return vm.control.must("status")["replication"]["state"]


def released_by_comparison(h1, h2):
    working.prepare_pair(h1, h2)
    standby = Machine(h2, "--standby", STANDBY, "--key", "/tmp/key", *MACHINE).watch()
    vm = working.start(h1, "--key", "/tmp/key", "--outputs", OUTPUTS,
                       services="echo,http,udp,clock", work=False).watch()
    used_for_a_while("alone, no comparator", None)
    h1.must("modprobe -a nfnetlink_queue nft_queue")
    program = h1.popen("colo-netcompare", "--vm", OUTPUTS, "--queue", "5", "--tap", "guest0",
                       "--control", NETCOMPARE, "--mode", "colo",
                       # two emulated hosts: their guests are seconds apart at times
                       "--late-max", "5000",
                       stdin=bed.subprocess.DEVNULL, stdout=bed.subprocess.PIPE,
                       stderr=bed.subprocess.STDOUT)
    words = bed.Stream(program.stdout)
    comparator = bed.Control(h1, NETCOMPARE)
    try:
        ready = bed.eventually(lambda: (comparator.send("status").get("result") or {})
                               .get("connected"))
        if not check("a comparator puts its rule in place and finds the guest", ready,
                     words.text):
            return
        used_for_a_while("alone, every packet through the comparator", comparator)
        vm.control.must("protect", to=STANDBY, mode="colo", age_ms=2000, silence_ms=20000)
        check("the guest becomes protected",
              bed.eventually(lambda: state_of(vm) == "protected", 180),
              (vm.control.must("status"), vm.last_words(), standby.last_words()))
        compared = used_for_a_while("compared", comparator)
        check("mostly, packets are released by comparison and not by a checkpoint",
              compared["matched"] > compared["committed"],
              (compared, comparator.must("status"), words.text[-2000:]))
        vm.control.must("mode", mode="buffered", period_ms=100)
        buffered = used_for_a_while("buffered, a checkpoint each 100 ms", comparator)
        check("in buffered mode, packets are released by checkpoints",
              buffered["committed"] > 0 and buffered["matched"] == 0,
              (buffered, words.text[-2000:]))
        note(f"comparator: {comparator.must('status')}")
        while_it_is_dead(vm, program)
    finally:
        comparator.close()
        bed.end_process(program)


def while_it_is_dead(vm, program):
    """Nothing of the guest's gets out then."""
    bed.end_process(program)
    answers = queue.Queue()

    def ask():
        bed.enter_network()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            for number in range(5):
                sock.sendto(b"is anybody there", (GUEST, 7))
                try:
                    answers.put(sock.recv(4096))
                except TimeoutError:
                    pass

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    check("while the comparator is dead, nothing that the guest sends gets out",
          answers.empty() and state_of(vm) == "protected", vm.last_words())


TESTS = [released_by_comparison]

if __name__ == "__main__":
    bed.run(TESTS, hosts=2, memory=1024)
