"""A hospital."""

from asclepias import private_client

from progression import task

app = private_client(task.Progression, task.load_data, task.surprise)
