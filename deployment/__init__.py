"""Real machines: certificates, node keys, launchers."""
