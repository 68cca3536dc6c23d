#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The fault harness' sites on whole hosts, as far as they go without such hosts: the file of a
site reached by ssh, words on their way to a host, there.py, how links are shaped, who is heard."""
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[:0] = [os.path.join(TESTS, "faults"), os.path.join(TESTS, "system")]
import site_base  # noqa: E402
import site_hosts  # noqa: E402
import site_ssh  # noqa: E402
from bed import check, eventually, skip, verdict  # noqa: E402

# What ssh does with its words: joined, and given to a shell.
FILE = """
[pair]
name = web
guest = 192.0.2.50
key = /etc/colo/web.key

[host alpha]
at = root@alpha
lan = eth0
lan-address = 192.0.2.1
repl = eth1
repl-address = 10.9.0.1
power-off = true
power-on = true
may = links; clock

[host beta]
at = root@beta
lan = eth0
lan-address = 192.0.2.2
repl = eth1
repl-address = 10.9.0.2
may = links; full-log; clock

[clients]
address = 192.0.2.9

[arbiter]
stop = true
cont = true
restart = true

[transport]
command = sh -c
"""


def make(directory, text):
    path = os.path.join(directory, "site.conf")
    with open(path, "w") as file:
        file.write(text)
    return path


def refused(directory, text):
    """What is said of a wrong file; "" where it is taken."""
    try:
        site_ssh.SshSite(make(directory, text)).close()
        return ""
    except site_base.Failed as error:
        return str(error)


def a_file_says_what_a_site_can(directory):
    site = site_ssh.SshSite(make(directory, FILE))
    check("a site by ssh can what its file allows both hosts, and no more",
          site.can == {"signal", "cut", "shape", "clock", "arbiter"}, site.can)
    check("its nodes are the file's hosts", [node.name for node in site.nodes]
          == ["alpha", "beta"])
    site.close()
    for what, wrong, said in (
            ("an unknown key", FILE.replace("[pair]", "[pair]\ncolour = red"), "colour"),
            ("an unknown section", FILE + "\n[weather]\n", "[weather]"),
            ("a missing address", FILE.replace("lan-address = 192.0.2.2\n", ""), "lan-address"),
            ("power that goes off only", FILE.replace("power-on = true\n", ""), "power-on"),
            ("a fault that there is not", FILE.replace("full-log; ", "fire; "), "fire"),
            ("one host", FILE.replace("[host beta]", "[arbitrary]"), "[arbitrary]"),
            ("no pair", "[clients]\naddress = 1.2.3.4\n", "[pair]")):
        check(f"a file with {what} is refused, and told what is wrong",
              said in refused(directory, wrong), refused(directory, wrong))


def words_arrive_as_they_are(directory):
    site = site_ssh.SshSite(make(directory, FILE))
    place = site.nodes[0].place
    words = ["a b", "'", '"$HOME"', "", "*", "back\\slash"]
    said = place.run("printf", "<%s>", *words).output
    check("words go through a transport with a shell unchanged",
          said == "".join(f"<{word}>" for word in words), said)
    for way in (("repl", "alpha", "client"), ("lan", "alpha", "alpha"), ("wan", "alpha", "beta"),
                ("lan", "gamma", "alpha")):
        try:
            site.check_way(*way)
            check(f"there is no way {way}", False)
        except site_base.Failed:
            check(f"there is no way {way}", True)
    site.close()


def programs_of_another_pair_are_left_alone(directory):
    running = {}
    for pair in ("web-x7", "db-x7"):
        os.mkdir(os.path.join(directory, pair))
        program = os.path.join(directory, pair, "colo-vm")
        shutil.copy(shutil.which("sleep"), program)
        running[pair] = subprocess.Popen([program, "600"])
    there = site_hosts.There(site_hosts.bed.Here(directory))

    def state(pair):
        with open(f"/proc/{running[pair].pid}/stat") as file:
            return file.read().split()[2]

    try:
        eventually(lambda: all(state(pair) == "S" for pair in running))
        check("there.py finds a pair's program and sends it a signal",
              there.ask("send", pair="web-x7", program="colo-vm", number=int(signal.SIGSTOP))
              is True and eventually(lambda: state("web-x7") == "T"), state("web-x7"))
        check("... and not the other pair's", state("db-x7") == "S", state("db-x7"))
        check("... finds nothing where there is nothing", there.ask(
            "send", pair="web-x7", program="colod", number=int(signal.SIGKILL)) is False)
        used = there.ask("usage", pair="web-x7", programs=["colo-vm", "colod"])
        check("... says what it uses", list(used) == ["colo-vm"]
              and used["colo-vm"]["rss_kib"] > 0 and used["colo-vm"]["threads"] == 1
              and used["colo-vm"]["fds"] >= 3, used)
        try:
            there.ask("fill", directory=os.path.join(directory, "nowhere"))
            check("what cannot be done is told", False)
        except site_base.Failed as error:
            check("what cannot be done is told", "nowhere" in str(error), error)
        there.process.kill()
        there.process.wait()
        check("it is begun anew after its end", there.ask("here") is True)
    finally:
        there.end()
        for process in running.values():
            process.kill()
            process.wait()


def shapes_are_what_netem_takes(_):
    shape = dict(site_base.SHAPE, delay_ms=20, jitter_ms=5, loss=0.05, corrupt=0.001)
    check("a shape is written as netem's words", site_hosts.netem(shape).endswith(
        "delay 20ms 5ms loss 5.0000% corrupt 0.1000%"), site_hosts.netem(shape))
    check("what is out of order is delayed, or nothing could overtake it",
          "delay 10ms 0ms" in site_hosts.netem(dict(site_base.SHAPE, reorder=0.25)))
    check("a rate comes with a short queue", site_hosts.netem(dict(
        site_base.SHAPE, rate_kbit=1000)) == "netem limit 200 rate 1000kbit")


def who_sends_with_the_guests_address_is_heard(_):
    if os.geteuid():
        skip("the listener", "it needs root")
        return
    name, mac = f"faults-sites-{os.getpid()}", "52:54:00:12:34:56"

    def inside(function, *args):
        handle = os.open("/run/netns/" + name, os.O_RDONLY)
        libc, made = ctypes.CDLL(None, use_errno=True), []
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        libc.setns(handle, 0)
        try:
            made.append(function(*args))
        finally:
            libc.setns(here, 0)
            os.close(here)
            os.close(handle)
        return made[0]

    def ip(*words):
        subprocess.run(["ip", *words], check=True)

    def port(device):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.bind((device, 0))
        return sock

    ip("netns", "add", name)
    try:
        for number in (1, 2):
            ip("-n", name, "link", "add", f"far{number}", "type", "veth", "peer", "name",
               f"near{number}")
            for end in ("far", "near"):
                ip("-n", name, "link", "set", f"{end}{number}", "up")
        listener = inside(site_hosts.Listener, lambda function, *args: function(*args),
                          {"near1": "h1", "near2": "h2"}, mac)
        ports = [inside(port, f"far{number}") for number in (1, 2)]
        guest = bytes.fromhex(mac.replace(":", ""))

        def frame(source):
            return b"\xff" * 6 + source + b"\x08\x06" + bytes(46)

        ports[1].send(frame(b"\x02" * 6))
        for number in (0, 0, 1, 1, 0):
            ports[number].send(frame(guest))
            time.sleep(0.01)
        eventually(lambda: len(listener.turns) >= 3, 10)
        check("each change of who sends with the guest's address is a turn, others are not",
              [who for _, who in listener.turns] == ["h1", "h2", "h1"], listener.turns)
        check("nothing was missed", listener.missed() == 0)
        listener.stop()
        for sock in ports:
            sock.close()
    finally:
        ip("netns", "del", name)


def main():
    for test in (a_file_says_what_a_site_can, words_arrive_as_they_are,
                 programs_of_another_pair_are_left_alone, shapes_are_what_netem_takes,
                 who_sends_with_the_guests_address_is_heard):
        with tempfile.TemporaryDirectory(prefix="colo-sites-") as directory:
            test(directory)
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
