# SPDX-License-Identifier: GPL-2.0-or-later
"""What hosts boot from: an initramfs, the base image and the programs image.

The initramfs and the base image (userland, QEMU, kernels and initrds for guests) lie in
build/testbed-cache under a name that is a hash of their inputs. The programs image holds
what this project built; it is small, and made anew by every `testbed up`.
"""
import fcntl
import glob
import hashlib
import os
import shutil
import subprocess
import tempfile

from bed import kernels
from bed.common import CACHE, SOURCE, Failure, call, programs_dir

PROGRAMS = ["colo", "colod", "colo-vm", "colo-netcompare", "colo-heartbeat"]

TOOLS = [
    "/bin/busybox", "/bin/kmod", "/sbin/modprobe",
    "/sbin/ip", "/sbin/bridge", "/sbin/tc", "/sbin/ethtool", "/bin/ping", "/bin/ss",
    "/usr/sbin/nft", "/usr/sbin/iptables", "/usr/sbin/ip6tables",
    "/sbin/mke2fs", "/sbin/mkfs.ext4", "/sbin/e2fsck", "/sbin/resize2fs",
    "/sbin/debugfs", "/usr/bin/tcpdump", "/usr/bin/iperf3", "/usr/bin/socat",
    "/usr/bin/curl", "/usr/bin/strace", "/usr/bin/python3", "/bin/bash",
    # busybox as /bin/sh would prefer its own applets (its `ip`) to the real programs
    "/bin/sh",
    # where busybox has no such program or a lesser one
    "/bin/ps", "/usr/bin/pgrep", "/usr/bin/pkill", "/bin/date", "/bin/dd", "/bin/grep",
    "/bin/sed", "/usr/bin/stat", "/usr/bin/timeout", "/sbin/losetup", "/usr/bin/chrt",
    "/sbin/dmsetup",
    "/usr/bin/qemu-system-x86_64",
]
OPTIONAL_TOOLS = [
    "/usr/sbin/ebtables", "/usr/bin/gdb", "/usr/bin/qemu-img",
]
# loaded by name while running, so that ldd does not see them
PLUGINS = [
    "/usr/lib/x86_64-linux-gnu/xtables", "/usr/lib/x86_64-linux-gnu/tc",
    "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1", "/etc/mke2fs.conf",
    "/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so",
]
FIRMWARE = [
    "/usr/share/seabios/bios-256k.bin", "/usr/share/seabios/bios-microvm.bin",
    "/usr/share/seabios/bios.bin", "/usr/share/qemu/kvmvapic.bin",
    "/usr/share/qemu/linuxboot.bin", "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/bios-microvm.bin", "/usr/share/qemu/qboot.rom",
    "/usr/share/qemu/pvh.bin", "/usr/share/qemu/multiboot_dma.bin",
    "/usr/share/seabios/vgabios-stdvga.bin", "/usr/lib/ipxe/qemu/efi-virtio.rom",
    "/usr/lib/ipxe/qemu/pxe-virtio.rom", "/usr/share/qemu/efi-virtio.rom",
]
PYTHON_SKIP = ["__pycache__", "config-*", "test", "idlelib", "lib2to3", "pydoc_data",
               "tkinter", "turtledemo", "ensurepip", "distutils", "dist-packages"]

HOST_EARLY_MODULES = ["virtio_pci", "virtio_blk", "overlay", "ext4"]
GUEST_MODULES = [
    "virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_console",
    "virtio-rng", "virtio_balloon", "pvpanic-mmio", "pvpanic-pci", "button", "evdev",
    "ptp_kvm", "af_packet", "crc32c_generic", "ext4",
]


class Tree:
    """A directory that becomes a file system, filled with files of this machine."""

    def __init__(self, root):
        self.root = root
        for name in ("bin", "sbin", "lib", "lib64"):
            os.makedirs(os.path.join(root, "usr", name))
            os.symlink("usr/" + name, os.path.join(root, name))

    def path(self, name):
        return os.path.join(self.root, name.lstrip("/"))

    def mkdir(self, *names):
        for name in names:
            os.makedirs(self.path(name), exist_ok=True)

    def write(self, name, text):
        self.mkdir(os.path.dirname(name))
        with open(self.path(name), "w") as out:
            out.write(text)

    def copy(self, source, name=None):
        """Copies a file, or where `source` is a link to one, the link as well."""
        name = name or source
        self.mkdir(os.path.dirname(name))
        if os.path.lexists(self.path(name)):
            return
        real = os.path.realpath(source)
        if name == source and self.usr(real) != self.usr(source):
            os.symlink(real, self.path(name))
            self.copy(real)
        elif os.path.isdir(real):
            shutil.copytree(real, self.path(name), symlinks=True)
        else:
            shutil.copy2(real, self.path(name))

    @staticmethod
    def usr(path):
        """The path with Debian's links /bin, /sbin and /lib* resolved."""
        top = path.split("/")[1]
        return "/usr" + path if top in ("bin", "sbin", "lib", "lib64") else path

    def program(self, source, name=None):
        self.copy(source, name)
        for library in libraries(source):
            self.copy(library)

    def busybox(self):
        """A link for each applet of which no real program is there."""
        for applet in call("/bin/busybox", "--list-full").split():
            name = applet if applet.startswith("usr/") else "usr/" + applet
            if not any(os.path.lexists(self.path(f"usr/{place}/{os.path.basename(name)}"))
                       for place in ("bin", "sbin")):
                self.mkdir(os.path.dirname(name))
                os.symlink("/bin/busybox", self.path(name))


def libraries(program):
    """The shared libraries a program needs, its loader included."""
    done = subprocess.run(["ldd", program], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
    found = []
    for line in done.stdout.splitlines():
        if "not found" in line:
            raise Failure(f"{program}: {line.strip()}")
        found += [word for word in line.split() if word.startswith("/")]
    return found


def make_ext4(image, tree, spare_mib=16):
    """An image that holds `tree` and is only read; replaces `image` when complete."""
    used = int(call("du", "-sk", "--apparent-size", tree).split()[0])
    inodes = sum(len(dirs) + len(files) for _, dirs, files in os.walk(tree)) + 256
    blocks = used * 5 // 4 // 4 + inodes // 8 + spare_mib * 256
    call("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-b", "4096", "-m", "0",
         "-N", str(inodes), "-E", "root_owner=0:0", "-d", tree, image + ".new",
         str(blocks))
    os.rename(image + ".new", image)


def make_cpio(image, tree):
    # not compressed: unpacking costs an emulated processor more than reading
    call("sh", "-ec", 'cd "$1"; find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 > "$2"',
         "sh", tree, image)


def compile_static(program, *sources):
    call(os.environ.get("CC", "cc"), "-O2", "-g0", "-Wall", "-static", "-pthread",
         "-o", program, *sources)


def copy_modules(kernel, names, into):
    """Copies modules, decompressed, and says in `order` how to load them."""
    import lzma
    os.makedirs(into)
    with open(os.path.join(into, "order"), "w") as order:
        for path in kernels.module_order(kernel, names):
            name = os.path.basename(path).removesuffix(".xz")
            opener = lzma.open if path.endswith(".xz") else open
            with opener(path, "rb") as packed, open(os.path.join(into, name), "wb") as plain:
                shutil.copyfileobj(packed, plain)
            order.write(name + "\n")


def guest_initrd(kernel, guestd, image, scratch):
    tree = Tree(os.path.join(scratch, "guest-" + kernel.flavour))
    tree.copy("/bin/busybox")
    tree.busybox()
    tree.mkdir("dev", "proc", "sys", "mnt", "tmp", "root", "etc", "run")
    tree.copy(guestd, "/usr/sbin/guestd")
    tree.copy(os.path.join(SOURCE, "guest/init"), "/init")
    copy_modules(kernel, GUEST_MODULES, tree.path("modules"))
    make_cpio(image, tree.root)


def add_guests(tree, scratch):
    """/guest: kernels, initrds, a root file system for disks and the disk maker."""
    tree.mkdir("guest")
    guestd = os.path.join(scratch, "guestd")
    compile_static(guestd, *(os.path.join(SOURCE, name)
                             for name in ("guestd.c", "guestd_faults.c")))
    for kernel in kernels.fetch_all():
        tree.copy(kernel.vmlinuz, "/guest/vmlinuz-" + kernel.flavour)
        guest_initrd(kernel, guestd,
                     tree.path(f"guest/initrd-{kernel.flavour}.img"), scratch)
    tree.copy(kernels.stock_initrd("cloud"), "/guest/initrd-cloud-stock.img")
    tree.copy(os.path.join(SOURCE, "guest/make-disk"), "/guest/make-disk")
    root = Tree(tree.path("guest/rootfs"))
    root.copy("/bin/busybox")
    root.busybox()
    root.mkdir("dev", "proc", "sys", "mnt", "tmp", "root", "run", "var")
    root.copy(guestd, "/usr/sbin/guestd")
    root.copy(os.path.join(SOURCE, "guest/rootfs-rc"), "/etc/rc")
    root.copy(os.path.join(SOURCE, "guest/rootfs-inittab"), "/etc/inittab")


def add_python(tree):
    library = os.path.dirname(os.path.dirname(
        call("/usr/bin/python3", "-c", "import json; print(json.__file__)").strip()))
    shutil.copytree(library, tree.path(library), symlinks=True, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns(*PYTHON_SKIP))
    for plugin in glob.glob(os.path.join(library, "lib-dynload/*.so")):
        for needed in libraries(plugin):
            tree.copy(needed)
    # without compiled modules an emulated python3 takes seconds to start
    call("/usr/bin/python3", "-m", "compileall", "-q", "-s", tree.root, "-p", "/",
         "--invalidation-mode", "unchecked-hash", tree.path(library))


def add_userland(tree):
    for tool in TOOLS + OPTIONAL_TOOLS:
        if os.path.exists(tool):
            tree.program(tool)
        elif tool not in OPTIONAL_TOOLS:
            raise Failure(f"{tool}: not installed (see tests/testbed/packages.txt)")
    for extra in PLUGINS + FIRMWARE:
        if os.path.exists(extra):
            tree.copy(extra)
    for plugin in glob.glob("/usr/lib/x86_64-linux-gnu/xtables/*.so"):
        for needed in libraries(plugin):
            tree.copy(needed)
    add_python(tree)
    tree.busybox()


def add_settings(tree):
    tree.mkdir("dev", "proc", "sys", "run", "tmp", "root", "share", "var/lib/colo",
               "var/log", "etc/netns", "usr/local/bin", "usr/local/sbin", "mnt")
    os.symlink("/run", tree.path("var/run"))
    tree.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
               "tcpdump:x:100:100::/:/bin/false\ncolo:x:101:101::/var/lib/colo:/bin/false\n"
               "nobody:x:65534:65534:nobody:/:/bin/false\n")
    tree.write("/etc/group", "root:x:0:\nkvm:x:104:colo\ntcpdump:x:100:\ncolo:x:101:\n"
               "nogroup:x:65534:\n")
    tree.write("/etc/profile", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\n"
               "export PATH\n")
    tree.write("/etc/nsswitch.conf", "hosts: files\n")
    tree.copy(os.path.join(SOURCE, "host/rc"), "/etc/rc")
    tree.copy(os.path.join(SOURCE, "host/inittab"), "/etc/inittab")


def build_base(image, scratch):
    host_kernel = kernels.fetch("cloud")
    tree = Tree(os.path.join(scratch, "base"))
    add_userland(tree)
    add_settings(tree)
    shutil.copytree(host_kernel.modules, tree.path("lib/modules/" + host_kernel.version))
    agent = os.path.join(scratch, "agent")
    compile_static(agent, os.path.join(SOURCE, "host/agent.c"))
    tree.copy(agent, "/usr/sbin/agent")
    add_guests(tree, scratch)
    make_ext4(image, tree.root)


def build_initramfs(image, scratch):
    tree = os.path.join(scratch, "initramfs")
    for name in ("bin", "dev", "proc", "sys", "base", "programs", "rw", "root"):
        os.makedirs(os.path.join(tree, name))
    shutil.copy2("/bin/busybox", os.path.join(tree, "bin/busybox"))
    shutil.copy2(os.path.join(SOURCE, "host/init"), os.path.join(tree, "init"))
    copy_modules(kernels.fetch("cloud"), HOST_EARLY_MODULES, os.path.join(tree, "modules"))
    make_cpio(image, tree)


def inputs_hash():
    """Changes with our own sources, the kernels, and any package of the machine."""
    digest = hashlib.sha256()
    for pattern in ("bed/images.py", "bed/kernels.py", "host/*", "guest/*", "guestd*.[ch]"):
        for path in sorted(glob.glob(os.path.join(SOURCE, pattern))):
            with open(path, "rb") as source:
                digest.update(path.encode() + b"\0" + source.read())
    outside = ["/var/lib/dpkg/status"] + [k.vmlinuz for k in kernels.fetch_all()]
    for path in outside:
        found = os.stat(path)
        digest.update(f"{path} {found.st_size} {found.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def cached_images():
    """(initramfs, base image), built if need be. Safe with several testbeds at once."""
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        key = inputs_hash()
        initramfs = os.path.join(CACHE, f"initramfs-{key}.img")
        base = os.path.join(CACHE, f"base-{key}.img")
        if not os.path.exists(base) or not os.path.exists(initramfs):
            # a testbed that is up holds links of its own to what it boots from
            for old in glob.glob(os.path.join(CACHE, "*.img*")):
                os.unlink(old)
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                build_initramfs(initramfs, scratch)
                build_base(base, scratch)
    return initramfs, base


def build_programs(image):
    """The programs there are so far, in /usr/local/bin; none is no error."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(image)) as scratch:
        tree = Tree(os.path.join(scratch, "programs"))
        for name in PROGRAMS:
            program = os.path.join(programs_dir(), name)
            if os.path.isfile(program) and os.access(program, os.X_OK):
                tree.program(program, "/usr/local/bin/" + name)
        make_ext4(image, tree.root, spare_mib=1)
