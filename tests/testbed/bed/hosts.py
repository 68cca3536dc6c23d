# SPDX-License-Identifier: GPL-2.0-or-later
"""A testbed and its hosts: starting, stopping, finding them again.

TESTBED_DIR holds `testbed.json` (what `up` was asked for; written first, removed last),
`netns` (the namespace's name), the images, and for each host a directory with
`disk.img`, `console.log`, `console.sock`, `qmp.sock`, `qemu.pid`, `qemu.log`, and
`share.pid` where a directory is shared.
"""
import contextlib
import hashlib
import json
import os
import shutil

from bed import process
from bed.common import Failure, testbed_dir

HOSTS_MAX = 16
DISK_BYTES = 2 << 30
VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")


class Host:
    def __init__(self, bed, number):
        self.bed = bed
        self.number = number
        self.name = f"h{number}"
        self.netns = bed.netns
        self.agent_address = f"10.90.3.{number}"

    def path(self, *names):
        return os.path.join(self.bed.dir, self.name, *names)

    def running(self):
        return process.find(self.path("qemu.pid")) is not None

    def signal(self, number):
        if not process.send(self.path("qemu.pid"), number):
            raise Failure(f"{self.name} is not running")

    def make_disk(self):
        from bed.common import call
        os.makedirs(self.path())
        with open(self.path("disk.img"), "wb") as disk:
            disk.truncate(DISK_BYTES)
        # writing the inode tables is left out: the kernel would do it in the background
        call("mke2fs", "-q", "-F", "-t", "ext4", "-E", "root_owner=0:0,lazy_itable_init=1",
             self.path("disk.img"))

    def start(self):
        if self.running():
            raise Failure(f"{self.name} is already running")
        self.end_share()
        for name in ("console.sock", "qmp.sock", "share.sock"):
            if os.path.lexists(self.path(name)):
                os.unlink(self.path(name))
        if self.bed.share:
            self.start_share()
        self.spawn(self.qemu_command(), "qemu")

    def spawn(self, command, name, pass_fds=()):
        import subprocess
        with open(self.path(name + ".log"), "ab") as log:
            try:
                # relative socket paths: an absolute one may be too long for a socket
                child = subprocess.Popen(command, cwd=self.path(), stdout=log, stderr=log,
                                         stdin=subprocess.DEVNULL, start_new_session=True,
                                         pass_fds=pass_fds)
            except FileNotFoundError:
                raise Failure(f"{command[0]}: not installed "
                              "(see tests/testbed/packages.txt)")
        process.record(self.path(name + ".pid"), child.pid)
        child.returncode = 0  # it outlives us; nobody is to wait for it

    def start_share(self):
        import socket
        daemon = next(filter(os.path.exists, VIRTIOFSD), None)
        if not daemon:
            raise Failure("virtiofsd: not installed (see tests/testbed/packages.txt)")
        # given the socket itself, the daemon leaves no lock file in /run
        with socket.socket(socket.AF_UNIX) as listener, self.short_path() as short:
            listener.bind(short + "/share.sock")
            listener.listen(1)
            # it cannot share read-only; in its mount namespace the directory is
            self.spawn(["unshare", "--mount", "--propagation", "private", "sh", "-ec",
                        'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; exec "$2" '
                        '--fd="$3" -o "source=$1,sandbox=chroot,cache=auto"',
                        "sh", self.bed.share, daemon, str(listener.fileno())],
                       "share", pass_fds=[listener.fileno()])

    @contextlib.contextmanager
    def short_path(self):
        """A name of the host's directory that fits in a socket's address."""
        handle = os.open(self.path(), os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{handle}"
        finally:
            os.close(handle)

    def end_share(self):
        process.end(self.path("share.pid"))

    def qemu_command(self):
        from bed import network
        bed = self.bed
        command = [
            "nsenter", "--net=/run/netns/" + self.netns, "qemu-system-x86_64",
            "-name", self.name, "-nodefaults", "-no-user-config", "-display", "none",
            # a host that resets itself stays off until `testbed boot`
            "-no-reboot",
            "-machine", "q35,memory-backend=memory", *accelerator(),
            "-smp", str(bed.cpus), "-m", f"{bed.memory}M",
            "-object", f"memory-backend-memfd,id=memory,size={bed.memory}M,share=on",
            "-kernel", bed.path("vmlinuz"), "-initrd", bed.path("initramfs.img"),
            # All processors read one TSC, but the emulated CPU cannot say so. Told, the
            # host keeps time by it, and its KVM gives guests one clock for all vCPUs.
            "-append", f"console=ttyS0 loglevel=4 panic=1 random.trust_cpu=on tsc=reliable "
            f"testbed.host={self.number} testbed.hosts={bed.count} "
            f"testbed.share={int(bool(bed.share))}",
            "-chardev", "socket,id=console,path=console.sock,server=on,wait=off,"
            "logfile=console.log,logappend=on",
            "-serial", "chardev:console", "-qmp", "unix:qmp.sock,server=on,wait=off",
            "-device", "virtio-rng-pci",
        ]
        # What the host's kernel has written is in this machine's page cache, which outlives
        # QEMU; so no flush has to reach the machine's disk ("unsafe" is safe here).
        for image, options in ((bed.path("base.img"), "readonly=on"),
                               (bed.path("programs.img"), "readonly=on"),
                               (self.path("disk.img"), "cache=unsafe")):
            command += ["-drive", f"file={image},format=raw,if=virtio,{options}"]
        for segment in network.SEGMENTS:
            command += ["-netdev", f"tap,id={segment},script=no,downscript=no,"
                        f"ifname={network.tap(self.name, segment)}",
                        "-device", f"virtio-net-pci,netdev={segment},romfile=,"
                        f"mac={network.mac(segment, self.number)}"]
        if bed.share:
            command += ["-chardev", "socket,id=share,path=share.sock",
                        "-device", "vhost-user-fs-pci,chardev=share,tag=share"]
        return command

    def wait_ready(self, patience_s):
        """Until the agent answers; on failure the console's end is on standard error."""
        if process.wait_until(lambda: not self.running() or self.answers(), patience_s):
            if self.running():
                return
            why = "QEMU ended while it booted"
        else:
            why = f"did not come up within {patience_s:.0f} s"
        import sys
        for log in ("qemu.log", "console.log"):
            for line in self.last_lines(log, 25):
                print(f"{self.name} {log}: {line}", file=sys.stderr)
        raise Failure(f"{self.name}: {why}")

    def answers(self):
        from bed import client
        try:
            client.connect(self, patience_s=1).close()
            return True
        except Failure:
            return False

    def last_lines(self, name, count):
        try:
            with open(self.path(name), errors="replace") as log:
                return log.read().splitlines()[-count:]
        except FileNotFoundError:
            return []

    def last_line(self, name):
        return (self.last_lines(name, 1) or ["(nothing logged)"])[0]


def accelerator():
    chosen = os.environ.get("TESTBED_ACCEL") or "tcg"
    if chosen == "tcg":
        return ["-accel", "tcg,thread=multi", "-cpu", "max,+svm,+npt"]
    if chosen == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    raise Failure(f"TESTBED_ACCEL={chosen}: must be tcg or kvm")


class Testbed:
    """What `up` was asked for, and where it is kept."""

    def __init__(self, directory, count, memory, cpus, share):
        self.dir = directory
        self.count = count
        self.memory = memory
        self.cpus = cpus
        self.share = share
        self.netns = "colo-" + hashlib.sha256(directory.encode()).hexdigest()[:8]
        self.hosts = [Host(self, number) for number in range(1, count + 1)]

    @classmethod
    def load(cls):
        directory = testbed_dir()
        try:
            with open(os.path.join(directory, "testbed.json")) as file:
                return cls(directory, **json.load(file))
        except FileNotFoundError:
            raise Failure(f"no testbed is up in {directory}")

    def save(self):
        os.makedirs(self.dir, exist_ok=True)
        foreign = [name for name in os.listdir(self.dir) if name != "testbed.json"]
        if foreign and not os.path.exists(self.path("testbed.json")):
            # `down` empties the directory
            raise Failure(f"{self.dir} holds other files; TESTBED_DIR must be empty or new")
        asked = {"count": self.count, "memory": self.memory, "cpus": self.cpus,
                 "share": self.share}
        try:
            with open(self.path("testbed.json"), "x") as file:
                json.dump(asked, file)
        except FileExistsError:
            raise Failure(f"a testbed is already up in {self.dir}; `testbed down` ends it")
        with open(self.path("netns"), "w") as file:
            file.write(self.netns + "\n")

    def path(self, name):
        return os.path.join(self.dir, name)

    def host(self, name):
        for host in self.hosts:
            if host.name == name:
                return host
        raise Failure(f"no host {name}; there are h1 to h{self.count}")

    def build(self):
        from bed import images, kernels
        initramfs, base = images.cached_images()
        keep(initramfs, self.path("initramfs.img"))
        keep(base, self.path("base.img"))
        keep(kernels.fetch("cloud").vmlinuz, self.path("vmlinuz"))
        images.build_programs(self.path("programs.img"))

    def up(self, patience_s):
        from bed import network
        self.save()
        try:
            self.build()
            network.create(self.netns, [host.name for host in self.hosts])
            for host in self.hosts:
                host.make_disk()
                host.start()
            for host in self.hosts:
                host.wait_ready(patience_s)
        except BaseException:
            self.down()
            raise

    def down(self):
        from bed import network
        stubborn = [host.name for host in self.hosts
                    if not process.end(host.path("qemu.pid"))]
        for host in self.hosts:
            host.end_share()
        if stubborn:
            raise Failure(", ".join(stubborn) + ": QEMU does not end")
        network.delete(self.netns)
        for entry in os.listdir(self.dir):
            path = self.path(entry)
            if entry == "testbed.json":
                continue
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        os.unlink(self.path("testbed.json"))
        os.rmdir(self.dir)


def keep(source, name):
    """The file under a name of our own, so that a new build does not take it away."""
    try:
        os.link(source, name)
    except OSError:  # another file system
        shutil.copyfile(source, name)
