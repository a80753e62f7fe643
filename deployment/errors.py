"""What a person can get wrong when deploying; the message says what to do."""


class DeploymentError(Exception):
    """A command cannot do what it was asked; nothing was half done."""


class DeploymentFailed(DeploymentError):
    """What a command had begun has failed, or whom it needs is not there."""
