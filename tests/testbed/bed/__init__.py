# SPDX-License-Identifier: GPL-2.0-or-later
"""The testbed: hosts that can die, each one a QEMU machine."""
