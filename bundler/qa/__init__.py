"""Questions, windows and answers: pure computation, independent of phones and models."""
