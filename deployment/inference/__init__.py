"""Private inference between real machines: provider, dealer, and a patient's own agent."""
