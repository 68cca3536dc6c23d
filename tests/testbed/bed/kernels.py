# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian kernels, downloaded as packages and unpacked below build/kernels.

Nothing is installed: a package is only unpacked, and the stock initrd is made in a
private mount namespace in which the unpacked modules lie at /lib/modules.
"""
import collections
import os
import tempfile

from bed.common import KERNELS, Failure, call

FLAVOURS = {
    "cloud": "linux-image-cloud-amd64",
    "amd64": "linux-image-amd64",
    "6.12": "linux-image-6.12-cloud-amd64",
}
OPTIONAL = ("6.12",)  # only in the backports and security suites

Kernel = collections.namedtuple("Kernel", "flavour version dir vmlinuz modules")


def cached(flavour):
    """The unpacked kernel, or None."""
    at = os.path.join(KERNELS, flavour)
    try:
        version = os.listdir(os.path.join(at, "lib/modules"))[0]
    except (FileNotFoundError, IndexError):
        return None
    at = os.path.realpath(at)
    return Kernel(flavour, version, at, os.path.join(at, "boot/vmlinuz-" + version),
                  os.path.join(at, "lib/modules", version))


def package_of(flavour):
    """The package that Debian's meta-package names now."""
    for line in call("apt-cache", "depends", FLAVOURS[flavour]).splitlines():
        word = line.split()
        if len(word) == 2 and word[0] == "Depends:" and word[1].startswith("linux-image"):
            return word[1]
    raise Failure(f"{FLAVOURS[flavour]}: not known to apt; try `apt-get update`")


def fetch(flavour, update=False):
    """The kernel, downloaded unless it is there already."""
    if not update and cached(flavour):
        return cached(flavour)
    os.makedirs(KERNELS, exist_ok=True)
    package = package_of(flavour)
    into = os.path.join(KERNELS, package)
    if not os.path.isdir(into):
        unpack(package, into)
    link = os.path.join(KERNELS, flavour)
    if os.path.islink(link):
        os.unlink(link)
    os.symlink(package, link)
    return cached(flavour)


def unpack(package, into):
    with tempfile.TemporaryDirectory(dir=KERNELS) as scratch:
        call("apt-get", "-o", "APT::Sandbox::User=root", "download", package, cwd=scratch)
        deb = os.path.join(scratch, os.listdir(scratch)[0])
        tree = os.path.join(scratch, "tree")
        call("dpkg", "-x", deb, tree)
        call("depmod", "-b", tree, os.listdir(os.path.join(tree, "lib/modules"))[0])
        os.rename(tree, into)


def fetch_all():
    """Every flavour at hand; one that is optional may be missing."""
    found = []
    for flavour in FLAVOURS:
        try:
            found.append(fetch(flavour))
        except Failure:
            if flavour not in OPTIONAL:
                raise
    return found


def module_order(kernel, names):
    """The files of these modules and of all they need, in the order to load them.

    A name that is built in or that this kernel does not have is left out.
    """
    needs = {}
    with open(os.path.join(kernel.modules, "modules.dep")) as listing:
        for line in listing:
            module, _, rest = line.partition(":")
            needs[module] = rest.split()
    by_name = {os.path.basename(path).split(".")[0].replace("-", "_"): path
               for path in needs}
    order = []
    for name in names:
        path = by_name.get(name.replace("-", "_"))
        if path is None:
            continue
        # modules.dep lists the nearest need first
        for one in list(reversed(needs[path])) + [path]:
            if one not in order:
                order.append(one)
    return [os.path.join(kernel.modules, path) for path in order]


def stock_initrd(flavour):
    """The initrd that Debian's own tool makes for this kernel, made once."""
    kernel = fetch(flavour)
    image = os.path.join(kernel.dir, "initrd-stock.img")
    if os.path.exists(image):
        return image
    missing = not os.path.isdir("/lib/modules")
    if missing:
        os.mkdir("/lib/modules")  # a place to mount on, removed again below
    try:
        call("unshare", "--mount", "--propagation", "private", "sh", "-ec",
             'mount --bind "$1/lib/modules" /lib/modules\n'
             'mount --bind "$1/boot" /boot\n'
             'mkinitramfs -o "$2" "$3"',
             "sh", kernel.dir, image + ".new", kernel.version)
    finally:
        if missing:
            os.rmdir("/lib/modules")
    os.rename(image + ".new", image)
    return image
