"""What carries messages between the two apps on one machine."""
