"""A site: trains on its own digits."""

from flwr.clientapp import ClientApp

from quickstart import task

app = ClientApp()
app.train()(task.train)
