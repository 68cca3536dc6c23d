# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mutant is: a deliberate fault, and who is to find it out."""
import typing


class Hunter(typing.NamedTuple):
    """One test function: of a unit or micro program, or of a script that plays a whole pair."""
    kind: str  # "unit", "micro", "script"
    program: str  # name of the program's source without .c; path of the script under tests/
    test: str

    def __str__(self):
        return f"{self.program}: {self.test.replace('_', ' ')}"


class Mutant(typing.NamedTuple):
    name: str  # what is wrong with the product, in a user's words
    file: str
    old: str  # there exactly once; any white space stands for any other
    new: str
    hunters: tuple  # one after the other, until one finds it
    # A liveness fault shows by a test that does not end; else that counts as nothing.
    hangs: bool = False


def unit(program, test):
    return Hunter("unit", "test_" + program, test)


def micro(program, test):
    return Hunter("micro", "test_micro_" + program, test)


def nets(script, test):
    return Hunter("script", f"nets/test_{script}.py", test)


def pairs(script, test):
    return Hunter("script", f"pairs/test_{script}.py", test)
