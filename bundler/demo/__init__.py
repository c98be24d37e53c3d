"""The demo model, its tokenizer and its questions (made by tools/train_demo_model.py)."""
