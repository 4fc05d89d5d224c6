"""All of torchvision's classifiers in one table: for each what loads, is cut, trains and is written for others.

`python -m tests.classifiers` makes it, a process for each network; its short form, a few networks, is a test.
"""
