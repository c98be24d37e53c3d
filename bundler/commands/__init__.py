"""The commands, by what a person does with them. Each parses, calls and prints; what is heavy is imported where it
is used."""
