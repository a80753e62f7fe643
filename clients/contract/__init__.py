"""What both ends of a training agree on: settings, terms, schedule, messages, fault codes."""
