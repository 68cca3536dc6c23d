#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every planted fault (tests/faults/mutants.py, tests/unit/test_mutants.py) can be planted: the
text that it takes the place of is in its source, once. What the tests make of them is another,
longer matter: make faults-mutants."""
import os
import sys
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(TOP, "tests", "faults")]
import mutants  # noqa: E402
import test_mutants  # noqa: E402


class Planted(unittest.TestCase):
    def test_each_has_its_place(self):
        for mutant in mutants.ALL:
            with self.subTest(mutant.name):
                self.assertNotEqual(mutants.changed_text(mutant), "")

    def test_each_of_the_simulation_has_its_place(self):
        for name, part, old, new in test_mutants.NODE_FAULTS + test_mutants.DISK_FAULTS:
            with self.subTest(name), open(os.path.join(TOP, part + ".c")) as source:
                self.assertEqual(source.read().count(old), 1)
                self.assertNotEqual(old, new)

    def test_none_is_there_twice(self):
        names = [mutant.name for mutant in mutants.ALL]
        self.assertEqual(len(names), len(set(names)))


if __name__ == "__main__":
    unittest.main()
