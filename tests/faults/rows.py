# SPDX-License-Identifier: GPL-2.0-or-later
"""What the files of rows share: the rooms of tests/pairs, and a main.

A row is a function that takes a World, does one fault of the matrix to its pair, and says with
`check` what is true of it then. A file of rows lists them in TESTS and ends with
`if __name__ == "__main__": main(TESTS)`; then it runs alone, all of it or the rows that are named
on its command line. matrix.py says which row of the matrix each of them belongs to.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))),
                                "pairs"))
import hosts  # noqa: E402, F401
import visitors  # noqa: E402, F401
from hosts import bed  # noqa: E402, F401
from world import (AT_ONCE, BY_SILENCE, LAN_CUT, QUIET_S, REPL_CUT, Skipped,  # noqa: E402, F401
                   World, main, run)

check, note = bed.check, bed.note
# For stalls that are to be no fault.
PATIENT = {"heartbeat": {"interval": "100ms", "timeout": "5s"}}
