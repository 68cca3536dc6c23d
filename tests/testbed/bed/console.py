# SPDX-License-Identifier: GPL-2.0-or-later
"""console: this terminal on a host's serial console, until ^] leaves it.

Input from elsewhere than a terminal ends it as well, once the host has been silent for
QUIET_S: `echo dmesg | testbed console h1` shows what the host says to that.
"""
import os
import select
import socket
import sys
import termios
import tty

from bed.common import Failure

LEAVE = b"\x1d"  # ^]
QUIET_S = 1


def connect(host):
    if not host.running():
        raise Failure(f"{host.name} is not running")
    sock = socket.socket(socket.AF_UNIX)
    try:
        with host.short_path() as short:
            sock.connect(short + "/console.sock")
    except OSError as error:
        raise Failure(f"{host.name}: console: {error.strerror}")
    return sock


def attach(host):
    sock = connect(host)
    terminal = os.isatty(0)
    before = termios.tcgetattr(0) if terminal else None
    if terminal:
        print(f"console of {host.name}; ^] leaves", file=sys.stderr)
        tty.setraw(0)
    try:
        relay(sock)
    finally:
        if terminal:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
            print(file=sys.stderr)


def relay(sock):
    inputs = [0, sock]
    while True:
        ready, _, _ = select.select(inputs, [], [], None if 0 in inputs else QUIET_S)
        if not ready:
            return
        if 0 in ready:
            typed = os.read(0, 4096)
            sock.sendall(typed.partition(LEAVE)[0])
            if LEAVE in typed:
                return
            if not typed:
                inputs.remove(0)
        if sock in ready:
            shown = sock.recv(65536)
            if not shown:
                raise Failure("the host has ended")
            os.write(1, shown)
