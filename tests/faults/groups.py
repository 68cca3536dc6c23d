# SPDX-License-Identifier: GPL-2.0-or-later
"""A control group of a test's own, whichever kind of them this machine has: one hierarchy for
each controller (version 1), or one for all (version 2), or version 2 beside version 1.

`group("memory")` gives a group for a `with`, at whose end those who are in it are put back to
where this program is. It says in words of its own what the kernel calls differently:
`bound_memory`, `freeze`, `slow_down`, `bound_tasks`; and how often the kernel acted on
it: `met()`. Raises Unavailable where there is no such controller, or it is not ours."""
import contextlib
import os
import time

ROOT = "/sys/fs/cgroup"
PERIOD_US = 100000
GONE_S = 20


class Unavailable(Exception):
    pass


def read(path):
    with open(path) as file:
        return file.read()


def write(path, value):
    with open(path, "w") as file:
        file.write(str(value))


def counts(text):
    """Lines of a name and a number each."""
    return {name: int(value) for name, value in map(str.split, text.splitlines())}


def homes():
    """Where this process is: path by controller; that of version 2 by ""."""
    found = {}
    for line in read("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        found.update((name, path) for name in names.split(","))
    return found


class Group:
    """What both kinds have in common."""

    count = 0

    def __init__(self, kind, parent, home):
        Group.count += 1
        self.kind, self.home = kind, home
        self.path = f"{parent}/colo-rows-{os.getpid()}-{Group.count}"
        try:
            os.mkdir(self.path)
        except OSError as error:
            raise Unavailable(f"no control group for {kind}: {error}") from None
        if not os.path.exists(f"{self.path}/{self.proof()}"):
            os.rmdir(self.path)
            raise Unavailable(f"control groups here have no {self.proof()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.kind == "freezer":
            self.freeze(False)
        deadline = time.monotonic() + GONE_S
        while True:
            with contextlib.suppress(OSError):
                for pid in self.pids():
                    self.put(pid, self.home)
                os.rmdir(self.path)
            if not os.path.exists(self.path):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.path} cannot be removed")
            time.sleep(0.02)

    def put(self, pid, path=None):
        with contextlib.suppress(ProcessLookupError):
            write(f"{path or self.path}/cgroup.procs", pid)

    def pids(self):
        return [int(pid) for pid in self.get("cgroup.procs").split()]

    def set(self, name, value):
        write(f"{self.path}/{name}", value)

    def get(self, name):
        return read(f"{self.path}/{name}")

    # Both versions call these alike.

    def bound_tasks(self, limit):
        """None: as many as they like."""
        self.set("pids.max", "max" if limit is None else limit)

    def counted(self, name, key):
        return counts(self.get(name))[key]


class Group1(Group):
    """With a hierarchy of its own."""

    def __init__(self, kind):
        parent = f"{ROOT}/{kind}"
        super().__init__(kind, parent, parent + homes().get(kind, "/"))

    @staticmethod
    def is_here(kind):
        return os.path.exists(f"{ROOT}/{kind}/cgroup.procs")

    def proof(self):
        return {"memory": "memory.limit_in_bytes", "freezer": "freezer.state",
                "cpu": "cpu.cfs_quota_us", "pids": "pids.max"}[self.kind]

    def bound_memory(self, size):
        self.set("memory.limit_in_bytes", -1 if size is None else size)

    def memory_bound(self):
        return int(self.get("memory.limit_in_bytes"))

    def freeze(self, yes):
        self.set("freezer.state", "FROZEN" if yes else "THAWED")

    def is_frozen(self):
        return self.get("freezer.state").strip() == "FROZEN"

    def slow_down(self, share):
        """All that is in it together gets this share of one processor."""
        with contextlib.suppress(OSError):  # for threads of real time, where they count
            self.set("cpu.rt_runtime_us", PERIOD_US)
        self.set("cpu.cfs_period_us", PERIOD_US)
        self.set("cpu.cfs_quota_us", int(share * PERIOD_US))

    def met(self):
        """How often the kernel said no, or held them up."""
        return {"memory": lambda: int(self.get("memory.failcnt")),
                "cpu": lambda: self.counted("cpu.stat", "nr_throttled"),
                "pids": lambda: self.counted("pids.events", "max")}[self.kind]()


class Group2(Group):
    """In the hierarchy for all."""

    def __init__(self, kind):
        root = self.root()
        # A freezer is in each group; all else must have been given by the one above.
        if kind != "freezer" and kind not in read(f"{root}/cgroup.subtree_control").split():
            try:
                write(f"{root}/cgroup.subtree_control", f"+{kind}")
            except OSError as error:
                raise Unavailable(f"no control group for {kind}: {error}") from None
        super().__init__(kind, root, root + homes().get("", "/"))

    @staticmethod
    def root():
        return ROOT if os.path.exists(f"{ROOT}/cgroup.controllers") else f"{ROOT}/unified"

    @classmethod
    def is_here(cls, kind):
        path = f"{cls.root()}/cgroup.controllers"
        return os.path.exists(path) and (kind == "freezer" or kind in read(path).split())

    def proof(self):
        return {"memory": "memory.max", "freezer": "cgroup.freeze", "cpu": "cpu.max",
                "pids": "pids.max"}[self.kind]

    def bound_memory(self, size):
        self.set("memory.max", "max" if size is None else size)

    def memory_bound(self):
        return int(self.get("memory.max"))

    def freeze(self, yes):
        self.set("cgroup.freeze", int(yes))

    def is_frozen(self):
        return bool(self.counted("cgroup.events", "frozen"))

    def slow_down(self, share):
        self.set("cpu.max", f"{int(share * PERIOD_US)} {PERIOD_US}")

    def met(self):
        return {"memory": lambda: self.counted("memory.events", "max"),
                "cpu": lambda: self.counted("cpu.stat", "nr_throttled"),
                "pids": lambda: self.counted("pids.events", "max")}[self.kind]()


def group(kind):
    """Version 1 where the controller is there: then version 2 has not got it."""
    for version in (Group1, Group2):
        if version.is_here(kind):
            return version(kind)
    raise Unavailable(f"there is no control group for {kind}")
