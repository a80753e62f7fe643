"""A ClientApp that sends back what it was sent."""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer with the content of the message."""
    return Message(message.content, reply_to=message)
