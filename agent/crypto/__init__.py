"""Keys, signed messages, encrypted documents and the receipt chain."""
