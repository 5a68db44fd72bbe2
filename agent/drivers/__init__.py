"""Printers: the language (escpos), the dialogue (book_printer), the lines (transport_*)."""
