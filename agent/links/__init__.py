"""What brings messages in and takes receipts out."""
