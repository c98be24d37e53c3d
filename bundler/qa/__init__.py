"""Questions, windows and answers: pure computation, knows no phone and no model."""
