#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix of faults (tests/faults/matrix.py): every row is there once, what is said to show
it exists, every function of a file of rows belongs to a row, and docs/faults.md has its table."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))),
                                "faults"))
import matrix  # noqa: E402

sys.exit(matrix.main([]))
