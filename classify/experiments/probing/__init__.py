"""The parts of a probe: the question, its rows, how they are computed side by side, scores, and the answer."""
