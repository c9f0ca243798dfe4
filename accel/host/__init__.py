"""What the host has: streams, events, graphs and memory."""
