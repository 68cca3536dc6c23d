# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages that are used without being installed: downloaded and unpacked."""
import os
import tempfile

from bed.common import call


def unpack(package, into, then=None):
    """The package's files become the directory `into`, all of it or nothing; `then` is
    called with the directory before it gets that name."""
    above = os.path.dirname(into)
    os.makedirs(above, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=above) as scratch:
        call("apt-get", "-o", "APT::Sandbox::User=root", "download", package, cwd=scratch)
        deb = os.path.join(scratch, os.listdir(scratch)[0])
        tree = os.path.join(scratch, "tree")
        call("dpkg", "-x", deb, tree)
        if then:
            then(tree)
        os.rename(tree, into)
