"""What a person can get wrong when deploying; the message says what to do."""


class DeploymentError(Exception):
    """A command cannot go on; nothing was half done."""
