"""The content of a bundle's runs/: the record, the reference logits, the answers."""
