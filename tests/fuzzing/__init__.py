"""Kinds of broken and hostile inputs, for tests/fuzz.py.

A kind of case is one function `(rng, media, folder) -> call`: it makes a file in folder (from the good ones in media)
and returns what to do with it, a function of no arguments; mark it with @kind.
"""

KINDS = {}


def kind(function):
    KINDS[function.__name__] = function
    return function
