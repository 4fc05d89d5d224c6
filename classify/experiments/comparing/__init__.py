"""The parts of a comparison: which models, how their rows are made, and the answer."""
