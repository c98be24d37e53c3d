"""Contains the commands, grouped by purpose. Each parses, calls and prints; slow imports happen on use."""
