"""What can be the head of a row, and all in which the kinds differ: a classical head, a network, the untouched network.

A kind is a frozen value that says what it adds to a row's identity, how it learns, and what it has to say beside its
predictions (`kind.Kind`). All else is the same for every row, and stands in `row`, `fitting` and `making`.
"""
