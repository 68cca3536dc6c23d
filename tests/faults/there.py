#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""there: on a host of a pair, does what the harness asks for, a line of JSON each way.

A line {"id", "do": name, "with": {...}} is answered by {"id", "is": ...} or {"id", "failed": why}.
It ends with its standard input. Where a host is slow or far away this is what makes a fault
happen soon after it is due: no process is started for it. It goes first on the host and is the
last that memory is taken from, since it is not what is to be harmed. Python's own modules only.
"""
import glob
import json
import mmap
import os
import re
import signal
import socket
import sys
import time

PASSING = ("iou-wrk-", "pool-")  # threads that come and go by themselves
ANSWER_S = 8
FILLED = ".filled"
GROUP = "/sys/fs/cgroup/faults"


def read(path):
    """"" where there is nothing, or it has ended."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def pids(pair, program):
    """Of the pair's own processes only, whatever else runs here."""
    ours = re.compile(rf"/{pair}(/|\.conf)|--pair {pair} ")
    return [int(pid) for pid in filter(str.isdigit, os.listdir("/proc"))
            if read(f"/proc/{pid}/comm").strip() == program
            and ours.search(read(f"/proc/{pid}/cmdline").replace("\0", " "))]


def ask(pair, command, **arguments):
    """What the pair's colod answers; None without an answer."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(ANSWER_S)
        try:
            sock.connect(f"/run/colo/{pair}/control.sock")
            sock.sendall(json.dumps({"id": 1, "command": command,
                                     "arguments": arguments}).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                piece = sock.recv(65536)
                if not piece:
                    return None
                data += piece
            return json.loads(data).get("result")
        except (OSError, ValueError):
            return None


def send(pair, program, number):
    found = pids(pair, program)
    for pid in found:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it has just ended
    return bool(found)


def usage(pair, programs):
    found = {}
    for program in programs:
        for pid in pids(pair, program):
            try:
                threads = [read(f"/proc/{pid}/task/{thread}/comm")
                           for thread in os.listdir(f"/proc/{pid}/task")]
                found[program] = {
                    "rss_kib": int(re.search(r"VmRSS:\s*(\d+)",
                                             read(f"/proc/{pid}/status")).group(1)),
                    "threads": sum(not name.startswith(PASSING) for name in threads),
                    "fds": len(os.listdir(f"/proc/{pid}/fd"))}
            except (OSError, AttributeError):
                pass  # it has ended
    return found


def logs(pair):
    text = ""
    for pattern in (f"/run/colo/{pair}/*.log*", f"/var/log/colo/{pair}/*.log*",
                    f"/var/lib/colo/{pair}/events.jsonl"):
        for path in sorted(glob.glob(pattern)):
            text += f"--- {path}\n{read(path)}"
    return text


def processes():
    """Everything that a neighbour on the host could read of what runs here, but for us."""
    return "".join(read(f"/proc/{pid}/cmdline") + "\n" + read(f"/proc/{pid}/environ") + "\n"
                   for pid in filter(str.isdigit, os.listdir("/proc"))
                   if int(pid) != os.getpid())


def fill(directory):
    size = 1 << 30
    with open(os.path.join(directory, FILLED), "ab", 0) as file:
        while size:
            try:
                if size >= 1 << 10:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                else:
                    file.seek(0, os.SEEK_END)
                    file.write(bytes(size))
            except OSError:
                size //= 2
    return True


def free(directory):
    try:
        os.unlink(os.path.join(directory, FILLED))
        return True
    except FileNotFoundError:
        return False


def step(by_s):
    time.clock_settime(time.CLOCK_REALTIME, time.time() + by_s)
    return True


def beside(work, *args):
    """In a process that is no better than others here, and ends by itself."""
    if os.fork():
        return
    try:
        null = os.open("/dev/null", os.O_RDWR)
        for handle in range(3):
            os.dup2(null, handle)
        os.setsid()
        os.setpriority(os.PRIO_PROCESS, 0, 0)
        work(*args)
    finally:
        os._exit(0)


def hog_processor(until, first):
    if first:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    while time.monotonic() < until:
        for _ in range(100000):
            pass


def hog_memory(until, spared_kib):
    write("/proc/self/oom_score_adj", "1000")
    taken = []
    while time.monotonic() < until:
        while int(re.search(r"MemAvailable:\s*(\d+)", read("/proc/meminfo")).group(1)) \
                > spared_kib:
            taken.append(mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
                                   | mmap.MAP_POPULATE))
        time.sleep(0.05)


def starve(kind, lasts_s, hogs=4, spared_kib=24 << 10):
    until = time.monotonic() + lasts_s
    if kind == "memory":
        beside(hog_memory, until, spared_kib)
    else:
        for _ in range(os.cpu_count() * (1 if kind == "cpu-rt" else hogs)):
            beside(hog_processor, until, kind == "cpu-rt")
    return True


def group_freeze(pair, program):
    """By a control group, not by a signal; whether there was something, and it stands still."""
    found = pids(pair, program)
    os.makedirs(GROUP, exist_ok=True)
    for pid in found:
        write(GROUP + "/cgroup.procs", str(pid))
    write(GROUP + "/cgroup.freeze", "1")
    deadline = time.monotonic() + ANSWER_S
    while "frozen 1" not in read(GROUP + "/cgroup.events"):
        if time.monotonic() > deadline:
            raise OSError(f"{program} does not stand still in its control group")
        time.sleep(0.01)
    return bool(found)


def group_thaw():
    if not os.path.exists(GROUP):
        return False
    write(GROUP + "/cgroup.freeze", "0")
    for pid in read(GROUP + "/cgroup.procs").split():
        write("/sys/fs/cgroup/cgroup.procs", pid)
    return True


def out_of_memory(pair, program):
    """The kernel's OOM killer is called, and finds this program the worst."""
    found = pids(pair, program)
    for pid in found:
        write(f"/proc/{pid}/oom_score_adj", "1000")
    if found:
        write("/proc/sysrq-trigger", "f")
        deadline = time.monotonic() + 20
        while any(re.search(r"^State:\s*[^XZ\s]", read(f"/proc/{pid}/status"), re.M)
                  for pid in found):
            if time.monotonic() > deadline:
                raise OSError(f"the kernel killed something else than {program}")
            time.sleep(0.05)
    return bool(found)


ACTS = {act.__name__: act for act in (ask, send, usage, logs, processes, fill, free, step, starve,
                                      group_freeze, group_thaw, out_of_memory)}
ACTS["here"] = lambda: True


def main():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        write("/proc/self/oom_score_adj", "-1000")
    except OSError:
        pass  # as good as it gets
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"is": ACTS[asked["do"]](**asked["with"])}
        except Exception as error:  # the other end is told
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps({"id": asked["id"], **answer}), flush=True)


if __name__ == "__main__":
    main()
