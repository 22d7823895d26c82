"""The output of results: numbers, tables, JSON documents, progress."""
