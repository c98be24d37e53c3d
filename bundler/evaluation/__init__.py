"""The parts of an evaluation: the runs to compare, the quality of their answers, and limits."""
