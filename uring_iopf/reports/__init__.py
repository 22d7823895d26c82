"""What is printed and written of results: numbers, tables, JSON documents, progress."""
