"""The parts of an evaluation: who takes part, how good answers are, what limits there are."""
