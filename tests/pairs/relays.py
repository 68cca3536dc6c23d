# SPDX-License-Identifier: GPL-2.0-or-later
"""A cable of the switch that can be bad: a relay between a host's port and the bridge.

Nothing of it is there before it is wanted, since every frame then goes through a process
(tests/faults/relay.c). A port that goes and comes back with its host's power keeps it.
"""
import contextlib
import os
import subprocess

import bed

PROGRAM = os.path.join(bed.BUILD, "tests", "faults", "relay")


class Relay:
    """Between one port and its bridge, until it is removed. `space` is the switch's."""

    def __init__(self, space, link, port, seed=1):
        self.space, self.link, self.port, self.seed = space, link, port, seed
        self.inner, self.outer = f"{port}.b", f"{port}.r"  # the bridge's end, and the relay's
        self.rules = {}  # by way and address
        self.process = None
        space.ip(f"link add {self.inner} type veth peer name {self.outer}",
                 f"link set {self.inner} master {link}", f"link set {self.inner} up",
                 f"link set {self.outer} up")
        self.plug()

    def plug(self):
        """Takes the port, which may be a new one by that name, or not be there now."""
        self.end()
        if self.port not in self.space.devices():
            return
        self.space.ip(f"link set {self.port} nomaster")
        self.process = subprocess.Popen(
            self.space.words(PROGRAM, self.port, self.outer, str(self.seed)), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True)
        for (way, mac), what in self.rules.items():
            self.tell(way, mac, what)

    def order(self, way, mac, what):
        """How frames with an address fare one way ("in", "out"): the keys of relay.c."""
        self.rules[way, mac] = what
        if self.process:
            self.tell(way, mac, what)

    def tell(self, way, mac, what):
        words = " ".join(f"{key}={value:g}" for key, value in what.items())
        try:
            self.process.stdin.write(f"{way} {mac} {words}".strip() + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline().strip()
        except OSError as error:
            answer = (f"{error}; it has ended with status {self.process.wait()}: "
                      f"{self.process.stderr.read().strip()}")
        if answer != "ok":
            raise RuntimeError(f"relay at {self.port}: \"{way} {mac} {words}\": "
                               f"{answer or 'it has ended'}")

    def end(self):
        if self.process:
            with contextlib.suppress(OSError):  # it has ended, with orders on their way to it
                self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
            self.process.stderr.close()
        self.process = None

    def remove(self):
        """The port is in its bridge again, where it is there."""
        self.end()
        self.space.ip(f"link del {self.outer}")
        if self.port in self.space.devices():
            self.space.ip(f"link set {self.port} master {self.link}")
