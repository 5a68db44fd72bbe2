"""The virtual book printer: a process of its own that speaks ESC/POS and keeps numbered books."""
