"""The files from which a client reads: fault queues and event queues."""
