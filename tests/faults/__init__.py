"""What goes wrong on real machines, done to real processes: `python -m tests.faults` does it and counts what is lost.

Each fault is a function in a module of its own subject, registered with `fault`; `bench` holds what they share: a
place to work in, processes forked from one that has torch loaded, and what an unbroken run gives. pytest runs the
short form through the same command.
"""
